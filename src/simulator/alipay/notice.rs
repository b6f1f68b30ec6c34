//! Notices (alipay §1.4, §2.10): a signed form; `notify_id` stays over the repetitions.

use serde_json::{Value, json};

use super::sign::Parameters;
use super::trades::status;
use crate::simulator::books::{Notice, Refund, Trade};
use crate::simulator::faults::Fault;
use crate::simulator::notices::Letter;
use crate::simulator::people::{Person, Wallet};
use crate::simulator::times;
use crate::simulator::world::World;

/// What every notice of a trade says.
fn content(world: &World, trade: &Trade) -> Value {
    let options = &world.options.alipay;
    let mut body = json!({
        "notify_type": "trade_status_sync",
        "app_id": options.app_id,
        "auth_app_id": options.app_id,
        "charset": "utf-8",
        "version": "1.0",
        "sign_type": "RSA2",
        "trade_no": trade.trade_no,
        "out_trade_no": trade.out_trade_no,
        "seller_id": options.seller_id,
        "seller_email": "school@example.edu.cn",
        "trade_status": status(trade).unwrap_or("TRADE_CLOSED"),
        "total_amount": times::yuan(trade.total),
        "subject": trade.description,
        "gmt_create": times::plain(trade.created_at),
    });
    if let Some(person) = trade
        .buyer
        .as_deref()
        .and_then(|id| Person::new(Wallet::Alipay, id))
    {
        body["buyer_logon_id"] = json!(person.logon_id());
        if options.open_ids {
            body["buyer_open_id"] = json!(person.alipay_open_id(&options.app_id));
        } else {
            body["buyer_id"] = json!(person.buyer_id());
        }
    }
    if let Some(passback) = &trade.attach {
        body["passback_params"] = json!(passback);
    }
    if let Some(capture) = trade.captures.first() {
        let amount = times::yuan(trade.total);
        body["receipt_amount"] = json!(amount);
        body["invoice_amount"] = json!(amount);
        body["buyer_pay_amount"] = json!(amount);
        body["point_amount"] = json!("0.00");
        body["gmt_payment"] = json!(times::plain(capture.at));
        body["fund_bill_list"] = json!(format!(
            "[{{\"amount\":\"{amount}\",\"fundChannel\":\"ALIPAYACCOUNT\"}}]"
        ));
    }
    body
}

fn made(world: &World, event: &str, url: &str, mut content: Value) -> Notice {
    let id = format!(
        "{}{}",
        times::compact_date(world.now()),
        world.random.hex::<13>()
    );
    content["notify_id"] = json!(id);
    world.new_notice(id, event, url, content)
}

/// The news of a payment; without a `notify_url` there is none.
pub(in crate::simulator) fn paid(world: &World, trade: &Trade) -> Option<Notice> {
    let url = trade.notify_url.as_deref()?;
    Some(made(world, "TRADE_SUCCESS", url, content(world, trade)))
}

pub(super) fn closed(world: &World, trade: &Trade, url: &str) -> Notice {
    let mut content = content(world, trade);
    content["gmt_close"] = json!(times::plain(world.now()));
    made(world, "TRADE_CLOSED", url, content)
}

/// The news of a refund that is already in the trade: `TRADE_SUCCESS`, or `TRADE_CLOSED` once all is
/// back.
pub(in crate::simulator) fn refunded(
    world: &World,
    trade: &Trade,
    refund: &Refund,
    url: &str,
) -> Notice {
    let mut content = content(world, trade);
    content["out_biz_no"] = json!(refund.number);
    content["refund_fee"] = json!(times::yuan(trade.refunded()));
    content["send_back_fee"] = json!(times::yuan(refund.amount));
    content["gmt_refund"] = json!(format!("{}.000", times::plain(world.now())));
    let event = status(trade).unwrap_or("TRADE_CLOSED");
    made(world, event, url, content)
}

/// One try: new `notify_time` and `sign`, the same `notify_id`; spoiled as the fault says.
pub(in crate::simulator) fn letter(world: &World, notice: &Notice, fault: Option<Fault>) -> Letter {
    let mut parameters: Parameters = notice
        .content
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect();
    let mut set = |name: &str, value: &str| parameters.insert(name.to_owned(), value.to_owned());
    set("notify_time", &times::plain(world.now()));
    match fault {
        Some(Fault::WrongAmount) => {
            set("total_amount", "0.01");
            set("receipt_amount", "0.01");
        }
        Some(Fault::WrongAppid) => {
            set("app_id", "2021999999999999");
        }
        Some(Fault::WrongMchid) => {
            set("seller_id", "2088999999999999");
        }
        Some(Fault::WrongNumber) => {
            set("out_trade_no", "UNKNOWN00000000000000000000A");
        }
        Some(Fault::OldTimestamp) => {
            // No window exists at Alipay: an old, validly signed notice is a fact like any other.
            set(
                "notify_time",
                &times::plain(world.now().minus_ms(86_400_000)),
            );
        }
        _ => {}
    }
    let forged = matches!(
        fault,
        Some(Fault::Forged | Fault::WrongSignature | Fault::UnknownSerial)
    );
    let mut sign = world.alipay.sign_parameters(&parameters, forged);
    if fault == Some(Fault::SignatureProbe) {
        sign.replace_range(..8, "SIGNTEST");
    }
    if fault == Some(Fault::TamperedBody) {
        parameters.insert("total_amount".to_owned(), "0.01".to_owned());
    }
    if fault != Some(Fault::Unsigned) {
        parameters.insert("sign".to_owned(), sign);
    }
    let mut body = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(&parameters)
        .finish();
    if fault == Some(Fault::TruncatedBody) {
        body.truncate(body.len() / 2);
    }
    Letter {
        headers: vec![(
            "Content-Type",
            "application/x-www-form-urlencoded; charset=utf-8".to_owned(),
        )],
        body,
    }
}
