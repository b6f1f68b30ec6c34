//! Field rules of request bodies (wechatpay-v3 §2.1, §2.4): types, lengths, no nulls, no strangers.

use serde_json::{Map, Value};

use super::Refused;

/// One JSON object of a request, read member by member.
pub(super) struct Fields<'a> {
    object: &'a Map<String, Value>,
    at: String,
}

impl<'a> Fields<'a> {
    /// The whole body: an object without nulls anywhere, and only with `known` members.
    pub(super) fn body(body: &'a Value, known: &[&str]) -> Result<Self, Refused> {
        no_nulls(body, "")?;
        let object = body
            .as_object()
            .ok_or_else(|| Refused::param("", &Value::Null, "必须是JSON对象", "body"))?;
        Self::of(object, String::new(), known)
    }

    fn of(object: &'a Map<String, Value>, at: String, known: &[&str]) -> Result<Self, Refused> {
        if let Some((name, value)) = object
            .iter()
            .find(|(name, _)| !known.contains(&name.as_str()))
        {
            return Err(Refused::param(
                &format!("{at}/{name}"),
                value,
                "非法的额外参数",
                "body",
            ));
        }
        Ok(Self { object, at })
    }

    fn wrong(&self, name: &str, issue: &str) -> Refused {
        let value = self.object.get(name).unwrap_or(&Value::Null);
        Refused::param(&format!("{}/{name}", self.at), value, issue, "body")
    }

    pub(super) fn inner(&self, name: &str, known: &[&str]) -> Result<Option<Self>, Refused> {
        match self.object.get(name) {
            None => Ok(None),
            Some(Value::Object(object)) => {
                Self::of(object, format!("{}/{name}", self.at), known).map(Some)
            }
            Some(_) => Err(self.wrong(name, "必须是对象")),
        }
    }

    pub(super) fn required(&self, name: &str, known: &[&str]) -> Result<Self, Refused> {
        self.inner(name, known)?
            .ok_or_else(|| self.wrong(name, "不能为空"))
    }

    /// A text of at most `most` characters, none of them beyond three UTF-8 bytes.
    pub(super) fn text(&self, name: &str, most: usize) -> Result<Option<&'a str>, Refused> {
        match self.object.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => {
                if text.chars().count() > most {
                    return Err(self.wrong(name, &format!("字段长度超过{most}")));
                }
                if text.chars().any(|letter| u32::from(letter) > 0xffff) {
                    return Err(self.wrong(name, "不支持四字节的UTF-8字符"));
                }
                Ok(Some(text))
            }
            Some(_) => Err(self.wrong(name, "必须是字符串")),
        }
    }

    pub(super) fn needed_text(&self, name: &str, most: usize) -> Result<&'a str, Refused> {
        self.text(name, most)?
            .filter(|text| !text.is_empty())
            .ok_or_else(|| self.wrong(name, "不能为空"))
    }

    /// A whole number of at least 1.
    pub(super) fn fen(&self, name: &str) -> Result<i64, Refused> {
        let value = self
            .object
            .get(name)
            .ok_or_else(|| self.wrong(name, "不能为空"))?;
        value
            .as_i64()
            .filter(|fen| (1..=10_000_000_000).contains(fen))
            .ok_or_else(|| self.wrong(name, "必须是不小于1的整数（单位：分）"))
    }

    pub(super) fn currency(&self, required: bool) -> Result<(), Refused> {
        match self.text("currency", 16)? {
            Some("CNY") => Ok(()),
            None if !required => Ok(()),
            _ => Err(self.wrong("currency", "只支持CNY")),
        }
    }

    /// A merchant's number: length and alphabet.
    pub(super) fn number(
        &self,
        name: &str,
        lengths: std::ops::RangeInclusive<usize>,
        more: &str,
    ) -> Result<&'a str, Refused> {
        let text = self.needed_text(name, *lengths.end())?;
        let fits = lengths.contains(&text.len())
            && text
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || more.contains(letter));
        if fits {
            Ok(text)
        } else {
            Err(self.wrong(name, "长度或字符不符合规则"))
        }
    }

    /// https anywhere, http to loopback only (the simulator's one liberty); no query string.
    pub(super) fn notify_url(&self, most: usize) -> Result<Option<&'a str>, Refused> {
        let Some(text) = self.text("notify_url", most)? else {
            return Ok(None);
        };
        if !crate::simulator::world::may_be_called(text) || text.contains('?') {
            return Err(self.wrong("notify_url", "必须是不带参数的https地址"));
        }
        Ok(Some(text))
    }
}

fn no_nulls(value: &Value, at: &str) -> Result<(), Refused> {
    match value {
        Value::Null => Err(Refused::param(at, value, "不能为null", "body")),
        Value::Object(object) => object
            .iter()
            .try_for_each(|(name, inner)| no_nulls(inner, &format!("{at}/{name}"))),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .try_for_each(|(index, inner)| no_nulls(inner, &format!("{at}/{index}"))),
        _ => Ok(()),
    }
}
