//! What each school of the demo has: a key at the gateway, a webhook, and a memory that lasts.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use super::gateway::{Gateway, Order};
use super::inbox::{Effect, Heard, Inbox};
use super::receive::{self, Headers, Notice};
use super::{Credentials, StartError};
use crate::clock::Clock;
use crate::random::Random;

pub const RFC3339: &str = "%Y-%m-%dT%H:%M:%S%:z";

/// An instant (milliseconds since the Unix epoch) as a clock in Beijing shows it.
pub fn beijing(at_ms: i64, format: &str) -> String {
    let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(8));
    let at = jiff::Timestamp::from_millisecond(at_ms).unwrap_or_default();
    at.to_zoned(zone).strftime(format).to_string()
}

/// What one school remembers.
pub trait Books: Default + Serialize + DeserializeOwned + Send + 'static {
    /// Takes in an order wherever it comes from; the highest version stays.
    fn learn(&mut self, order: Order) -> Effect;
    fn inbox(&mut self) -> &mut Inbox;
}

/// Where a school works.
pub struct Desk<B> {
    pub gateway: Gateway,
    webhook_key: receive::Key,
    file: Option<PathBuf>,
    pub books: Mutex<B>,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
}

impl<B> fmt::Debug for Desk<B> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Desk")
    }
}

impl<B: Books> Desk<B> {
    /// Opens the books kept in `file`; a missing file is empty books.
    pub fn open(
        gateway_url: &str,
        credentials: &Credentials,
        file: Option<PathBuf>,
        clock: &Arc<dyn Clock>,
        random: &Arc<dyn Random>,
    ) -> Result<Self, StartError> {
        let books = match &file {
            None => B::default(),
            Some(path) => load(path).map_err(|why| StartError::StateFile {
                path: path.clone(),
                why,
            })?,
        };
        Ok(Self {
            gateway: Gateway::new(
                gateway_url,
                credentials.key_id.clone(),
                credentials.secret.clone(),
                Arc::clone(clock),
                Arc::clone(random),
            )?,
            webhook_key: receive::Key::parse(&credentials.webhook_secret)
                .ok_or(StartError::WebhookSecret)?,
            file,
            books: Mutex::new(books),
            clock: Arc::clone(clock),
            random: Arc::clone(random),
        })
    }

    pub fn now_ms(&self) -> i64 {
        self.clock.now().as_millis()
    }

    /// Writes the books to their file, where there is one. They are small, so the wait is short.
    pub fn save(&self, books: &B) -> std::io::Result<()> {
        match &self.file {
            None => Ok(()),
            Some(path) => store(path, books).inspect_err(
                |error| tracing::error!(%error, "the demo's state file cannot be written"),
            ),
        }
    }

    /// Takes in an answer of the gateway. What is not on disk is asked for again another time.
    pub async fn learn(&self, order: Order) {
        let mut books = self.books.lock().await;
        books.learn(order);
        let _ = self.save(&books);
    }

    /// The school's webhook. Acknowledged once it is on disk, and only then.
    pub async fn webhook(&self, request: &HttpRequest, body: &web::Bytes) -> HttpResponse {
        let text = |name| request.headers().get(name)?.to_str().ok();
        let headers = Headers {
            id: text("webhook-id"),
            timestamp: text("webhook-timestamp"),
            signature: text("webhook-signature"),
        };
        let now = self.clock.now();
        let verified = receive::verify(&self.webhook_key, headers, body, now.as_seconds());
        let at = beijing(now.as_millis(), RFC3339);
        let mut books = self.books.lock().await;
        match verified {
            Ok(notice) => {
                hear(&mut *books, notice, at);
                match self.save(&books) {
                    Ok(()) => HttpResponse::NoContent().finish(),
                    Err(_) => HttpResponse::InternalServerError().finish(),
                }
            }
            Err(why) => {
                books.inbox().disbelieve(at, why);
                tracing::warn!(%why, "the demo does not believe a webhook");
                match why {
                    receive::Refused::Unreadable => HttpResponse::BadRequest().finish(),
                    _ => HttpResponse::Unauthorized().finish(),
                }
            }
        }
    }
}

/// Takes in a verified notice, once by its id.
fn hear(books: &mut impl Books, notice: Notice, at: String) {
    if books.inbox().came_again(&notice.id) {
        return;
    }
    let order = notice.data.order;
    let (number, version, status) = (
        order.merchant_order_no.clone(),
        order.version,
        order.status.clone(),
    );
    let effect = books.learn(order);
    books.inbox().keep(Heard {
        id: notice.id,
        kind: notice.kind,
        number,
        version,
        status,
        at,
        times: 1,
        effect,
    });
}

fn load<B: Books>(path: &PathBuf) -> Result<B, String> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(B::default()),
        Err(error) => Err(error.to_string()),
    }
}

/// Durable when it returns: written beside, flushed, then renamed over the old.
fn store(path: &PathBuf, books: &impl Books) -> std::io::Result<()> {
    use std::io::Write as _;
    let beside = path.with_extension("new");
    let mut file = std::fs::File::create(&beside)?;
    file.write_all(&serde_json::to_vec_pretty(books)?)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}
