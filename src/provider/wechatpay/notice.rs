//! WeChat's notices (protocol §2.6): verified as raw bytes, then read leniently, then opened.

use std::collections::BTreeMap;

use aws_lc_rs::aead::LessSafeKey;
use serde::Deserialize;

use super::keys::KeyTable;
use super::sign::{Resource, Signed};
use super::wire::TradeReport;
use crate::order::Timestamp;
use crate::provider::{Notice, NoticeError};

#[derive(Deserialize)]
struct Envelope {
    id: String,
    event_type: String,
    resource: Resource,
}

/// Where every payment notice leads: 204, and no body.
pub const ACKNOWLEDGEMENT: (u16, &str, &str) = (204, "application/json", "");
pub const REFUSAL: (&str, &str) = ("application/json", r#"{"code":"FAIL","message":"refused"}"#);

pub fn read(
    keys: &KeyTable,
    api_v3_key: &LessSafeKey,
    mchid: &str,
    headers: &BTreeMap<String, String>,
    body: &[u8],
    now: Timestamp,
) -> Result<Notice, NoticeError> {
    Signed::of_map(headers)?.verify(keys, body, now)?;
    let envelope: Envelope = serde_json::from_slice(body).map_err(|_| unreadable("no event"))?;
    let is_payment = envelope.event_type == "TRANSACTION.SUCCESS";
    if !is_payment && !envelope.event_type.starts_with("REFUND.") {
        return Ok(Notice::Other {
            notice_id: envelope.id,
            out_trade_no: None,
            what: "an event that is not for us",
        });
    }
    let plain = envelope.resource.open(api_v3_key).ok_or(unreadable(
        "the resource cannot be opened with the APIv3 key",
    ))?;
    let transaction: TradeReport =
        serde_json::from_slice(&plain).map_err(|_| unreadable("no transaction"))?;
    match transaction.mchid.as_deref() {
        None => return Err(unreadable("no mchid")),
        Some(theirs) if theirs != mchid => return Err(NoticeError::Foreign),
        Some(_) => {}
    }
    if !is_payment {
        return Ok(Notice::Other {
            notice_id: envelope.id,
            out_trade_no: transaction.out_trade_no,
            what: "news of a refund",
        });
    }
    if !transaction.is_paid() {
        return Err(unreadable("a success that is none"));
    }
    let success = transaction
        .success()
        .ok_or(unreadable("a success with a part missing"))?;
    Ok(Notice::Paid {
        notice_id: envelope.id,
        success,
    })
}

const fn unreadable(why: &'static str) -> NoticeError {
    NoticeError::Unreadable { why }
}
