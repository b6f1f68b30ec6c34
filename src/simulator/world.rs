//! What every handler shares: clock, chance, books, faults, and the way to durable and sent.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};

use super::alipay::Alipay;
use super::bills::Links;
use super::books::{Books, Capture, Notice, Refusal, Trade};
use super::faults::{Fault, Faults, Rule};
use super::notices::Dispatch;
use super::options::Options;
use super::people::{Person, Wallet};
use super::wechatpay::WechatPay;
use crate::clock::Clock;
use crate::order::Timestamp;
use crate::random::Random;

pub(super) struct World {
    pub(super) options: Options,
    pub(super) wechat: WechatPay,
    pub(super) alipay: Alipay,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    /// `http://address:port` of the API.
    pub(super) origin: String,
    /// The built-in browsers: person id and port.
    pub(super) browsers: Vec<(String, u16)>,
    pub(super) browsing: super::browser::Browsing,
    books: Mutex<Books>,
    faults: Mutex<Faults>,
    /// Bills that wait to be fetched.
    links: Mutex<Links>,
    /// Moves the simulator's clock against the one handed in.
    offset_ms: AtomicI64,
    pub(super) notices: mpsc::UnboundedSender<Dispatch>,
    pub(super) writer: Option<mpsc::UnboundedSender<oneshot::Sender<()>>>,
    /// Rings whenever a notice was delivered (for the reordering fault).
    pub(super) delivered: Notify,
    pub(super) turn: AtomicU64,
}

impl std::fmt::Debug for World {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("World")
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

/// What [`World::new`] is made of.
pub(super) struct Parts {
    pub(super) options: Options,
    pub(super) wechat: WechatPay,
    pub(super) alipay: Alipay,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    pub(super) origin: String,
    pub(super) browsers: Vec<(String, u16)>,
    pub(super) browsing: super::browser::Browsing,
    pub(super) books: Books,
    pub(super) notices: mpsc::UnboundedSender<Dispatch>,
    pub(super) writer: Option<mpsc::UnboundedSender<oneshot::Sender<()>>>,
}

impl World {
    pub(super) fn new(parts: Parts) -> Self {
        let offset = parts.books.offset_ms;
        Self {
            options: parts.options,
            wechat: parts.wechat,
            alipay: parts.alipay,
            clock: parts.clock,
            random: parts.random,
            origin: parts.origin,
            browsers: parts.browsers,
            browsing: parts.browsing,
            books: Mutex::new(parts.books),
            faults: Mutex::new(Faults::default()),
            links: Mutex::new(Links::default()),
            offset_ms: AtomicI64::new(offset),
            notices: parts.notices,
            writer: parts.writer,
            delivered: Notify::new(),
            turn: AtomicU64::new(0),
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock
            .now()
            .plus_ms(self.offset_ms.load(Ordering::SeqCst))
    }

    pub(super) fn advance_clock(&self, millis: i64) -> Timestamp {
        let offset = self.offset_ms.fetch_add(millis, Ordering::SeqCst) + millis;
        self.books().offset_ms = offset;
        self.now()
    }

    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn links(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take_fault(
        &self,
        operation: &str,
        out_trade_no: Option<&str>,
        wanted: impl Fn(Fault) -> bool,
    ) -> Option<Rule> {
        self.faults().take(operation, out_trade_no, wanted)
    }

    /// Returns once everything in the books is in the state file. Many waiters share one write.
    pub(super) async fn persist(&self) {
        let Some(writer) = &self.writer else { return };
        let (done, written) = oneshot::channel();
        if writer.send(done).is_ok() {
            let _ = written.await;
        }
    }

    /// How long this call is made to last.
    pub(super) async fn latency(&self) {
        let (least, most) = self.options.latency_ms;
        let millis = least
            + self
                .random
                .below(most.saturating_sub(least).saturating_add(1));
        if millis > 0 {
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
    }

    /// 28 digits, as both providers number trades.
    pub(super) fn trade_no(&self, wallet: Wallet, number: u64) -> String {
        self.trade_no_of(wallet, number, self.now())
    }

    /// The same for a trade of another time.
    pub(super) fn trade_no_of(&self, wallet: Wallet, number: u64, at: Timestamp) -> String {
        let date = super::times::compact_date(at);
        let chance = self.random.below(100_000);
        match wallet {
            Wallet::Wechat => format!("4200{:06}{date}{number:05}{chance:05}", number % 1_000_000),
            Wallet::Alipay => format!("{date}22001{number:010}{chance:05}"),
        }
    }

    /// Scans a trade or opens it in the wallet.
    pub(super) fn begin(
        &self,
        wallet: Wallet,
        out_trade_no: &str,
        person: &Person,
    ) -> Result<Trade, Refusal> {
        let now = self.now();
        let mut books = self.books();
        let number = books.next_number();
        let trade = books
            .trade_mut(wallet, out_trade_no)
            .ok_or(Refusal::Unknown)?;
        trade.begin(person, now, || self.trade_no(wallet, number))?;
        Ok(trade.clone())
    }

    /// Takes the money, makes the notice, and returns when both are durable.
    pub(super) async fn pay(
        &self,
        wallet: Wallet,
        out_trade_no: &str,
        person: &Person,
        notice_delay: Option<Duration>,
    ) -> Result<Capture, Refusal> {
        let now = self.now();
        let (capture, notice) = {
            let mut books = self.books();
            let number = books.next_number();
            let trade = books
                .trade_mut(wallet, out_trade_no)
                .ok_or(Refusal::Unknown)?;
            let capture = trade.pay(person, now, || self.trade_no(wallet, number))?;
            let notice = match wallet {
                Wallet::Wechat => super::wechatpay::notice::paid(self, trade),
                Wallet::Alipay => super::alipay::notice::paid(self, trade),
            };
            let id = notice.map(|notice| {
                let id = notice.id.clone();
                trade.notices.push(notice);
                id
            });
            (capture, id)
        };
        self.persist().await;
        if let Some(id) = notice {
            let wait = notice_delay.unwrap_or(Duration::from_millis(self.options.notify_delay_ms));
            self.dispatch(wallet, out_trade_no, &id, wait);
        }
        Ok(capture)
    }

    pub(super) fn dispatch(&self, wallet: Wallet, out_trade_no: &str, id: &str, wait: Duration) {
        let _ = self.notices.send(Dispatch {
            wallet,
            out_trade_no: out_trade_no.to_owned(),
            notice_id: id.to_owned(),
            wait,
        });
    }

    pub(super) fn new_notice(
        &self,
        id: String,
        event: &str,
        url: &str,
        content: serde_json::Value,
    ) -> Notice {
        Notice {
            id,
            event: event.to_owned(),
            url: url.to_owned(),
            content,
            made_at: self.now(),
            tries: Vec::new(),
            acked: false,
            given_up: false,
        }
    }

    /// Upper-case letters and digits, as nonces are.
    pub(super) fn nonce(&self) -> String {
        self.random.hex::<16>().to_uppercase()
    }
}

/// Plain http goes to loopback only; https anywhere.
pub(super) fn may_be_called(address: &str) -> bool {
    let Ok(url) = url::Url::parse(address) else {
        return false;
    };
    match url.scheme() {
        "https" => url.host().is_some(),
        "http" => is_loopback(&url),
        _ => false,
    }
}

pub(super) fn is_loopback(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}
