//! One integration binary: a file per promise.

mod actors;
mod api;
mod callbacks;
mod cashier;
mod dashboards;
mod demo;
mod heart;
mod house;
mod locks;
mod simulator;
mod bad_input;
mod openapi;
mod store;
mod calls_alipay;
mod calls_wechatpay;
mod loopback;
mod vectors_alipay;
mod vectors_wechatpay;
mod webhooks;
mod model;
