//! One integration binary: a file per promise.

mod actors;
mod api;
mod bad_input;
mod callbacks;
mod calls_alipay;
mod calls_wechatpay;
mod cashier;
mod dashboards;
mod demo;
mod heart;
mod house;
mod locks;
mod loopback;
mod model;
mod openapi;
mod simulator;
mod store;
mod vectors_alipay;
mod vectors_wechatpay;
mod webhooks;
mod crash;
mod drain;
mod invariants;
mod lifecycle;
mod support;
