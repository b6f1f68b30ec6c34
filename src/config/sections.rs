//! One struct per section. Defaults stand in `config/default.toml` alone.

use std::net::SocketAddr;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::address::{LocksKind, StoreKind};
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
    /// `None`: this node serves no console.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub listen: Option<SocketAddr>,
    /// What `Host` may be besides the address itself.
    #[serde(default, deserialize_with = "lenient::list")]
    pub hosts: Vec<String>,
}

impl Console {
    pub(super) fn validate(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let fits = |host: &String| {
            url::Url::parse(&format!("http://{host}/")).is_ok_and(|url| {
                url.host().is_some()
                    && url.username().is_empty()
                    && url.password().is_none()
                    && url.path() == "/"
                    && url.query().is_none()
                    && url.fragment().is_none()
            }) && host
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'/')
        };
        for (index, host) in self.hosts.iter().enumerate() {
            if !fits(host) {
                findings.push(Finding::new(
                    &format!("console.hosts[{index}]"),
                    format!("{host:?}"),
                    "a name as browsers send it, such as console.example.edu.cn or 10.0.0.7:8082",
                ));
            }
        }
        if self.hosts.is_empty() && self.listen.is_some_and(|at| at.ip().is_unspecified()) {
            findings.push(Finding::new(
                "console.hosts",
                "nothing",
                "the names under which browsers reach the console: no browser is at an address that \
                 stands for all",
            ));
        }
        findings
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    #[serde(default, deserialize_with = "lenient::optional")]
    pub folder: Option<PathBuf>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    pub url: StoreKind,
    #[serde(deserialize_with = "lenient::plain")]
    pub migrate: bool,
    /// PostgreSQL: whom `migrate` gives the service's rights to.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub service_role: Option<String>,
    /// PostgreSQL: PEM certificates to trust in place of the system's.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub ca_file: Option<PathBuf>,
    /// PostgreSQL: connections of this node for everything but callbacks, and for callbacks.
    #[serde(deserialize_with = "lenient::plain")]
    pub connections: usize,
    #[serde(deserialize_with = "lenient::plain")]
    pub callback_connections: usize,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Locks {
    pub url: LocksKind,
    /// Before every key in Redis.
    pub prefix: String,
    /// PEM certificates to trust in place of the system's.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub ca_file: Option<PathBuf>,
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

impl Cluster {
    /// Below it, the secret could be guessed.
    pub(super) const SECRET_CHARACTERS: usize = 32;

    /// What several nodes need of each other.
    pub(super) fn validate(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let why = "for locks.url is Redis";
        match self.listen {
            None => findings.push(Finding::new(
                "cluster.listen",
                "nothing",
                format!("an address for the other nodes, {why}"),
            )),
            Some(listen) if listen.ip().is_unspecified() && self.internal_url.is_none() => {
                findings.push(Finding::new(
                    "cluster.internal_url",
                    "nothing",
                    format!("where the other nodes reach this one: {listen} is no place to dial"),
                ));
            }
            Some(_) => {}
        }
        match &self.secret {
            None => findings.push(Finding::new(
                "cluster.secret",
                "nothing",
                format!("a secret that all nodes share (openssl rand -hex 32), {why}"),
            )),
            Some(secret) => {
                let length = secret.expose_secret().chars().count();
                if length < Self::SECRET_CHARACTERS {
                    findings.push(Finding::new(
                        "cluster.secret",
                        format!("{length} characters"),
                        "at least 32 characters (openssl rand -hex 32)",
                    ));
                }
            }
        }
        findings
    }
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

/// How much each provider is asked, unless an account says otherwise.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budgets {
    pub wechatpay: Budget,
    pub alipay: Budget,
}

/// Calls a second of one account, by kind, and calls at once. At least 1 each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    #[serde(deserialize_with = "lenient::plain")]
    pub orders_per_second: u32,
    #[serde(deserialize_with = "lenient::plain")]
    pub queries_per_second: u32,
    #[serde(deserialize_with = "lenient::plain")]
    pub closes_per_second: u32,
    #[serde(deserialize_with = "lenient::plain")]
    pub refunds_per_second: u32,
    /// While they fail.
    #[serde(deserialize_with = "lenient::plain")]
    pub failing_refunds_per_second: u32,
    #[serde(deserialize_with = "lenient::plain")]
    pub refund_queries_per_second: u32,
    #[serde(deserialize_with = "lenient::plain")]
    pub calls_at_once: u32,
}

impl Budget {
    const MOST: u32 = 100_000;

    pub(super) fn validate(&self, prefix: &str) -> Vec<Finding> {
        [
            ("orders_per_second", self.orders_per_second),
            ("queries_per_second", self.queries_per_second),
            ("closes_per_second", self.closes_per_second),
            ("refunds_per_second", self.refunds_per_second),
            (
                "failing_refunds_per_second",
                self.failing_refunds_per_second,
            ),
            ("refund_queries_per_second", self.refund_queries_per_second),
            ("calls_at_once", self.calls_at_once),
        ]
        .into_iter()
        .filter(|(_, value)| !(1..=Self::MOST).contains(value))
        .map(|(name, value)| {
            Finding::new(
                &format!("{prefix}.{name}"),
                value.to_string(),
                "1 to 100000",
            )
        })
        .collect()
    }
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
pub struct Retention {
    /// Days after the last thing that happened to an order that is over; 0: its payer is never erased.
    #[serde(deserialize_with = "lenient::plain")]
    pub personal_days: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Simulator {
    #[serde(deserialize_with = "lenient::plain")]
    pub listen: SocketAddr,
    /// Where simulators that run by themselves are, for links to their wallets.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub url: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Demo {
    /// `None`: the demo enrolment system does not run beside this node.
    #[serde(default, deserialize_with = "lenient::optional")]
    pub listen: Option<SocketAddr>,
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
