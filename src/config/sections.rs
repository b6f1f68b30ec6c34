//! One struct per section. Defaults stand in `config/default.toml` alone.

use std::net::SocketAddr;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::finding::Finding;
use super::{Mode, lenient};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    #[serde(deserialize_with = "lenient::plain")]
    pub listen: SocketAddr,
    #[serde(default, deserialize_with = "lenient::optional")]
    pub public_url: Option<String>,
    #[serde(default, deserialize_with = "lenient::list")]
    pub trusted_proxies: Vec<IpNet>,
    #[serde(default, deserialize_with = "lenient::optional")]
    pub well_known_files: Option<PathBuf>,
    /// HTTP worker threads; 0 is as many as cores.
    #[serde(deserialize_with = "lenient::plain")]
    pub workers: usize,
    #[serde(deserialize_with = "lenient::plain")]
    pub drain_seconds: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    #[serde(deserialize_with = "lenient::plain")]
    pub listen: SocketAddr,
    #[serde(default, deserialize_with = "lenient::optional")]
    pub socket: Option<PathBuf>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Console {
    #[serde(deserialize_with = "lenient::plain")]
    pub listen: SocketAddr,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    pub url: String,
    #[serde(deserialize_with = "lenient::plain")]
    pub migrate: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Locks {
    pub url: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    #[serde(default, deserialize_with = "lenient::optional")]
    pub node_id: Option<String>,
    #[serde(deserialize_with = "lenient::plain")]
    pub shards: u16,
    #[serde(deserialize_with = "lenient::plain")]
    pub lease_seconds: u64,
    #[serde(default, deserialize_with = "lenient::optional")]
    pub listen: Option<SocketAddr>,
    #[serde(default, deserialize_with = "lenient::optional")]
    pub internal_url: Option<String>,
    #[serde(default)]
    pub secret: Option<SecretString>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shards {
    /// Arbiter threads; 0 is as many as cores.
    #[serde(deserialize_with = "lenient::plain")]
    pub threads: usize,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secrets {
    /// `"1:BASE64"`, the newest last; it seals, all of them open.
    #[serde(default, deserialize_with = "secret_list")]
    pub field_keys: Vec<SecretString>,
    #[serde(default)]
    pub index_key: Option<SecretString>,
    #[serde(default)]
    pub token_key: Option<SecretString>,
}

/// Every symmetric key that demo mode makes begins with these bytes, so that production can tell.
pub const DEMO_KEY_MARK: &[u8; 4] = b"demo";

impl Secrets {
    /// 32 bytes of Base64.
    pub fn key(text: &SecretString) -> Option<[u8; 32]> {
        STANDARD
            .decode(text.expose_secret().trim())
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
    }

    /// Number and key of one entry of `field_keys`.
    pub fn field_key(entry: &SecretString) -> Option<(u8, [u8; 32])> {
        let (number, key) = entry.expose_secret().split_once(':')?;
        Some((
            number.trim().parse().ok()?,
            Self::key(&SecretString::from(key.to_owned()))?,
        ))
    }

    pub(super) fn validate(&self, mode: Mode) -> Vec<Finding> {
        const EXPECTED: &str = "32 random bytes in Base64 (openssl rand -base64 32)";
        let mut findings = Vec::new();
        let mut look = |name: &str, key: Option<[u8; 32]>, expected: &str| match key {
            None => findings.push(Finding::new(name, "something else", expected)),
            Some(key) if mode == Mode::Production && key.starts_with(DEMO_KEY_MARK) => {
                findings.push(Finding::new(name, "a key that demo mode made", EXPECTED));
            }
            Some(_) => {}
        };
        for (index, entry) in self.field_keys.iter().enumerate() {
            look(
                &format!("secrets.field_keys[{index}]"),
                Self::field_key(entry).map(|(_, key)| key),
                "NUMBER:KEY with a number of 0 to 255 and 32 random bytes in Base64",
            );
        }
        for (name, key) in [
            ("secrets.index_key", &self.index_key),
            ("secrets.token_key", &self.token_key),
        ] {
            if let Some(key) = key {
                look(name, Self::key(key), EXPECTED);
            }
        }
        let numbers: Vec<u8> = self
            .field_keys
            .iter()
            .filter_map(|entry| Self::field_key(entry).map(|(number, _)| number))
            .collect();
        if numbers
            .iter()
            .enumerate()
            .any(|(index, number)| numbers[..index].contains(number))
        {
            findings.push(Finding::new(
                "secrets.field_keys",
                "one number twice",
                "a number of its own for each key",
            ));
        }
        findings
    }
}

fn secret_list<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<SecretString>, D::Error> {
    let texts: Vec<String> = lenient::list(deserializer)?;
    Ok(texts.into_iter().map(SecretString::from).collect())
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    #[serde(deserialize_with = "lenient::plain")]
    pub qr_seconds: i64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    #[serde(deserialize_with = "lenient::plain")]
    pub merchant_body_bytes: usize,
    #[serde(deserialize_with = "lenient::plain")]
    pub callback_body_bytes: usize,
    #[serde(deserialize_with = "lenient::plain")]
    pub student_body_bytes: usize,
    #[serde(deserialize_with = "lenient::plain")]
    pub merchant_per_second: u32,
    #[serde(deserialize_with = "lenient::plain")]
    pub merchant_burst: u32,
    #[serde(deserialize_with = "lenient::plain")]
    pub address_per_second: u32,
    #[serde(deserialize_with = "lenient::plain")]
    pub address_burst: u32,
    #[serde(deserialize_with = "lenient::plain")]
    pub attempts_per_hour: u32,
    #[serde(deserialize_with = "lenient::plain")]
    pub streams_per_order: usize,
    #[serde(deserialize_with = "lenient::plain")]
    pub streams_per_address: usize,
    #[serde(deserialize_with = "lenient::plain")]
    pub live_orders: usize,
    #[serde(deserialize_with = "lenient::plain")]
    pub mailbox: usize,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhooks {
    #[serde(deserialize_with = "lenient::list")]
    pub retry_seconds: Vec<u64>,
    #[serde(deserialize_with = "lenient::plain")]
    pub timeout_seconds: u64,
    #[serde(default, deserialize_with = "lenient::list")]
    pub allowed_networks: Vec<IpNet>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reconciliation {
    #[serde(deserialize_with = "lenient::plain")]
    pub enabled: bool,
    /// Beijing's time of day.
    #[serde(deserialize_with = "lenient::plain")]
    pub at: jiff::civil::Time,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Simulator {
    #[serde(deserialize_with = "lenient::plain")]
    pub listen: SocketAddr,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Demo {
    #[serde(deserialize_with = "lenient::plain")]
    pub listen: SocketAddr,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub format: LogFormat,
    pub filter: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    Json,
    Text,
}
