//! WeChat's notices (protocol §2.6): verified as raw bytes, then read leniently, then opened.

use std::collections::BTreeMap;

use aws_lc_rs::aead::LessSafeKey;
use serde::Deserialize;

use super::keys::KeyTable;
use super::sign::{Resource, Signed};
use super::wire::{RefundState, TradeReport};
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
    let signed = Signed::of_map(headers).map_err(|missing| {
        // Refunds made in the console or by V2 are told in XML, and signed otherwise (protocol §2.6).
        if body.trim_ascii_start().starts_with(b"<") {
            NoticeError::OlderInterface
        } else {
            missing
        }
    })?;
    signed.verify(keys, body, now)?;
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
    let ours = |theirs: Option<&str>| match theirs {
        None => Err(unreadable("no mchid")),
        Some(theirs) if theirs != mchid => Err(NoticeError::Foreign),
        Some(_) => Ok(()),
    };
    if !is_payment {
        let refund: RefundState =
            serde_json::from_slice(&plain).map_err(|_| unreadable("no refund"))?;
        ours(refund.mchid.as_deref())?;
        let news = refund
            .news()
            .ok_or(unreadable("a refund with a part missing"))?;
        return Ok(Notice::Refund {
            notice_id: envelope.id,
            news,
            // It names the trade, but not when and for which application it was paid.
            success: None,
        });
    }
    let transaction: TradeReport =
        serde_json::from_slice(&plain).map_err(|_| unreadable("no transaction"))?;
    ours(transaction.mchid.as_deref())?;
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
