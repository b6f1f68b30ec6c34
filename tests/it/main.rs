mod demo;
mod house;
mod heart;
mod locks;
mod store;
mod webhooks;
mod vectors_alipay;
mod vectors_wechatpay;
