//! `enrollpay call`: a signed request from the command line, for people who explore.

use std::path::{Path, PathBuf};

use clap::Args;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use super::Failure;
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::demo::School;
use crate::http::auth;
use crate::random::{Random, SystemRandom};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  enrollpay call GET '/v1/orders?limit=5'\n  enrollpay call POST /v1/orders -d @order.json\n\nThe key comes from --credentials, from ENROLLPAY_KEY_ID and ENROLLPAY_SECRET, or, in demo mode,\nfrom the file that the demo made beside its store."
)]
pub(super) struct Call {
    /// GET or POST.
    method: String,
    /// The path, with its query.
    path: String,
    /// The body; @FILE reads it from a file, @- from standard input.
    #[arg(short, long)]
    data: Option<String>,
    /// More headers, such as 'Idempotency-Key: 1'.
    #[arg(short = 'H', long = "header")]
    headers: Vec<String>,
    /// The gateway; server.public_url by default.
    #[arg(long)]
    url: Option<String>,
    /// A file with what `merchant create` printed.
    #[arg(long)]
    credentials: Option<PathBuf>,
}

/// What `merchant create` printed.
pub(super) struct Credentials {
    pub(super) key_id: String,
    pub(super) secret: SecretString,
    pub(super) webhook_secret: Option<SecretString>,
}

impl Call {
    pub(super) fn run(self, config: &Config) -> Result<(), Failure> {
        let credentials = self.credentials(config)?;
        let body = self.body()?;
        let url = self.url.clone().unwrap_or_else(|| config.public_url());
        let method = self.method.to_ascii_uppercase();
        let timestamp = SystemClock.now().as_seconds();
        let nonce = (&SystemRandom as &dyn Random).hex::<16>();
        let signature = auth::sign(
            &method,
            &self.path,
            timestamp,
            &nonce,
            &body,
            credentials.secret.expose_secret(),
        );
        let authorization = format!(
            "ENROLLPAY-HMAC-SHA256 key_id=\"{}\",timestamp=\"{timestamp}\",nonce=\"{nonce}\",signature=\"{signature}\"",
            credentials.key_id
        );
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Failure::new)?;
        runtime.block_on(self.send(&url, &method, authorization, body))
    }

    async fn send(
        &self,
        url: &str,
        method: &str,
        authorization: String,
        body: Vec<u8>,
    ) -> Result<(), Failure> {
        let method: reqwest::Method = method.parse().map_err(Failure::new)?;
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(std::time::Duration::from_secs(30))
            .build()
            .map_err(Failure::new)?;
        let mut request = client
            .request(
                method,
                format!("{}{}", url.trim_end_matches('/'), self.path),
            )
            .header("authorization", authorization);
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        for header in &self.headers {
            let (name, value) = header.split_once(':').ok_or_else(|| {
                Failure::new(format!(
                    "--header: found {header:?}, expected 'Name: value'"
                ))
            })?;
            request = request.header(name.trim(), value.trim());
        }
        let answer = request.body(body).send().await.map_err(|error| {
            Failure::later(format!(
                "{url} does not answer ({error}); is `enrollpay serve` running?"
            ))
        })?;
        let status = answer.status();
        let text = answer.text().await.map_err(Failure::new)?;
        match serde_json::from_str::<Value>(&text) {
            Ok(value) => super::output::line(format_args!("{value:#}")),
            Err(_) => super::output::line(format_args!("{text}")),
        }
        if status.is_success() {
            Ok(())
        } else {
            Err(Failure::new(format!("HTTP {status}")))
        }
    }

    fn body(&self) -> Result<Vec<u8>, Failure> {
        match self.data.as_deref() {
            None => Ok(Vec::new()),
            Some("@-") => std::io::read_to_string(std::io::stdin())
                .map(String::into_bytes)
                .map_err(Failure::new),
            Some(text) => match text.strip_prefix('@') {
                Some(path) => {
                    std::fs::read(path).map_err(|error| Failure::new(format!("{path}: {error}")))
                }
                None => Ok(text.as_bytes().to_vec()),
            },
        }
    }

    fn credentials(&self, config: &Config) -> Result<Credentials, Failure> {
        if let Some(path) = &self.credentials {
            return read_credentials(path);
        }
        if let (Ok(key_id), Ok(secret)) = (
            std::env::var("ENROLLPAY_KEY_ID"),
            std::env::var("ENROLLPAY_SECRET"),
        ) {
            return Ok(Credentials {
                key_id,
                secret: secret.into(),
                webhook_secret: None,
            });
        }
        let demo = crate::app::demo_merchant_file(config, School::SelfStudy);
        read_credentials(&demo).map_err(|failure| {
            Failure::new(format!(
                "no key: give --credentials FILE, or set ENROLLPAY_KEY_ID and ENROLLPAY_SECRET ({})",
                failure.message
            ))
        })
    }
}

pub(super) fn read_credentials(path: &Path) -> Result<Credentials, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
    let value: Value = serde_json::from_str(&text).map_err(Failure::new)?;
    let member = |name: &str| {
        value[name].as_str().map(str::to_owned).ok_or_else(|| {
            Failure::new(format!(
                "{}: no {name}; expected what `merchant create` printed",
                path.display()
            ))
        })
    };
    Ok(Credentials {
        key_id: member("key_id")?,
        secret: SecretString::from(member("secret")?),
        webhook_secret: value["webhook_secret"].as_str().map(SecretString::from),
    })
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Credentials(***)")
    }
}
