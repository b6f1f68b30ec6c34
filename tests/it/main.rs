mod vectors_alipay;
mod vectors_wechatpay;
