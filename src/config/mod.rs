//! Settings: built-in defaults, the `--config` file, then the environment
//! (`ENROLLPAY__SERVER__LISTEN=…`), later ones winning. A wrong key or value stops the start with one
//! line that names the key, what was found and what is expected (exit 78).
//!
//! Each section is a plain struct; `validate` looks at all of them together. A secret may be given
//! inline, as `<key>_file` or as `<key>_env`.

mod account;
mod address;
mod finding;
mod lenient;
mod secret;
mod sections;

use std::path::{Path, PathBuf};

use address::kind_of;

pub use account::{Account, AlipayProduct, OwnBudget, ProviderName, Qr};
pub use address::{LocksKind, RedisAddress, RedisTopology, StoreKind};
pub use finding::{ConfigError, Finding};
pub use sections::{
    Admin, Budget, Budgets, Cluster, Console, DEMO_KEY_MARK, Data, Demo, Limits, Locks, Log,
    LogFormat, Order, Reconciliation, Retention, Secrets, Server, Shards, Simulator, Store,
    Webhooks,
};

/// Every key with its default and its reason; compiled in, so that the binary alone is enough.
pub const DEFAULT_FILE: &str = include_str!("../../config/default.toml");

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Demo,
    Production,
}

impl Mode {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Demo => "demo",
            Self::Production => "production",
        }
    }
}

/// The whole configuration.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub mode: Mode,
    /// In which zone times are written, such as `+08:00`.
    #[serde(deserialize_with = "lenient::zone")]
    pub zone: i32,
    pub server: Server,
    pub admin: Admin,
    pub console: Console,
    pub data: Data,
    pub store: Store,
    pub locks: Locks,
    pub cluster: Cluster,
    pub shards: Shards,
    pub secrets: Secrets,
    pub order: Order,
    pub limits: Limits,
    pub budgets: Budgets,
    pub webhooks: Webhooks,
    pub reconciliation: Reconciliation,
    pub retention: Retention,
    pub simulator: Simulator,
    pub demo: Demo,
    pub log: Log,
    #[serde(default)]
    pub account: Vec<Account>,
}

