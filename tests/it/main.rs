
mod simulator;
mod demo;
mod house;
mod actors;
mod callbacks;
mod api;
mod heart;
mod house;
mod locks;
mod store;
mod webhooks;
mod vectors_alipay;
mod vectors_wechatpay;
