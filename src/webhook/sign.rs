//! The headers of the Standard Webhooks specification: `webhook-id`, `webhook-timestamp` and
//! `webhook-signature`, an HMAC-SHA256 over `id.timestamp.body` for each valid secret.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::order::Timestamp;

/// The text that starts every printed secret.
pub const SECRET_PREFIX: &str = "whsec_";

/// Why a secret cannot sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected \"whsec_\" and standard Base64 of 24 to 64 bytes: make the merchant a new webhook secret"
)]
pub struct BadSecret;

/// A webhook secret at work.
#[derive(Clone)]
pub struct Secret(hmac::Key);

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret(***)")
    }
}

impl Secret {
    /// Takes a secret as it is printed.
    pub fn parse(text: &[u8]) -> Result<Self, BadSecret> {
        let encoded = text
            .strip_prefix(SECRET_PREFIX.as_bytes())
            .ok_or(BadSecret)?;
        let bytes = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| BadSecret)?);
        if !(24..=64).contains(&bytes.len()) {
            return Err(BadSecret);
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    fn signature(&self, id: &str, seconds: i64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{id}.{seconds}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    }
}

/// Values of the three headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headers {
    pub id: String,
    pub timestamp: String,
    pub signature: String,
}

/// Signs one delivery with every secret that is valid: during a rotation the receiver may hold either.
pub fn headers(id: &str, now: Timestamp, body: &[u8], secrets: &[Secret]) -> Headers {
    let seconds = now.as_seconds();
    let signatures: Vec<String> = secrets
        .iter()
        .map(|secret| secret.signature(id, seconds, body))
        .collect();
    Headers {
        id: id.to_owned(),
        timestamp: seconds.to_string(),
        signature: signatures.join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_another_implementation() {
        let texts = [
            "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        ];
        let secrets: Vec<Secret> = texts
            .iter()
            .map(|text| Secret::parse(text.as_bytes()).unwrap())
            .collect();
        let body = r#"{"id":"evt_1","type":"order.paid","data":{"payer":"测*"}}"#;
        let now = Timestamp::from_millis(1_795_168_800_999);
        let headers = headers("evt_1", now, body.as_bytes(), &secrets);
        let theirs: Vec<String> = texts
            .iter()
            .map(|text| {
                standardwebhooks::Webhook::new(text)
                    .unwrap()
                    .sign("evt_1", 1_795_168_800, body.as_bytes())
                    .unwrap()
            })
            .collect();
        assert_eq!(headers.signature, theirs.join(" "));
        assert_eq!(headers.timestamp, "1795168800");
    }

    #[test]
    fn a_published_example() {
        let secret = Secret::parse(b"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").unwrap();
        let body = br#"{"email":"test@example.com","username":"test_user"}"#;
        assert_eq!(
            secret.signature("msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", 1_649_367_553, body),
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="
        );
    }

    #[test]
    fn weak_or_odd_secrets_are_refused() {
        for text in [
            "",
            "whsec_",
            "whsec_AAAA",
            "whsec_???",
            "C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        ] {
            assert_eq!(
                Secret::parse(text.as_bytes()).err(),
                Some(BadSecret),
                "{text}"
            );
        }
    }
}
