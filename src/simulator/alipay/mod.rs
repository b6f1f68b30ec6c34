//! Alipay's gateway from the provider's side. `gateway` takes the calls, `sign` checks and signs,
//! `trades`, `refunds` and `bills` do the work, `wap` is the browser's way in, `notice` tells the
//! merchant, `oauth` hands out payer numbers.

mod bills;
pub(super) mod gateway;
pub(super) mod notice;
pub(super) mod oauth;
pub(super) mod refunds;
mod sign;
mod trades;
pub(super) mod wap;

pub(super) use bills::{BILL_FILE_PATH, bill_file};
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
    /// Sums it names, all of them nothing.
    zeros: &'static [&'static str],
}

impl Refused {
    fn new(code: &'static str, msg: &'static str, sub_code: &str, sub_msg: &str) -> Self {
        Self {
            code,
            msg,
            sub_code: sub_code.to_owned(),
            sub_msg: sub_msg.to_owned(),
            signed: true,
            zeros: &[],
        }
    }

    /// 40004: the business says no.
    fn business(sub_code: &str, sub_msg: &str) -> Self {
        Self::new(
            "40004",
            "Business Failed",
            &format!("ACQ.{sub_code}"),
            sub_msg,
        )
    }

    /// The same about a bill, whose codes have no prefix.
    fn bill(sub_code: &str, sub_msg: &str) -> Self {
        Self::new("40004", "Business Failed", sub_code, sub_msg)
    }

    fn missing(sub_code: &str, sub_msg: &str) -> Self {
        Self::new("40001", "Missing Required Arguments", sub_code, sub_msg)
    }

    /// 40002: the gateway says no.
    fn invalid(sub_code: &str, sub_msg: &str) -> Self {
        Self::new("40002", "Invalid Arguments", sub_code, sub_msg)
    }

    fn unsigned(mut self) -> Self {
        self.signed = false;
        self
    }

    fn with_zeros(mut self, names: &'static [&'static str]) -> Self {
        self.zeros = names;
        self
    }

    fn to_json(&self) -> Value {
        let mut body = members([
            ("code", json!(self.code)),
            ("msg", json!(self.msg)),
            ("sub_code", json!(self.sub_code)),
            ("sub_msg", json!(self.sub_msg)),
        ]);
        for name in self.zeros {
            body.insert((*name).to_owned(), json!("0.00"));
        }
        Value::Object(body)
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
