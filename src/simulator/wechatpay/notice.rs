//! Notices (wechatpay-v3 §2.6): JSON with an encrypted resource, signed afresh for every try.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::orders::transaction;
use super::sign::Signer;
use crate::simulator::books::{Notice, Refund, Trade};
use crate::simulator::faults::Fault;
use crate::simulator::notices::Letter;
use crate::simulator::options::Regime;
use crate::simulator::times;
use crate::simulator::world::World;

/// The news of a payment. Only payments and refunds are told, never scans, closes or expiries.
pub(in crate::simulator) fn paid(world: &World, trade: &Trade) -> Option<Notice> {
    let url = trade.notify_url.as_deref()?;
    let content = transaction(world, trade, false);
    Some(world.new_notice(id(world), "TRANSACTION.SUCCESS", url, content))
}

pub(super) fn refunded(world: &World, trade: &Trade, refund: &Refund, url: &str) -> Notice {
    let mut content = json!({
        "mchid": world.options.wechat.mchid,
        "transaction_id": trade.trade_no,
        "out_trade_no": trade.out_trade_no,
        "refund_id": refund.id,
        "out_refund_no": refund.number,
        "refund_status": refund.ends,
        "user_received_account": "支付用户零钱",
        "amount": {
            "total": trade.total, "refund": refund.amount,
            "payer_total": trade.total, "payer_refund": refund.amount,
        },
    });
    if refund.ends == "SUCCESS" {
        content["success_time"] = json!(times::rfc3339(refund.done_at));
    }
    world.new_notice(id(world), &format!("REFUND.{}", refund.ends), url, content)
}

fn id(world: &World) -> String {
    let hex = world.random.hex::<16>();
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

/// One try, spoiled as the fault says.
pub(in crate::simulator) fn letter(world: &World, notice: &Notice, fault: Option<Fault>) -> Letter {
    let mut content = notice.content.clone();
    match fault {
        Some(Fault::WrongAmount) => {
            let total = content["amount"]["total"].as_i64().unwrap_or_default();
            content["amount"]["total"] = json!(total + 1);
            content["amount"]["payer_total"] = json!(total + 1);
        }
        Some(Fault::WrongAppid) => content["appid"] = json!("wx0000000000000000"),
        Some(Fault::WrongMchid) => content["mchid"] = json!("1999999999"),
        Some(Fault::WrongCurrency) => content["amount"]["currency"] = json!("USD"),
        Some(Fault::WrongNumber) => content["out_trade_no"] = json!("UNKNOWN00000000000000000000A"),
        _ => {}
    }
    let (original_type, summary) = match notice.event.as_str() {
        "TRANSACTION.SUCCESS" => ("transaction", "支付成功"),
        "REFUND.SUCCESS" => ("refund", "退款成功"),
        "REFUND.ABNORMAL" => ("refund", "退款异常"),
        _ => ("refund", "退款关闭"),
    };
    let nonce = world.random.hex::<6>();
    let body = json!({
        "id": notice.id,
        "create_time": times::rfc3339(notice.made_at),
        "resource_type": "encrypt-resource",
        "event_type": notice.event,
        "summary": summary,
        "resource": resource(world, original_type, &nonce, &content),
    })
    .to_string();
    let by_public_key = match world.options.wechat.notices_signed_by {
        Regime::PublicKey => true,
        Regime::Certificate => false,
        Regime::Alternating => world.turn.fetch_add(1, Ordering::SeqCst).is_multiple_of(2),
    };
    let signer = if by_public_key {
        Signer::PublicKey
    } else {
        Signer::Certificate
    };
    let mut headers = world.wechat.headers(world, &signer, &body, fault);
    headers.push(("Content-Type", "application/json".to_owned()));
    headers.push(("User-Agent", "Mozilla/4.0".to_owned()));
    let body = match fault {
        Some(Fault::TamperedBody) => format!(" {body}"),
        Some(Fault::TruncatedBody) => body.chars().take(body.chars().count() / 2).collect(),
        _ => body,
    };
    Letter { headers, body }
}

fn resource(world: &World, original_type: &str, nonce: &str, content: &Value) -> Value {
    json!({
        "original_type": original_type,
        "algorithm": "AEAD_AES_256_GCM",
        "ciphertext": world.wechat.seal(nonce, original_type, &content.to_string()),
        "associated_data": original_type,
        "nonce": nonce,
    })
}
