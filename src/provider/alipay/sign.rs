//! What is signed, to the byte (protocol §1.2 to §1.4): requests keep `sign_type` and drop `sign`, notices
//! drop both, answers are cut out of the raw text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::provider::rsa::PublicKey;

/// RFC 3986: everything but the unreserved characters is encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// The parameters of a request, by name.
pub type Parameters = BTreeMap<&'static str, String>;

/// The text that a request's `sign` covers: sorted, unencoded, without `sign` and empty values.
pub fn request_message<K: AsRef<str>, V: AsRef<str>>(
    parameters: impl IntoIterator<Item = (K, V)>,
) -> String {
    let sorted: BTreeMap<String, String> = parameters
        .into_iter()
        .map(|(name, value)| (name.as_ref().to_owned(), value.as_ref().to_owned()))
        .filter(|(name, value)| name != "sign" && !value.is_empty())
        .collect();
    let mut message = String::new();
    for (name, value) in sorted {
        let between = if message.is_empty() { "" } else { "&" };
        let _ = write!(message, "{between}{name}={value}");
    }
    message
}

/// `name=value&…`, values percent-encoded: a query or a form body.
pub fn encode<'a>(parameters: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    for (name, value) in parameters {
        let between = if text.is_empty() { "" } else { "&" };
        let _ = write!(
            text,
            "{between}{name}={}",
            utf8_percent_encode(value, ENCODED)
        );
    }
    text
}

/// A form's values as the bytes that were encoded, whatever their charset. `None` where a name comes twice:
/// it would be open which one was signed.
pub fn decode_form(body: &[u8]) -> Option<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut form = BTreeMap::new();
    for pair in body
        .split(|byte| *byte == b'&')
        .filter(|pair| !pair.is_empty())
    {
        let equals = pair.iter().position(|byte| *byte == b'=');
        let (name, value) = match equals {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &[][..]),
        };
        if form.insert(decode(name), decode(value)).is_some() {
            return None;
        }
    }
    Some(form)
}

fn decode(text: &[u8]) -> Vec<u8> {
    let spaced: Vec<u8> = text
        .iter()
        .map(|byte| if *byte == b'+' { b' ' } else { *byte })
        .collect();
    percent_decode(&spaced).collect()
}

/// The bytes that a notice's `sign` covers: sorted, decoded once, without `sign`, `sign_type` and empties.
pub fn notice_message(form: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<u8> {
    let mut message = Vec::new();
    for (name, value) in form {
        if name == b"sign" || name == b"sign_type" || value.is_empty() {
            continue;
        }
        if !message.is_empty() {
            message.push(b'&');
        }
        message.extend_from_slice(name);
        message.push(b'=');
        message.extend_from_slice(value);
    }
    message
}

/// An answer of the gateway, taken apart without touching a byte of what was signed.
#[derive(Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The raw text of the `…_response` object.
    pub response: &'a [u8],
    pub sign: Option<String>,
    pub alipay_cert_sn: Option<String>,
}

impl<'a> Envelope<'a> {
    /// Finds the member `response_key`, or `error_response`, of the outermost object.
    pub fn cut(raw: &'a [u8], response_key: &str) -> Option<Self> {
        let mut members = members(raw)?;
        let response = members
            .remove(response_key)
            .or_else(|| members.remove("error_response"))?;
        let text = |name: &str| {
            members
                .get(name)
                .and_then(|value| serde_json::from_slice(value).ok())
        };
        Some(Self {
            response,
            sign: text("sign"),
            alipay_cert_sn: text("alipay_cert_sn"),
        })
    }

    /// Did Alipay sign the response? Some gateways sign it before they escape its slashes.
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        let Some(sign) = &self.sign else { return false };
        if key.verifies(self.response, sign) {
            return true;
        }
        std::str::from_utf8(self.response).is_ok_and(|text| {
            text.contains("\\/") && key.verifies(text.replace("\\/", "/").as_bytes(), sign)
        })
    }
}

/// The members of a JSON object as raw text. The JSON library reads every token; only the places between
/// them are kept here.
fn members(raw: &[u8]) -> Option<BTreeMap<String, &[u8]>> {
    let mut found = BTreeMap::new();
    let mut at = 0;
    punctuation(raw, &mut at, b'{')?;
    loop {
        let name: String = token(raw, &mut at)?.0;
        punctuation(raw, &mut at, b':')?;
        let (_, value): (IgnoredAny, _) = token(raw, &mut at)?;
        if found.insert(name, value).is_some() {
            return None;
        }
        if punctuation(raw, &mut at, b',').is_none() {
            punctuation(raw, &mut at, b'}')?;
            let rest_is_blank = raw[at..].iter().all(u8::is_ascii_whitespace);
            return rest_is_blank.then_some(found);
        }
    }
}

fn punctuation(raw: &[u8], at: &mut usize, wanted: u8) -> Option<()> {
    skip_blanks(raw, at);
    if raw.get(*at) != Some(&wanted) {
        return None;
    }
    *at += 1;
    Some(())
}

fn token<'a, T: DeserializeOwned>(raw: &'a [u8], at: &mut usize) -> Option<(T, &'a [u8])> {
    skip_blanks(raw, at);
    let mut stream = serde_json::Deserializer::from_slice(&raw[*at..]).into_iter::<T>();
    let value = stream.next()?.ok()?;
    let start = *at;
    *at += stream.byte_offset();
    Some((value, &raw[start..*at]))
}

fn skip_blanks(raw: &[u8], at: &mut usize) {
    while matches!(raw.get(*at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
        *at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cuts_at_the_outermost_object_only() {
        let raw =
            br#" { "sign" : "s" , "x_response" : {"sign":"inner","a":"}\",\"sign\":\"no"} } "#;
        let cut = Envelope::cut(raw, "x_response").unwrap();
        assert_eq!(cut.sign.as_deref(), Some("s"));
        assert_eq!(cut.response, br#"{"sign":"inner","a":"}\",\"sign\":\"no"}"#);
        let twice = br#"{"x_response":{},"x_response":{},"sign":"s"}"#;
        assert_eq!(Envelope::cut(twice, "x_response"), None);
        let error = br#"{"error_response":{"code":"40002"}}"#;
        assert_eq!(
            Envelope::cut(error, "x_response").unwrap().response,
            br#"{"code":"40002"}"#
        );
    }

    #[test]
    fn a_name_that_comes_twice_is_no_form() {
        assert!(decode_form(b"a=1&b=2").is_some());
        assert!(decode_form(b"a=1&%61=2").is_none());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(raw: Vec<u8>) {
            let _ = Envelope::cut(&raw, "x_response");
            let _ = decode_form(&raw).map(|form| notice_message(&form));
        }

        #[test]
        fn arbitrary_json_is_cut_whole(inner in "[a-z{}\\[\\]\"\\\\:, /]{0,40}") {
            let response = serde_json::json!({ "a": inner, "sign": inner }).to_string();
            let raw = format!("{{\"x_response\": {response} ,\"sign\":\"s\"}}");
            prop_assert_eq!(
                Envelope::cut(raw.as_bytes(), "x_response").unwrap().response,
                response.as_bytes()
            );
        }

        #[test]
        fn a_form_comes_back_as_it_was(value: String) {
            let form = decode_form(encode([("a", value.as_str())]).as_bytes()).unwrap();
            prop_assert_eq!(&form[&b"a"[..]], value.as_bytes());
        }
    }
}
