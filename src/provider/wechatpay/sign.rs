//! What is signed, to the byte (protocol §1.2, §1.3), and the encryption of notices and platform
//! certificates (§1.5).

use std::collections::BTreeMap;

use aws_lc_rs::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::keys::KeyTable;
use crate::order::Timestamp;
use crate::provider::NoticeError;

const SCHEME: &str = "WECHATPAY2-SHA256-RSA2048";
const PROBE: &str = "WECHATPAY/SIGNTEST/";
/// A difference of exactly this much is refused.
const WINDOW_MS: i64 = 300_000;

/// The five lines of a request. `target` is path and query as they stand on the request line.
pub fn request_message(
    method: &str,
    target: &str,
    timestamp: i64,
    nonce: &str,
    body: &str,
) -> String {
    format!("{method}\n{target}\n{timestamp}\n{nonce}\n{body}\n")
}

/// The `Authorization` header's value.
pub fn authorization(
    mchid: &str,
    serial: &str,
    timestamp: i64,
    nonce: &str,
    signature: &str,
) -> String {
    format!(
        "{SCHEME} mchid=\"{mchid}\",nonce_str=\"{nonce}\",timestamp=\"{timestamp}\",\
         serial_no=\"{serial}\",signature=\"{signature}\""
    )
}

/// The four lines that a page's `paySign` covers; `package` is `prepay_id=…`.
pub fn pay_message(appid: &str, timestamp: i64, nonce: &str, package: &str) -> String {
    format!("{appid}\n{timestamp}\n{nonce}\n{package}\n")
}

/// The three lines of an answer or a notice.
pub fn answer_message(timestamp: &str, nonce: &str, body: &[u8]) -> Vec<u8> {
    let mut message = format!("{timestamp}\n{nonce}\n").into_bytes();
    message.extend_from_slice(body);
    message.push(b'\n');
    message
}

/// The headers of an answer or a notice that sign it.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    pub timestamp: &'a str,
    pub nonce: &'a str,
    pub signature: &'a str,
    pub serial: &'a str,
}

impl<'a> Signed<'a> {
    /// Reads them by `look_up` of the lower-case name.
    pub fn read(look_up: impl Fn(&str) -> Option<&'a str>) -> Result<Self, NoticeError> {
        let needed = |what: &'static str| look_up(what).ok_or(NoticeError::Missing { what });
        Ok(Self {
            timestamp: needed("wechatpay-timestamp")?,
            nonce: needed("wechatpay-nonce")?,
            signature: needed("wechatpay-signature")?,
            serial: needed("wechatpay-serial")?,
        })
    }

    pub fn of_map(headers: &'a BTreeMap<String, String>) -> Result<Self, NoticeError> {
        Self::read(|name| headers.get(name).map(String::as_str))
    }

    pub fn of_answer(headers: &'a reqwest::header::HeaderMap) -> Result<Self, NoticeError> {
        Self::read(|name| headers.get(name).and_then(|value| value.to_str().ok()))
    }

    /// Is `body` what WeChat signed, just now, with a key of the table?
    pub fn verify(&self, keys: &KeyTable, body: &[u8], now: Timestamp) -> Result<(), NoticeError> {
        if self.signature.starts_with(PROBE) {
            return Err(NoticeError::Probe);
        }
        let seconds: i64 = self
            .timestamp
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| self.timestamp.parse().ok())
            .flatten()
            .ok_or(NoticeError::Missing {
                what: "wechatpay-timestamp",
            })?;
        let age_ms = now.since(Timestamp::from_seconds(seconds));
        if age_ms.saturating_abs() >= WINDOW_MS {
            return Err(NoticeError::Stale {
                seconds: age_ms / 1000,
            });
        }
        let key = keys.get(self.serial, now).ok_or(NoticeError::UnknownKey)?;
        let message = answer_message(self.timestamp, self.nonce, body);
        if key.verifies(&message, self.signature) {
            Ok(())
        } else {
            Err(NoticeError::BadSignature)
        }
    }
}

/// An encrypted part of a notice, or an encrypted platform certificate.
#[derive(Debug, Deserialize)]
pub struct Resource {
    pub algorithm: String,
    pub ciphertext: String,
    pub nonce: String,
    /// May be empty or missing: both mean no associated data.
    #[serde(default)]
    pub associated_data: Option<String>,
}

impl Resource {
    /// Opens it with the APIv3 key's bytes; `None` for a wrong key, a changed byte, another algorithm.
    pub fn open(&self, key: &LessSafeKey) -> Option<Vec<u8>> {
        if self.algorithm != "AEAD_AES_256_GCM" || self.nonce.len() != NONCE_LEN {
            return None;
        }
        let nonce = Nonce::try_assume_unique_for_key(self.nonce.as_bytes()).ok()?;
        let aad = Aad::from(
            self.associated_data
                .as_deref()
                .unwrap_or_default()
                .as_bytes(),
        );
        let mut sealed = STANDARD.decode(&self.ciphertext).ok()?;
        let length = key.open_in_place(nonce, aad, &mut sealed).ok()?.len();
        sealed.truncate(length);
        Some(sealed)
    }
}
