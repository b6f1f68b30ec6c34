//! Alipay's gateway from the provider's side. `gateway` takes the calls, `sign` checks and signs,
//! `trades` and `refunds` do the work, `wap` is the browser's way in, `notice` tells the merchant,
//! `oauth` hands out payer numbers.

pub(super) mod gateway;
pub(super) mod notice;
pub(super) mod oauth;
mod refunds;
mod sign;
mod trades;
pub(super) mod wap;

pub(super) use sign::Alipay;

use serde_json::{Map, Value, json};

/// Why a call is refused: code and `sub_code`.
#[derive(Debug)]
pub(super) struct Refused {
    code: &'static str,
    msg: &'static str,
    sub_code: String,
    sub_msg: String,
    signed: bool,
}

impl Refused {
    /// 40004: the business says no.
    fn business(sub_code: &str, sub_msg: &str) -> Self {
        Self {
            code: "40004",
            msg: "Business Failed",
            sub_code: format!("ACQ.{sub_code}"),
            sub_msg: sub_msg.to_owned(),
            signed: true,
        }
    }

    fn missing(sub_code: &str, sub_msg: &str) -> Self {
        Self {
            code: "40001",
            msg: "Missing Required Arguments",
            sub_code: sub_code.to_owned(),
            sub_msg: sub_msg.to_owned(),
            signed: true,
        }
    }

    /// 40002: the gateway says no.
    fn invalid(sub_code: &str, sub_msg: &str) -> Self {
        Self {
            code: "40002",
            msg: "Invalid Arguments",
            sub_code: sub_code.to_owned(),
            sub_msg: sub_msg.to_owned(),
            signed: true,
        }
    }

    fn unsigned(mut self) -> Self {
        self.signed = false;
        self
    }

    fn to_json(&self) -> Value {
        json!({
            "code": self.code, "msg": self.msg,
            "sub_code": self.sub_code, "sub_msg": self.sub_msg,
        })
    }
}

/// Business members of a call that was carried out.
type Done = Result<Map<String, Value>, Refused>;

/// `{code:10000, msg:Success}` and the members.
fn success(members: Map<String, Value>) -> Value {
    let mut body = Map::new();
    body.insert("code".to_owned(), json!("10000"));
    body.insert("msg".to_owned(), json!("Success"));
    body.extend(members);
    Value::Object(body)
}

fn members<const N: usize>(list: [(&str, Value); N]) -> Map<String, Value> {
    list.into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
