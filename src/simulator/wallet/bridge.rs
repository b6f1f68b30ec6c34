//! What `WeixinJSBridge` and `AlipayJSBridge` reach: the payment sheet of the built-in browser. The
//! parameters are judged as the wallets judge them, `paySign` included.

use actix_web::HttpResponse;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::simulator::books::{Product, Refusal, Trade};
use crate::simulator::people::{Person, Wallet};
use crate::simulator::times;
use crate::simulator::world::World;

/// `getBrandWCPayRequest`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WechatRequest {
    app_id: String,
    time_stamp: String,
    nonce_str: String,
    package: String,
    sign_type: String,
    pay_sign: String,
}

/// Judges what the page asked for: the trade to pay, or what the phone says instead.
fn judge(world: &World, person: &Person, body: &Value) -> Result<(Wallet, String), String> {
    match person.wallet {
        Wallet::Wechat => judge_wechat(world, person, body),
        Wallet::Alipay => {
            let trade_no = body["tradeNO"].as_str().unwrap_or_default();
            world
                .books()
                .trade_by_trade_no(Wallet::Alipay, trade_no)
                .map(|trade| (Wallet::Alipay, trade.out_trade_no.clone()))
                .ok_or_else(|| "交易不存在 (tradeNO)".to_owned())
        }
    }
}

fn judge_wechat(world: &World, person: &Person, body: &Value) -> Result<(Wallet, String), String> {
    let request: WechatRequest = serde_json::from_value(body.clone())
        .map_err(|error| format!("调用支付JSAPI缺少参数: {error}"))?;
    let options = &world.options.wechat;
    if request.app_id != options.appid {
        return Err("商户号与appId不匹配".to_owned());
    }
    if request.sign_type != "RSA" {
        return Err("signType须为RSA".to_owned());
    }
    if request.time_stamp.parse::<u32>().is_err() {
        return Err("timeStamp须为秒级时间戳".to_owned());
    }
    let message = format!(
        "{}\n{}\n{}\n{}\n",
        request.app_id, request.time_stamp, request.nonce_str, request.package
    );
    if !world.wechat.merchant_signed(&message, &request.pay_sign) {
        return Err("支付验证签名失败".to_owned());
    }
    let prepay_id = request
        .package
        .strip_prefix("prepay_id=")
        .ok_or_else(|| "package须为prepay_id=…".to_owned())?;
    let books = world.books();
    let (wallet, number) = books
        .redeem(prepay_id, world.now())
        .map_err(|refusal| refusal.to_string())?;
    let trade = books
        .trade(wallet, &number)
        .filter(|trade| trade.product == Product::Jsapi)
        .ok_or_else(|| "该prepay_id不能用于JSAPI支付".to_owned())?;
    if trade.buyer.as_deref() != Some(&person.id) {
        return Err(Refusal::OtherPayer.to_string());
    }
    Ok((wallet, number))
}

fn describe(person: &Person, trade: &Trade) -> Value {
    json!({
        "amount": times::yuan(trade.total),
        "description": trade.description,
        "out_trade_no": trade.out_trade_no,
        "person": person.name(),
        "method": match person.wallet { Wallet::Wechat => "零钱", Wallet::Alipay => "账户余额" },
    })
}

/// Opens the sheet: from here on the payment has begun.
pub(in crate::simulator) async fn open(
    world: &World,
    person: &Person,
    body: &[u8],
) -> HttpResponse {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let opened = judge(world, person, &body).and_then(|(wallet, number)| {
        world
            .begin(wallet, &number, person)
            .map_err(|refusal| refusal.to_string())
    });
    world.persist().await;
    match opened {
        Ok(trade) => HttpResponse::Ok().json(describe(person, &trade)),
        Err(why) => HttpResponse::Conflict().json(json!({ "refused": why })),
    }
}

/// The password was right, the purse was empty, or the payer left.
pub(in crate::simulator) async fn finish(
    world: &World,
    person: &Person,
    body: &[u8],
) -> HttpResponse {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let number = body["out_trade_no"].as_str().unwrap_or_default();
    match body["action"].as_str() {
        Some("pay") => match world.pay(person.wallet, number, person, None).await {
            Ok(capture) => HttpResponse::Ok().json(json!({
                "paid": true, "transaction_id": capture.transaction_id,
            })),
            Err(refusal) => {
                HttpResponse::Conflict().json(json!({ "refused": refusal.to_string() }))
            }
        },
        Some("poor") => {
            HttpResponse::Conflict().json(json!({ "refused": "余额不足，请更换付款方式" }))
        }
        _ => HttpResponse::Ok().json(json!({ "paid": false })),
    }
}
