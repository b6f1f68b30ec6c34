//! Receiving webhooks as the Standard Webhooks specification tells a receiver to: signature first,
//! over the raw bytes; then the age; only then the content.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::gateway::Order;

/// How far the notice's time may be from ours.
const TOLERANCE_SECONDS: i64 = 5 * 60;

pub struct Key(hmac::Key);

impl Key {
    pub fn parse(secret: &SecretString) -> Option<Self> {
        let encoded = secret.expose_secret().strip_prefix("whsec_")?;
        let bytes = STANDARD.decode(encoded).ok()?;
        (!bytes.is_empty()).then(|| Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }
}

/// The three headers, as they came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a> {
    pub id: Option<&'a str>,
    pub timestamp: Option<&'a str>,
    pub signature: Option<&'a str>,
}

/// A verified notice.
#[derive(Debug, Deserialize)]
pub struct Notice {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub data: Data,
}

#[derive(Debug, Deserialize)]
pub struct Data {
    pub order: Order,
}

/// Why a notice is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("缺少签名头 header missing")]
    HeaderMissing,
    #[error("签名不符 wrong signature")]
    Signature,
    #[error("时间超出五分钟 more than five minutes old or ahead")]
    Stale,
    #[error("内容无法识别 unreadable content")]
    Unreadable,
}

/// Believes a notice or says why not.
pub fn verify(
    key: &Key,
    headers: Headers<'_>,
    body: &[u8],
    now_seconds: i64,
) -> Result<Notice, Refused> {
    let (Some(id), Some(timestamp), Some(signatures)) =
        (headers.id, headers.timestamp, headers.signature)
    else {
        return Err(Refused::HeaderMissing);
    };
    let mut signed = format!("{id}.{timestamp}.").into_bytes();
    signed.extend_from_slice(body);
    let genuine = signatures
        .split(' ')
        .filter_map(|one| one.strip_prefix("v1,"))
        .filter_map(|encoded| STANDARD.decode(encoded).ok())
        .any(|tag| hmac::verify(&key.0, &signed, &tag).is_ok());
    if !genuine {
        return Err(Refused::Signature);
    }
    let seconds: i64 = timestamp.parse().map_err(|_| Refused::Stale)?;
    if now_seconds.abs_diff(seconds) > TOLERANCE_SECONDS.unsigned_abs() {
        return Err(Refused::Stale);
    }
    let notice: Notice = serde_json::from_slice(body).map_err(|_| Refused::Unreadable)?;
    if notice.id != id {
        return Err(Refused::Unreadable);
    }
    Ok(notice)
}
