//! Calls to WeChat Pay: signed, bounded, and believed only as far as they are proved (protocol §3.5).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use url::Url;

use super::keys::{KeyTable, Keys};
use super::settings::Checked;
use super::sign::{self, Signed};
use super::wire::{self, Code};
use crate::clock::Clock;
use crate::provider::http::{self, Answer, Outcome};
use crate::provider::{NoticeError, ProviderError};
use crate::random::Random;

const FETCH_SPACING: Duration = Duration::from_mins(1);
const MONTH_MS: i64 = 30 * 24 * 3600 * 1000;

/// What a call proves.
#[derive(Debug)]
pub enum Reply {
    /// 2xx, and WeChat signed it (a file excepted).
    Done { status: u16, body: Vec<u8> },
    /// 4xx with a code. Never signed, by protocol; not 429.
    Refused { code: Code },
    /// Anything else: it may have taken effect.
    Unknown,
}

pub struct Client {
    pub settings: Checked,
    pub keys: Keys,
    pub http: http::Client,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    /// When certificates were last asked for.
    fetched: Mutex<Option<Instant>>,
}

impl Client {
    pub fn new(
        settings: Checked,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, ProviderError> {
        let http = http::Client::new("wechatpay", settings.timeout).map_err(|what| {
            ProviderError::Misconfigured {
                account: settings.id.clone(),
                what,
            }
        })?;
        let table = settings
            .platform_public_key
            .clone()
            .map_or_else(KeyTable::default, |(id, key)| {
                KeyTable::with_public_key(id, key)
            });
        Ok(Self {
            settings,
            keys: Keys::new(table),
            http,
            clock,
            random,
            fetched: Mutex::new(None),
        })
    }

    /// An address below `base_url`.
    pub fn url(&self, path: &str) -> Url {
        http::join(&self.settings.base_url, path)
    }

    pub async fn get(&self, operation: &'static str, url: Url) -> Reply {
        self.call(operation, "GET", url, String::new(), None).await
    }

    pub async fn post(&self, operation: &'static str, url: Url, body: String) -> Reply {
        self.call(operation, "POST", url, body, None).await
    }

    /// [`Self::post`] with fields that are encrypted for the key of this serial.
    pub async fn post_sealed(
        &self,
        operation: &'static str,
        url: Url,
        body: String,
        serial: &str,
    ) -> Reply {
        self.call(operation, "POST", url, body, Some(serial)).await
    }

    async fn call(
        &self,
        operation: &'static str,
        method: &'static str,
        url: Url,
        body: String,
        serial: Option<&str>,
    ) -> Reply {
        let started = Instant::now();
        let (reply, outcome) = match self.exchange(method, url, body, serial).await {
            Ok(answer) => self.judge(operation, answer).await,
            Err(outcome) => (Reply::Unknown, outcome),
        };
        self.conclude(operation, reply, outcome, started)
    }

    /// Fetches a file: signed like any call, and never signed in return (protocol §2.5). Whoever asked
    /// compares its hash with a signed answer.
    pub async fn download(&self, operation: &'static str, url: Url) -> Reply {
        let started = Instant::now();
        let request = self.request("GET", url, String::new(), None).await;
        let answer = match request {
            Ok(request) => self
                .http
                .send_for_file(request, &*self.clock)
                .await
                .map_err(Outcome::from),
            Err(outcome) => Err(outcome),
        };
        let (reply, outcome) = match answer {
            Ok(Answer {
                status: status @ 200,
                body,
                ..
            }) => (Reply::Done { status, body }, Outcome::Ok),
            Ok(answer) => self.judge(operation, answer).await,
            Err(outcome) => (Reply::Unknown, outcome),
        };
        self.conclude(operation, reply, outcome, started)
    }

    fn conclude(
        &self,
        operation: &'static str,
        reply: Reply,
        outcome: Outcome,
        started: Instant,
    ) -> Reply {
        self.http.record(operation, outcome, started);
        if matches!(reply, Reply::Unknown) {
            tracing::warn!(
                account = %self.settings.id,
                operation,
                outcome = outcome.as_str(),
                "the outcome of a call to WeChat Pay is unknown",
            );
        }
        reply
    }

    /// Status first: 4xx and 5xx are never signed. Then the signature: a 2xx without one is forged.
    async fn judge(&self, operation: &'static str, answer: Answer) -> (Reply, Outcome) {
        match answer.status {
            200..=299 => match self.verify(&answer).await {
                Ok(()) => {
                    let status = answer.status;
                    let body = answer.body;
                    (Reply::Done { status, body }, Outcome::Ok)
                }
                Err(error) => {
                    tracing::warn!(account = %self.settings.id, operation, %error, "an answer was not believed");
                    (Reply::Unknown, Outcome::Unverified)
                }
            },
            429 => (Reply::Unknown, Outcome::Limited),
            400..=499 => match wire::error_code(&answer.body) {
                Some(code) => {
                    tracing::info!(
                        account = %self.settings.id,
                        operation,
                        status = answer.status,
                        code = code.as_str(),
                        "WeChat Pay refused a call",
                    );
                    (Reply::Refused { code }, Outcome::Refused)
                }
                None => (Reply::Unknown, Outcome::Unreadable),
            },
            500..=599 => (Reply::Unknown, Outcome::Unavailable),
            _ => (Reply::Unknown, Outcome::Unreadable),
        }
    }

    async fn verify(&self, answer: &Answer) -> Result<(), NoticeError> {
        let signed = Signed::of_answer(&answer.headers)?;
        let now = self.clock.now();
        match signed.verify(&self.keys.table(), &answer.body, now) {
            Err(NoticeError::UnknownKey) if may_be_fetched(signed.serial) => {
                self.fetch_now_and_then(signed.serial).await;
                signed.verify(&self.keys.table(), &answer.body, now)
            }
            verdict => verdict,
        }
    }

    /// Signs and sends, and reads what comes.
    async fn exchange(
        &self,
        method: &'static str,
        url: Url,
        body: String,
        serial: Option<&str>,
    ) -> Result<Answer, Outcome> {
        let request = self.request(method, url, body, serial).await?;
        self.http
            .send(request, &*self.clock)
            .await
            .map_err(Outcome::from)
    }

    /// A signed request. `serial` names the key that it is encrypted for; otherwise the one that the
    /// answer shall be signed with.
    async fn request(
        &self,
        method: &'static str,
        url: Url,
        body: String,
        serial: Option<&str>,
    ) -> Result<reqwest::RequestBuilder, Outcome> {
        let timestamp = self.clock.now().as_seconds();
        let nonce = self.random.hex::<16>();
        let target = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let message = sign::request_message(method, &target, timestamp, &nonce, &body);
        let signature = self
            .settings
            .private_key
            .sign_aside(message.into_bytes())
            .await
            .ok_or(Outcome::Network)?;
        let authorization = sign::authorization(
            &self.settings.mchid,
            &self.settings.certificate_serial,
            timestamp,
            &nonce,
            &signature,
        );
        let request = if method == "GET" {
            self.http.get(url)
        } else {
            self.http
                .post(url)
                .header("Content-Type", "application/json")
                .body(body)
        }
        .header("Accept", "application/json")
        .header("Authorization", authorization);
        let configured = self.settings.platform_public_key.as_ref();
        Ok(match serial.or(configured.map(|(id, _)| &**id)) {
            Some(serial) => request.header("Wechatpay-Serial", serial),
            None => request,
        })
    }

    /// Fetches because of an unknown serial: at most once a minute, and not at all if another call
    /// brought it meanwhile.
    pub async fn fetch_now_and_then(&self, serial: &str) {
        let mut fetched = self.fetched.lock().await;
        let known = self.keys.table().get(serial, self.clock.now()).is_some();
        if known || fetched.is_some_and(|last| last.elapsed() < FETCH_SPACING) {
            return;
        }
        *fetched = Some(Instant::now());
        if let Err(error) = self.fetch().await {
            tracing::warn!(account = %self.settings.id, %error, "no platform certificates");
        }
    }

    /// The keys, fetched first where none is known yet: somebody's data has to be encrypted for one.
    pub async fn keys_to_seal_for(&self) -> Arc<KeyTable> {
        if self.keys.table().newest(self.clock.now()).is_none() {
            self.fetch_now_and_then("").await;
        }
        self.keys.table()
    }

    /// Would [`Self::fetch_now_and_then`] do anything? Not while another fetch is under way: a flood of
    /// unknown serials must not become a queue of tasks.
    pub fn would_fetch(&self, serial: &str) -> bool {
        may_be_fetched(serial)
            && self
                .fetched
                .try_lock()
                .is_ok_and(|fetched| fetched.is_none_or(|last| last.elapsed() >= FETCH_SPACING))
    }

    pub async fn fetch_certificates(&self) -> Result<(), ProviderError> {
        let mut fetched = self.fetched.lock().await;
        *fetched = Some(Instant::now());
        self.fetch().await
    }

    /// GET /v3/certificates. What it brings is opened with the APIv3 key, and the answer itself must be
    /// signed by a key that we have or by one that it brings.
    async fn fetch(&self) -> Result<(), ProviderError> {
        const OPERATION: &str = "certificates";
        let unavailable = |why: String| ProviderError::Unavailable { why };
        let started = Instant::now();
        let answer = match self
            .exchange("GET", self.url("/v3/certificates"), String::new(), None)
            .await
        {
            Ok(answer) => answer,
            Err(outcome) => {
                self.http.record(OPERATION, outcome, started);
                return Err(unavailable(format!(
                    "platform certificates: {}",
                    outcome.as_str()
                )));
            }
        };
        let outcome = match answer.status {
            200 => self.take_in(&answer),
            429 => Outcome::Limited,
            400..=499 => Outcome::Refused,
            500..=599 => Outcome::Unavailable,
            _ => Outcome::Unreadable,
        };
        self.http.record(OPERATION, outcome, started);
        if outcome == Outcome::Ok {
            return Ok(());
        }
        let code = wire::error_code(&answer.body);
        Err(unavailable(
            match code.as_ref().filter(|_| outcome == Outcome::Refused) {
                Some(code) if code.is(&["RESOURCENOTEXISTS"]) => {
                    "this merchant has no platform certificates: configure platform_public_key_id \
                     and platform_public_key"
                        .to_owned()
                }
                Some(code) => format!("platform certificates: refused, {}", code.as_str()),
                None => format!("platform certificates: {}", outcome.as_str()),
            },
        ))
    }

    fn take_in(&self, answer: &Answer) -> Outcome {
        let now = self.clock.now();
        let Some(brought) = KeyTable::of_answer(&answer.body, &self.settings.api_v3_key)
            .filter(|brought| !brought.is_empty())
        else {
            return Outcome::Unreadable;
        };
        let table = self.keys.table().merged(brought, now);
        let verified = Signed::of_answer(&answer.headers)
            .and_then(|signed| signed.verify(&table, &answer.body, now));
        if let Err(error) = verified {
            tracing::warn!(account = %self.settings.id, %error, "platform certificates were not believed");
            return Outcome::Unverified;
        }
        if let Some(end) = table.last_end()
            && end.since(now) < MONTH_MS
        {
            tracing::warn!(
                account = %self.settings.id,
                "the last platform certificate ends within 30 days, and WeChat Pay announces no new one",
            );
        }
        self.keys.replace(table);
        Outcome::Ok
    }
}

/// A public key's id is configured, never fetched. In public-key mode certificates still sign for a while:
/// callbacks change over within a week.
fn may_be_fetched(serial: &str) -> bool {
    serial.len() <= 40 && serial.bytes().all(|byte| byte.is_ascii_hexdigit())
}
