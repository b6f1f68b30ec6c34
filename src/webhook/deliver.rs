//! One try over HTTP: sent under the guard, judged by its status alone.

use std::error::Error;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, redirect, retry};

use super::guard::{Guard, Refused, Rules};
use super::schedule::retry_after;
use super::sign::Headers;
use crate::order::Timestamp;

/// How much of an answer is read before the connection is dropped, and for how long: enough that an
/// ordinary answer leaves the connection usable, no gift to one that never ends.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(1);

/// The relay cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client for webhooks cannot be made (are the CA certificates installed?): {0}")]
pub struct StartError(#[from] reqwest::Error);

/// What one try came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Any 2xx in time.
    Delivered,
    /// 410: the receiver wants no more of it.
    Gone,
    /// 429 or 503, perhaps with a time.
    Busy(Option<Duration>),
    /// Any other status; a redirect too, which is never followed.
    Status,
    Timeout,
    Unreachable,
    /// The guard refused to dial.
    Refused,
    /// Nothing could be sent, for a reason on our side or in the merchant's settings.
    NotSent,
}

impl Outcome {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Gone => "gone",
            Self::Busy(_) => "busy",
            Self::Status => "status",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::NotSent => "not_sent",
        }
    }
}

/// An outcome and a few words of ours about it; nothing that the receiver wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) outcome: Outcome,
    pub(super) note: String,
}

impl Report {
    pub(super) fn new(outcome: Outcome, note: impl Into<String>) -> Self {
        Self {
            outcome,
            note: note.into(),
        }
    }
}

/// Sends signed bodies.
#[derive(Debug)]
pub(super) struct Courier {
    guard: Guard,
    /// One for each kind of rules, since a connection's resolver knows no port and no scheme.
    clients: Vec<Client>,
}

impl Courier {
    pub(super) fn new(
        guard: Guard,
        timeout: Duration,
        connect_timeout: Duration,
    ) -> Result<Self, StartError> {
        let client = |kind| {
            Client::builder()
                .dns_resolver(guard.resolver(Rules::of_kind(kind)))
                .redirect(redirect::Policy::none())
                // A proxy would resolve the name itself, past the guard.
                .no_proxy()
                .retry(retry::never())
                .referer(false)
                .timeout(timeout)
                .connect_timeout(connect_timeout)
                .pool_idle_timeout(Duration::from_secs(30))
                .pool_max_idle_per_host(32)
                .user_agent(concat!("enrollpay/", env!("CARGO_PKG_VERSION")))
                .build()
        };
        let clients = (0..Rules::KINDS).map(client).collect::<Result<_, _>>()?;
        Ok(Self { guard, clients })
    }

    /// Sends once. The answer's body is ignored.
    pub(super) async fn deliver(
        &self,
        url: &str,
        headers: Headers,
        body: Vec<u8>,
        now: Timestamp,
    ) -> Report {
        let (url, rules) = match self.guard.read(url) {
            Ok(read) => read,
            Err(refused) => return Report::new(Outcome::Refused, refused.to_string()),
        };
        let sent = self.clients[rules.kind()]
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", headers.id)
            .header("webhook-timestamp", headers.timestamp)
            .header("webhook-signature", headers.signature)
            .body(body)
            .send()
            .await;
        match sent {
            Ok(answer) => {
                let report = judge(&answer, now);
                drain(answer).await;
                report
            }
            Err(error) => explain(&error),
        }
    }
}

fn judge(answer: &Response, now: Timestamp) -> Report {
    let status = answer.status();
    let note = format!("status {}", status.as_u16());
    let put_off = || {
        let value = answer.headers().get(RETRY_AFTER)?.to_str().ok()?;
        retry_after(value, now)
    };
    match status {
        _ if status.is_success() => Report::new(Outcome::Delivered, note),
        StatusCode::GONE => Report::new(Outcome::Gone, note),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            Report::new(Outcome::Busy(put_off()), note)
        }
        _ if status.is_redirection() => Report::new(
            Outcome::Status,
            format!("{note}: redirects are not followed"),
        ),
        _ => Report::new(Outcome::Status, note),
    }
}

/// The verdict stands already; a reset or an endless stream changes nothing.
async fn drain(mut answer: Response) {
    let read = async {
        let mut seen = 0;
        while let Ok(Some(chunk)) = answer.chunk().await {
            seen += chunk.len();
            if seen > ANSWER_BYTES_MAX {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(ANSWER_WAIT_MAX, read).await;
}

/// In our own words: the library's would name the URL.
fn explain(error: &reqwest::Error) -> Report {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        match inner.downcast_ref::<Refused>() {
            Some(Refused::Unresolved) => {
                return Report::new(Outcome::Unreachable, Refused::Unresolved.to_string());
            }
            Some(refused) => return Report::new(Outcome::Refused, refused.to_string()),
            None => cause = inner.source(),
        }
    }
    if error.is_timeout() {
        Report::new(Outcome::Timeout, "no answer in time")
    } else if error.is_connect() {
        Report::new(Outcome::Unreachable, "cannot connect (or TLS failed)")
    } else {
        Report::new(
            Outcome::Unreachable,
            "the connection broke before an answer",
        )
    }
}
