mod calls_alipay;
mod calls_wechatpay;
mod loopback;
mod vectors_alipay;
mod vectors_wechatpay;
