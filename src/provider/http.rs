//! HTTP to providers: one client per account, short and bounded in everything, and one number per call.
//!
//! No redirects (a provider's call never needs one, and a followed one would leave the signed address),
//! no proxies from the environment, bodies of at most [`BODY_LIMIT`] bytes. Bill files have their own
//! limits: [`FILE_LIMIT`] and [`FILE_TIMEOUT`].

use std::net::IpAddr;
use std::time::Duration;

use reqwest::header::HeaderMap;
use tokio::time::Instant;
use url::{Host, Url};

use crate::clock::Clock;

/// The most that is read of an answer.
pub const BODY_LIMIT: usize = 1024 * 1024;
/// How long a whole call may take, unless the settings say otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(8);
/// The most that is read of a file, packed as it comes: about two million lines of a bill.
pub const FILE_LIMIT: usize = 64 * 1024 * 1024;
/// How long a file may take.
pub const FILE_TIMEOUT: Duration = Duration::from_mins(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Shorter than servers keep idle connections: a connection closed under a request costs an answer.
const POOL_IDLE: Duration = Duration::from_secs(15);

/// What came back, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// Why nothing came back that could be read. The request may have taken effect all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("no answer in time")]
    Timeout,
    #[error("no connection")]
    Connect,
    #[error("the answer is longer than it may be")]
    TooLarge,
    #[error("the connection broke, or what came is not HTTP")]
    Broken,
}

/// What became of a call, for its metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    /// A definite no in the provider's own words.
    Refused,
    /// 429 and its like.
    Limited,
    /// 5xx, or the provider says that it does not know.
    Unavailable,
    Timeout,
    Network,
    /// A success without a valid signature.
    Unverified,
    /// Signed or not: nothing that we can read.
    Unreadable,
}

impl Outcome {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Limited => "limited",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Network => "network",
            Self::Unverified => "unverified",
            Self::Unreadable => "unreadable",
        }
    }
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Timeout => Self::Timeout,
            Failure::Connect | Failure::Broken => Self::Network,
            Failure::TooLarge => Self::Unreadable,
        }
    }
}

/// The client of one account.
#[derive(Clone, Debug)]
pub struct Client {
    inner: reqwest::Client,
    provider: &'static str,
}

