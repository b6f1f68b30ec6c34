//! `WeChat` Pay APIv3 from the provider's side. `api` takes the calls, `sign` checks and signs,
//! `orders`, `refunds` and `bills` do the work, `notice` tells the merchant, `oauth` hands out openids.

pub(super) mod api;
mod bills;
mod fields;
pub(super) mod notice;
pub(super) mod oauth;
mod orders;
pub(super) mod refunds;
pub(super) mod sign;

pub(super) use sign::WechatPay;

use actix_web::web::Bytes;
use serde_json::{Value, json};

/// Why a call is refused: status, code, message, and where it is wrong.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) message: String,
    /// Boxed: most refusals have none.
    pub(super) detail: Option<Box<Value>>,
}

impl Refused {
    pub(super) fn new(status: u16, code: &str, message: &str) -> Self {
        Self {
            status,
            code: code.to_owned(),
            message: message.to_owned(),
            detail: None,
        }
    }

    /// 400 `PARAM_ERROR` about one member.
    pub(super) fn param(field: &str, value: &Value, issue: &str, location: &str) -> Self {
        Self {
            status: 400,
            code: "PARAM_ERROR".to_owned(),
            message: format!("输入源“/{location}{field}”{issue}"),
            detail: Some(Box::new(json!({
                "field": field, "value": value, "issue": issue, "location": location,
            }))),
        }
    }

    pub(super) fn invalid(message: &str) -> Self {
        Self::new(400, "INVALID_REQUEST", message)
    }

    pub(super) fn body(&self) -> Value {
        let mut body = json!({ "code": self.code, "message": self.message });
        if let Some(detail) = &self.detail {
            body["detail"] = Value::clone(detail);
        }
        body
    }
}

/// What a call that was carried out answers.
#[derive(Debug)]
pub(super) enum Done {
    Json(Value),
    /// Accepted, not done.
    Accepted(Value),
    NoContent,
    /// A bill: raw and, alone among the answers, unsigned.
    File(Bytes),
}
