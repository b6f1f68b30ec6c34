//! Notices (wechatpay-v3 §2.6): JSON with an encrypted resource, signed afresh for every try.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::orders::transaction;
use super::refunds::received;
use super::sign::Signer;
use crate::simulator::books::{Notice, Refund, Trade, V2_REFUND};
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

/// The news of a refund's end; of an abnormal one's second way, that one's.
pub(super) fn refunded(world: &World, trade: &Trade, refund: &Refund, url: &str) -> Notice {
    let end = match &refund.second_way {
        Some(_) => "SUCCESS",
        None => &refund.ends,
    };
    let (_, account) = received(refund);
    let mut content = json!({
        "mchid": world.options.wechat.mchid,
        "transaction_id": trade.trade_no,
        "out_trade_no": trade.out_trade_no,
        "refund_id": refund.id,
        "out_refund_no": refund.number,
        "refund_status": end,
        "user_received_account": account,
        "amount": {
            "total": trade.total, "refund": refund.amount,
            "payer_total": trade.total, "payer_refund": refund.amount,
        },
    });
    if end == "SUCCESS" {
        content["success_time"] = json!(times::rfc3339(refund.arrives_at()));
    }
    world.new_notice(id(world), &format!("REFUND.{end}"), url, content)
}

/// The XML of the time before, which a refund from the console is told by. What it encrypts is sealed
/// with the APIv2 key: a merchant that never set one cannot tell it from chance, so chance it is.
pub(in crate::simulator) fn refunded_v2(world: &World, url: &str) -> Notice {
    use base64::Engine as _;

    let sealed = base64::engine::general_purpose::STANDARD.encode(world.random.bytes::<512>());
    let content = json!({
        "appid": world.options.wechat.appid, "mch_id": world.options.wechat.mchid,
        "req_info": sealed,
    });
    world.new_notice(id(world), V2_REFUND, url, content)
}

fn letter_v2(world: &World, notice: &Notice) -> Letter {
    let member = |name: &str| notice.content[name].as_str().unwrap_or_default();
    let body = format!(
        "<xml><return_code>SUCCESS</return_code><appid><![CDATA[{}]]></appid><mch_id><![CDATA[{}]]></mch_id><nonce_str><![CDATA[{}]]></nonce_str><req_info><![CDATA[{}]]></req_info></xml>",
        member("appid"),
        member("mch_id"),
        world.nonce(),
        member("req_info"),
    );
    Letter {
        headers: vec![
            ("Content-Type", "text/xml".to_owned()),
            ("User-Agent", "Mozilla/4.0".to_owned()),
        ],
        body,
    }
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
    if notice.event == V2_REFUND {
        return letter_v2(world, notice);
    }
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
