//! One integration binary: a file per promise.

#![expect(clippy::disallowed_methods, reason = "processes live in real time")]

mod actors;
mod api;
mod bad_input;
mod bills;
mod callbacks;
mod calls_alipay;
mod calls_alipay_bills;
mod calls_wechatpay;
mod calls_wechatpay_bills;
mod cashier;
mod cluster;
mod console;
mod crash;
mod dashboards;
mod demo;
mod drain;
mod examples;
mod faults;
mod heart;
mod herd;
mod house;
mod identity;
mod invariants;
mod lifecycle;
mod locks;
mod loopback;
mod lost_callbacks;
mod model;
mod money;
mod openapi;
mod personal;
mod prometheus;
mod receipts;
mod reconcile;
mod refunds;
mod servers;
mod simulator;
mod store;
mod support;
mod trial;
mod vectors_alipay;
mod vectors_wechatpay;
mod webhooks;
