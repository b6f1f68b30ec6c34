//! Who signed a merchant's request (contract §4 "Signing"): HMAC-SHA256 over method, path with query,
//! timestamp, nonce and body, by the secret's characters as printed.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::{Method, header};
use actix_web::web::{self, Bytes};
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::LocalBoxFuture;
use serde_json::Value;
use tokio::time::Instant;

use super::edge::ClientAddress;
use super::limits::Limiters;
use super::problem::{Code, Problem};
use super::{Deps, body, json, metric, refusal};
use crate::order::{KeyId, Timestamp};
use crate::sealing::Place;
use crate::store::{Merchant, Write};

/// The scheme of the `Authorization` header.
pub const SCHEME: &str = "ENROLLPAY-HMAC-SHA256";
/// How far a merchant's clock may differ from ours, in seconds.
pub const CLOCK_TOLERANCE_SECONDS: i64 = 300;
/// How long a merchant's body may take.
const BODY_DEADLINE: Duration = Duration::from_secs(5);
/// The one address that takes a thousand things at once, and what it takes.
const BULK: &str = "/v1/bills";
const BULK_BODY_BYTES: usize = 1024 * 1024;
const BULK_DEADLINE: Duration = Duration::from_secs(10);
/// How old a remembered key may be: a rotation is visible within this time.
const REMEMBERED: Duration = Duration::from_millis(1_500);
/// Keys remembered at most, unknown ones included.
const REMEMBERED_KEYS: usize = 10_000;

/// The bytes that are signed: five lines, each ended by a line feed.
pub fn string_to_sign(
    method: &str,
    path_and_query: &str,
    timestamp: &str,
    nonce: &str,
    body: &[u8],
) -> Vec<u8> {
    let mut bytes = format!("{method}\n{path_and_query}\n{timestamp}\n{nonce}\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes.push(b'\n');
    bytes
}

/// The signature of a request, in standard Base64. `timestamp` is in seconds; `secret` is the
/// secret as printed, `sk_` included.
pub fn sign(
    method: &str,
    path_and_query: &str,
    timestamp: i64,
    nonce: &str,
    body: &[u8],
    secret: &str,
) -> String {
    let text = string_to_sign(method, path_and_query, &timestamp.to_string(), nonce, body);
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    STANDARD.encode(hmac::sign(&key, &text))
}

/// The whole value of the `Authorization` header.
pub fn authorization(key_id: &str, timestamp: i64, nonce: &str, signature: &str) -> String {
    format!(
        "{SCHEME} key_id=\"{key_id}\",timestamp=\"{timestamp}\",nonce=\"{nonce}\",signature=\"{signature}\""
    )
}

/// What the header says, before anything of it is believed.
#[derive(Clone, Copy)]
struct Credentials<'a> {
    key_id: &'a str,
    timestamp: &'a str,
    nonce: &'a str,
    signature: &'a str,
}

/// Reads `SCHEME name="value",…` with each of the four names once, in any order.
fn parse(text: &str) -> Option<Credentials<'_>> {
    let (scheme, rest) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return None;
    }
    let names = ["key_id", "timestamp", "nonce", "signature"];
    let mut values = [None; 4];
    for part in rest.split(',') {
        let (name, value) = part.trim().split_once('=')?;
        let value = value.strip_prefix('"')?.strip_suffix('"')?;
        let index = names.iter().position(|known| *known == name)?;
        if value.contains(['"', '\\']) || values[index].replace(value).is_some() {
            return None;
        }
    }
    let [Some(key_id), Some(timestamp), Some(nonce), Some(signature)] = values else {
        return None;
    };
    let sane = (16..=64).contains(&nonce.len()) && nonce.bytes().all(|b| b.is_ascii_graphic());
    sane.then_some(Credentials {
        key_id,
        timestamp,
        nonce,
        signature,
    })
}

/// A merchant whose key signed.
pub struct Caller {
    pub key: KeyId,
    pub merchant: Merchant,
    secret: hmac::Key,
    valid_until: Option<Timestamp>,
    /// Has this entry's use been written down yet? Once per entry is often enough.
    noted: AtomicBool,
    last_used_at: Option<Timestamp>,
}

impl fmt::Debug for Caller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Caller({})", self.key)
    }
}

/// Keys seen a moment ago, so that a busy merchant costs no reads. Make one for all workers.
#[derive(Clone, Default)]
pub struct Keys(Arc<Mutex<HashMap<KeyId, Remembered>>>);

#[derive(Clone)]
struct Remembered {
    at: Instant,
    caller: Option<Arc<Caller>>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Keys")
    }
}

