mod dashboards;

mod simulator;
mod demo;
mod house;
mod actors;
mod api;
mod callbacks;
mod demo;
mod heart;
mod house;
mod house;
mod locks;
mod store;
mod vectors_alipay;
mod vectors_wechatpay;
mod webhooks;