impl Client {
    pub fn new(provider: &'static str, timeout: Duration) -> Result<Self, String> {
        reqwest::Client::builder()
            .user_agent(concat!("enrollpay/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT.min(timeout))
            .timeout(timeout)
            .pool_idle_timeout(POOL_IDLE)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map(|inner| Self { inner, provider })
            .map_err(|_| {
                "no HTTP client could be made: expected the system's CA certificates (package ca-certificates)"
                    .to_owned()
            })
    }

    pub fn get(&self, url: Url) -> reqwest::RequestBuilder {
        self.inner.get(url)
    }

    pub fn post(&self, url: Url) -> reqwest::RequestBuilder {
        self.inner.post(url)
    }

    /// Sends, and reads the answer up to the limit. Errors carry no address: it may hold secrets.
    pub async fn send(
        &self,
        request: reqwest::RequestBuilder,
        clock: &dyn Clock,
    ) -> Result<Answer, Failure> {
        self.send_up_to(BODY_LIMIT, request, clock).await
    }

    /// [`Self::send`] for a file: long and slow, within its own limits.
    pub async fn send_for_file(
        &self,
        request: reqwest::RequestBuilder,
        clock: &dyn Clock,
    ) -> Result<Answer, Failure> {
        let request = request.timeout(FILE_TIMEOUT);
        self.send_up_to(FILE_LIMIT, request, clock).await
    }

    async fn send_up_to(
        &self,
        limit: usize,
        request: reqwest::RequestBuilder,
        clock: &dyn Clock,
    ) -> Result<Answer, Failure> {
        let mut response = request.send().await.map_err(|error| failure(&error))?;
        self.note_clock(response.headers(), clock);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| failure(&error))? {
            if body.len() + chunk.len() > limit {
                return Err(Failure::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer {
            status: response.status().as_u16(),
            headers: std::mem::take(response.headers_mut()),
            body,
        })
    }

    /// Records one call: `operation` is one of a few words of ours.
    pub fn record(&self, operation: &'static str, outcome: Outcome, started: Instant) {
        metrics::histogram!(
            "enrollpay_provider_request_duration_seconds",
            "provider" => self.provider,
            "operation" => operation,
            "outcome" => outcome.as_str(),
        )
        .record(started.elapsed().as_secs_f64());
    }

    fn note_clock(&self, headers: &HeaderMap, clock: &dyn Clock) {
        let theirs = headers.get(reqwest::header::DATE).and_then(|date| {
            jiff::fmt::rfc2822::DateTimeParser::new()
                .parse_timestamp(date.as_bytes())
                .ok()
        });
        if let Some(theirs) = theirs {
            let offset = theirs.as_second().saturating_sub(clock.now().as_seconds());
            let offset = i32::try_from(offset).unwrap_or(i32::MAX);
            metrics::gauge!(
                "enrollpay_provider_clock_offset_seconds",
                "provider" => self.provider,
            )
            .set(f64::from(offset));
        }
    }
}

fn failure(error: &reqwest::Error) -> Failure {
    if error.is_timeout() {
        Failure::Timeout
    } else if error.is_connect() {
        Failure::Connect
    } else {
        Failure::Broken
    }
}

/// An address of a provider: https, or plain http to loopback only. The error says what was expected.
pub fn base_url(text: &str) -> Result<Url, &'static str> {
    const EXPECTED: &str = "expected an https address without user, query and fragment \
         (plain http is accepted for loopback only)";
    let url = Url::parse(text).map_err(|_| EXPECTED)?;
    let fits = match url.scheme() {
        "https" => url.has_host(),
        "http" => is_loopback(&url),
        _ => false,
    };
    let bare = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if fits && bare { Ok(url) } else { Err(EXPECTED) }
}

/// `url` with `path` (which begins with a slash) after its own path.
pub fn join(url: &Url, path: &str) -> Url {
    let mut joined = url.clone();
    joined.set_path(&format!("{}{path}", url.path().trim_end_matches('/')));
    joined
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// May a file that a provider's answer names be fetched from there? Over https, or from the configured
/// address itself (which may be plain http on loopback).
pub fn is_file_address(url: &Url, base_url: &Url) -> bool {
    let bare = url.username().is_empty() && url.password().is_none();
    bare && url.has_host() && (url.scheme() == "https" || url.origin() == base_url.origin())
}

/// `https://host[:port]` of an address, for a page's policy.
pub fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// Is this an address that a provider takes as a payer's? Loopback and unset ones are refused there.
pub fn is_payer_address(address: IpAddr) -> bool {
    !address.is_loopback() && !address.is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_stays_at_home() {
        for fine in [
            "https://api.mch.weixin.qq.com",
            "http://127.0.0.1:8090/wechatpay",
            "http://[::1]:1",
            "http://localhost:1",
        ] {
            assert!(base_url(fine).is_ok(), "{fine}");
        }
        for wrong in [
            "",
            "api.mch.weixin.qq.com",
            "http://api.mch.weixin.qq.com",
            "http://10.0.0.1",
            "http://localhost.example.com",
            "https://user:secret@api.mch.weixin.qq.com",
            "https://api.mch.weixin.qq.com/?a=1",
            "ftp://127.0.0.1",
        ] {
            assert!(base_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn paths_are_joined_without_doubled_slashes() {
        let joined = |base: &str| join(&base_url(base).unwrap(), "/v3/x").to_string();
        assert_eq!(joined("https://a.example"), "https://a.example/v3/x");
        assert_eq!(
            joined("https://a.example/sim/"),
            "https://a.example/sim/v3/x"
        );
    }
}