impl Keys {
    /// Whose key is this? `None` where nobody's.
    async fn find(&self, deps: &Deps, key: KeyId) -> Result<Option<Arc<Caller>>, Problem> {
        let remembered = self.lock().get(&key).cloned();
        if let Some(remembered) = remembered.filter(|known| known.at.elapsed() < REMEMBERED) {
            return Ok(remembered.caller);
        }
        let at = Instant::now();
        let caller = load(deps, key).await?.map(Arc::new);
        let mut known = self.lock();
        if known.len() >= REMEMBERED_KEYS {
            known.retain(|_, remembered| remembered.at.elapsed() < REMEMBERED);
        }
        if known.len() < REMEMBERED_KEYS {
            let caller = caller.clone();
            known.insert(key, Remembered { at, caller });
        }
        Ok(caller)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<KeyId, Remembered>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn load(deps: &Deps, id: KeyId) -> Result<Option<Caller>, Problem> {
    let failed = |error| refusal::store_failed(&error);
    let Some(key) = deps.store.key(id).await.map_err(failed)? else {
        return Ok(None);
    };
    let Some(merchant) = deps.store.merchant(key.merchant).await.map_err(failed)? else {
        return Ok(None);
    };
    let row = id.to_string();
    let place = Place {
        table: "merchant_keys",
        column: "secret",
        row: &row,
    };
    let secret = deps
        .sealer
        .open(place, &key.sealed_secret)
        .map_err(|error| {
            tracing::error!(%error, "a merchant's key cannot be opened");
            Problem::new(Code::InternalError, "The gateway failed unexpectedly.")
        })?;
    Ok(Some(Caller {
        key: id,
        merchant,
        secret: hmac::Key::new(hmac::HMAC_SHA256, &secret),
        valid_until: key.valid_until,
        noted: AtomicBool::new(false),
        last_used_at: key.last_used_at,
    }))
}

/// A request whose signature verified. Handlers of the merchant API take it as their argument.
#[derive(Debug)]
pub struct Signed {
    pub caller: Arc<Caller>,
    pub method: Method,
    pub path_and_query: String,
    pub query: String,
    pub body: Bytes,
    /// What is committed with the work, or alone where none is done: the nonce, for requests that
    /// may change something.
    pub writes: Vec<Write>,
    pub idempotency_key: Option<Result<String, Problem>>,
    json: Result<(), Problem>,
}

impl Signed {
    /// The body as JSON; `{}` where there is none.
    pub fn json(&self) -> Result<Value, Problem> {
        if self.body.is_empty() {
            return Ok(Value::Object(serde_json::Map::new()));
        }
        self.json.clone()?;
        json::parse(&self.body)
    }
}

impl FromRequest for Signed {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let request = request.clone();
        let payload = web::Payload::from_request(&request, payload).into_inner();
        Box::pin(async move {
            let Ok(payload) = payload else {
                return Err(Problem::new(
                    Code::InternalError,
                    "The body cannot be read.",
                ));
            };
            let result = verify(&request, payload).await;
            if let Err(problem) = &result {
                let reason = problem.code().entry();
                if reason.status == 401 {
                    metrics::counter!(metric::AUTH_REFUSED, "reason" => reason.name).increment(1);
                    slow_down(&request).await?;
                }
            }
            result
        })
    }
}

/// Who fails to sign has no merchant's limit to count by: the address pays.
async fn slow_down(request: &HttpRequest) -> Result<(), Problem> {
    let client = request.extensions().get::<ClientAddress>().copied();
    match (request.app_data::<web::Data<Limiters>>(), client) {
        (Some(limiters), Some(ClientAddress(address))) => limiters.address(address).await,
        _ => Ok(()),
    }
}

async fn verify(request: &HttpRequest, payload: web::Payload) -> Result<Signed, Problem> {
    let wired = || Problem::new(Code::InternalError, "The gateway is not wired up.");
    let deps = request.app_data::<web::Data<Deps>>().ok_or_else(wired)?;
    let keys = request.app_data::<web::Data<Keys>>().ok_or_else(wired)?;
    let limiters = request
        .app_data::<web::Data<Limiters>>()
        .ok_or_else(wired)?;

    let mut given = request.headers().get_all(header::AUTHORIZATION);
    let credentials = match (given.next(), given.next()) {
        (Some(value), None) => value.to_str().ok().and_then(parse),
        _ => None,
    }
    .ok_or_else(credentials_missing)?;
    let now = deps.clock.now();
    let seconds: i64 = credentials
        .timestamp
        .parse()
        .map_err(|_| credentials_missing())?;
    let difference = seconds.saturating_sub(now.as_seconds());
    if difference.saturating_abs() > CLOCK_TOLERANCE_SECONDS {
        return Err(Problem::new(
            Code::TimestampStale,
            format!("The timestamp differs by {difference} s from the server's clock; at most 300 s may lie between them."),
        )
        .with("server_time", now.as_seconds())
        .with("difference_seconds", difference));
    }

    let limit = deps.settings.limits.merchant_body_bytes;
    let (limit, deadline) = if request.path() == BULK {
        (limit.max(BULK_BODY_BYTES), BULK_DEADLINE)
    } else {
        (limit, BODY_DEADLINE)
    };
    let bytes = body::read(request, payload, limit, deadline).await?;
    let path_and_query = request
        .uri()
        .path_and_query()
        .map_or_else(|| request.path().to_owned(), ToString::to_string);
    let signed = string_to_sign(
        request.method().as_str(),
        &path_and_query,
        credentials.timestamp,
        credentials.nonce,
        &bytes,
    );
    let caller = match credentials.key_id.parse::<KeyId>() {
        Ok(id) => keys.find(deps, id).await?,
        Err(_) => None,
    };
    let tag = STANDARD.decode(credentials.signature).unwrap_or_default();
    // An unknown key costs the same work as a known one.
    let dummy = hmac::Key::new(hmac::HMAC_SHA256, &[0; 32]);
    let secret = caller.as_ref().map_or(&dummy, |caller| &caller.secret);
    let genuine = hmac::verify(secret, &signed, &tag).is_ok();
    let valid = |caller: &Arc<Caller>| caller.valid_until.is_none_or(|until| now < until);
    let Some(caller) = caller.filter(|caller| genuine && valid(caller)) else {
        let mut expected = signed;
        expected.truncate(expected.len() - bytes.len() - 1);
        let expected = String::from_utf8_lossy(&expected);
        return Err(Problem::new(
            Code::SignatureInvalid,
            "The key is not known, or the signature is not the one that it makes of this request.",
        )
        .with(
            "expected_string_to_sign",
            format!("{expected}<the body, {} bytes>\n", bytes.len()),
        ));
    };
    limiters.merchant(caller.key).await?;

    let mut writes = Vec::new();
    if *request.method() != Method::GET && *request.method() != Method::HEAD {
        writes.push(Write::Nonce {
            key: caller.key,
            nonce: credentials.nonce.to_owned(),
            at: now,
        });
        if worth_noting(&caller, now) {
            writes.push(Write::KeyUsed {
                key: caller.key,
                at: now,
            });
        }
    }
    Ok(Signed {
        caller,
        method: request.method().clone(),
        path_and_query,
        query: request.query_string().to_owned(),
        body: bytes,
        writes,
        idempotency_key: idempotency_key(request),
        json: body::require_media_type(request, "application/json"),
    })
}

/// Once a minute is often enough to know which keys are still in use.
fn worth_noting(caller: &Caller, now: Timestamp) -> bool {
    caller
        .last_used_at
        .is_none_or(|last| now.since(last) > 60_000)
        && !caller.noted.swap(true, Ordering::Relaxed)
}

fn credentials_missing() -> Problem {
    Problem::new(
        Code::CredentialsMissing,
        "Expected one Authorization header: ENROLLPAY-HMAC-SHA256 key_id=\"key_…\",timestamp=\"seconds\",\
         nonce=\"16 to 64 characters\",signature=\"Base64\". See /docs#signing.",
    )
    .header(
        header::WWW_AUTHENTICATE,
        header::HeaderValue::from_static(SCHEME),
    )
}

fn idempotency_key(request: &HttpRequest) -> Option<Result<String, Problem>> {
    let mut given = request.headers().get_all("idempotency-key");
    let first = given.next()?;
    let key = first.to_str().ok().filter(|key| {
        (1..=255).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
    });
    Some(match (key, given.next()) {
        (Some(key), None) => Ok(key.to_owned()),
        _ => Err(Problem::new(
            Code::ValidationFailed,
            "The Idempotency-Key cannot be used.",
        )
        .at(
            "Idempotency-Key",
            "expected one header of 1 to 255 visible ASCII characters",
        )),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NONCE: &str = "0123456789abcdef";

    #[test]
    fn reads_what_it_writes() {
        let text = authorization("key_1", 1_795_168_800, NONCE, "AAAA=");
        let read = parse(&text).unwrap();
        assert_eq!(read.key_id, "key_1");
        assert_eq!(read.timestamp, "1795168800");
        assert_eq!(read.nonce, NONCE);
        assert_eq!(read.signature, "AAAA=");
    }

    #[test]
    fn refuses_other_shapes() {
        let good = authorization("key_1", 1, NONCE, "AA==");
        for wrong in [
            good.replace(SCHEME, "Bearer"),
            good.replace(NONCE, "short"),
            good.replace(NONCE, &"n".repeat(65)),
            good.replace("nonce=", "once="),
            format!("{good},nonce=\"{NONCE}\""),
            good.replace("\"AA==\"", "AA=="),
            String::new(),
        ] {
            assert!(parse(&wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn signs_the_secret_as_printed() {
        // Computed independently: printf … | openssl dgst -sha256 -hmac sk_test -binary | base64
        let signature = sign(
            "POST",
            "/v1/orders?a=b",
            1_795_168_800,
            NONCE,
            b"{}",
            "sk_test",
        );
        assert_eq!(signature, EXPECTED);
    }

    const EXPECTED: &str = "69owxbQBNLRy/LX9yKN4fgMgtAxBWpCtjGQpnmvFgfE=";

    proptest! {
        #[test]
        fn any_header_is_read_or_refused(text: String) {
            let _ = parse(&text);
        }
    }
}