impl Config {
    /// Reads the defaults, `file` and the environment given, and checks them together. Relative
    /// paths in a file are relative to the working directory, as in a shell.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let environment: Vec<(String, String)> = environment.into_iter().collect();
        let mut builder = config::Config::builder().add_source(config::File::from_str(
            DEFAULT_FILE,
            config::FileFormat::Toml,
        ));
        if let Some(path) = file {
            let text = std::fs::read_to_string(path).map_err(|error| {
                ConfigError::one(
                    "--config",
                    path.display().to_string(),
                    format!("a readable file ({error})"),
                )
            })?;
            builder = builder.add_source(config::File::from_str(&text, config::FileFormat::Toml));
        }
        builder = builder.add_source(
            config::Environment::with_prefix("ENROLLPAY")
                .prefix_separator("__")
                .separator("__")
                .source(Some(environment.iter().cloned().collect())),
        );
        let tree: serde_json::Value = builder
            .build()
            .and_then(config::Config::try_deserialize)
            .map_err(|error| ConfigError::unreadable(&error))?;
        Self::from_tree(tree, &environment)
    }

    fn from_tree(
        mut tree: serde_json::Value,
        environment: &[(String, String)],
    ) -> Result<Self, ConfigError> {
        let findings = secret::resolve(&mut tree, environment);
        if !findings.is_empty() {
            return Err(ConfigError { findings });
        }
        let config: Self = serde_path_to_error::deserialize(tree)
            .map_err(|error| ConfigError::wrong_value(&error))?;
        let findings = config.validate();
        if findings.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError { findings })
        }
    }

    /// Where people and providers reach this gateway, without a slash at the end.
    pub fn public_url(&self) -> String {
        self.server.public_url.as_ref().map_or_else(
            || format!("http://{}", self.server.listen),
            |url| url.trim_end_matches('/').to_owned(),
        )
    }

    /// Which store keeps everything.
    pub const fn store_kind(&self) -> &StoreKind {
        &self.store.url
    }

    /// Where leases are held.
    pub const fn locks_kind(&self) -> &LocksKind {
        &self.locks.url
    }

    /// The folder of this node's own files: what demo mode made, and the admin socket.
    pub fn data_folder(&self) -> PathBuf {
        if let Some(folder) = &self.data.folder {
            return folder.clone();
        }
        match self.store_kind() {
            StoreKind::Sqlite(path) => match path.parent() {
                Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
                _ => PathBuf::from("."),
            },
            StoreKind::Postgres(_) => PathBuf::from("data"),
        }
    }

    /// What this node is called among the others.
    pub fn node_id(&self) -> String {
        self.cluster.node_id.clone().unwrap_or_else(|| {
            let system = rustix::system::uname();
            system.nodename().to_string_lossy().into_owned()
        })
    }

    /// Where the other nodes reach this one, without a slash at the end; `None` without a listener.
    pub fn internal_url(&self) -> Option<String> {
        let given = self.cluster.internal_url.as_ref();
        given
            .map(|url| url.trim_end_matches('/').to_owned())
            .or_else(|| Some(format!("http://{}", self.cluster.listen?)))
    }

    /// The socket that commands beside a running node speak to.
    pub fn admin_socket(&self) -> PathBuf {
        self.admin
            .socket
            .clone()
            .unwrap_or_else(|| self.data_folder().join("enrollpay.sock"))
    }

    fn validate(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut expect = |holds: bool, key: &str, found: String, expected: &str| {
            if !holds {
                findings.push(Finding::new(key, found, expected));
            }
        };
        let public_url = self.public_url();
        let url = url::Url::parse(&public_url);
        expect(
            url.as_ref().is_ok_and(|url| {
                matches!(url.scheme(), "http" | "https")
                    && url.host().is_some()
                    && url.path() == "/"
                    && url.query().is_none()
            }),
            "server.public_url",
            public_url.clone(),
            "an http or https address without a path, such as https://pay.example.edu.cn",
        );
        let redis = matches!(self.locks_kind(), LocksKind::Redis(_));
        let postgres = matches!(self.store_kind(), StoreKind::Postgres(_));
        // The embedded pair serves one node, the other pair any number.
        expect(
            redis || !postgres,
            "locks.url",
            "memory:".to_owned(),
            "a Redis address (redis://…), for store.url is PostgreSQL",
        );
        expect(
            postgres || !redis,
            "store.url",
            "sqlite:…".to_owned(),
            "a PostgreSQL address (postgres://…), for locks.url is Redis",
        );
        let node_id = self.node_id();
        expect(
            is_word(&node_id, b"-_."),
            "cluster.node_id",
            format!("{node_id:?}"),
            "1 to 64 letters, digits, -, _ and . (by default the host name)",
        );
        expect(
            is_word(&self.locks.prefix, b"-_.:"),
            "locks.prefix",
            format!("{:?}", self.locks.prefix),
            "1 to 64 letters, digits, -, _, . and :",
        );
        if let Some(url) = &self.cluster.internal_url {
            let fits = url::Url::parse(url).is_ok_and(|url| {
                matches!(url.scheme(), "http" | "https")
                    && url.host().is_some()
                    && url.username().is_empty()
                    && url.password().is_none()
                    && url.path() == "/"
                    && url.query().is_none()
            });
            expect(
                fits,
                "cluster.internal_url",
                kind_of(url),
                "an http or https address without a login or a path",
            );
        }
        for (key, connections) in [
            ("store.connections", self.store.connections),
            (
                "store.callback_connections",
                self.store.callback_connections,
            ),
        ] {
            expect(
                (1..=1000).contains(&connections),
                key,
                connections.to_string(),
                "1 to 1000",
            );
        }
        if let Some(role) = &self.store.service_role {
            expect(
                is_word(role, b"-_"),
                "store.service_role",
                format!("{role:?}"),
                "the name of a role: 1 to 64 letters, digits, - and _",
            );
        }
        expect(
            (10..=3600).contains(&self.order.qr_seconds),
            "order.qr_seconds",
            self.order.qr_seconds.to_string(),
            "10 to 3600 seconds",
        );
        expect(
            (1..=4096).contains(&self.cluster.shards),
            "cluster.shards",
            self.cluster.shards.to_string(),
            "1 to 4096",
        );
        expect(
            (1..=3600).contains(&self.cluster.lease_seconds),
            "cluster.lease_seconds",
            self.cluster.lease_seconds.to_string(),
            "1 to 3600 seconds",
        );
        expect(
            self.shards.threads <= 256,
            "shards.threads",
            self.shards.threads.to_string(),
            "0 (as many as cores) to 256",
        );
        expect(
            self.server.workers <= 256,
            "server.workers",
            self.server.workers.to_string(),
            "0 (as many as cores) to 256",
        );
        expect(
            (1..=600).contains(&self.server.drain_seconds),
            "server.drain_seconds",
            self.server.drain_seconds.to_string(),
            "1 to 600 seconds",
        );
        expect(
            !self.webhooks.retry_seconds.is_empty(),
            "webhooks.retry_seconds",
            "an empty list".to_owned(),
            "at least one delay in seconds",
        );
        expect(
            (1..=60).contains(&self.webhooks.timeout_seconds),
            "webhooks.timeout_seconds",
            self.webhooks.timeout_seconds.to_string(),
            "1 to 60 seconds",
        );
        expect(
            self.retention.personal_days <= 36_500,
            "retention.personal_days",
            self.retention.personal_days.to_string(),
            "0 (never erased) to 36500 days",
        );
        let mut listeners = vec![
            ("server.listen", self.server.listen),
            ("admin.listen", self.admin.listen),
        ];
        listeners.extend(self.cluster.listen.map(|listen| ("cluster.listen", listen)));
        for (index, (key, address)) in listeners.iter().enumerate() {
            expect(
                address.port() == 0
                    || !listeners[..index].iter().any(|(_, other)| other == address),
                key,
                address.to_string(),
                "an address that no other listener has",
            );
        }
        if self.mode == Mode::Production {
            expect(
                url.is_ok_and(|url| url.scheme() == "https"),
                "server.public_url",
                public_url,
                "an https address in production",
            );
            expect(
                !self.account.is_empty(),
                "account",
                "none".to_owned(),
                "at least one [[account]] in production",
            );
            for (key, given) in [
                ("secrets.field_keys", !self.secrets.field_keys.is_empty()),
                ("secrets.index_key", self.secrets.index_key.is_some()),
                ("secrets.token_key", self.secrets.token_key.is_some()),
            ] {
                expect(
                    given,
                    key,
                    "nothing".to_owned(),
                    "a key in production: 32 random bytes in Base64 (openssl rand -base64 32)",
                );
            }
        }
        if redis && postgres {
            findings.extend(self.cluster.validate());
        }
        findings.extend(self.console.validate());
        findings.extend(self.secrets.validate(self.mode));
        let budgets = &self.budgets;
        let mut usual = budgets.wechatpay.validate("budgets.wechatpay");
        usual.extend(budgets.alipay.validate("budgets.alipay"));
        let accounts_inherit_sense = usual.is_empty();
        findings.extend(usual);
        for (index, account) in self.account.iter().enumerate() {
            findings.extend(account.validate(index, self.mode));
            if accounts_inherit_sense {
                let budget = account.budget(budgets);
                findings.extend(budget.validate(&format!("account[{index}].budget")));
            }
            if self.account[..index]
                .iter()
                .any(|other| other.id == account.id)
            {
                findings.push(Finding::new(
                    &format!("account[{index}].id"),
                    account.id.clone(),
                    "an id that no other account has",
                ));
            }
        }
        findings
    }
}

/// 1 to 64 letters, digits and some more.
fn is_word(text: &str, more: &[u8]) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
}

#[cfg(test)]
mod tests;
