//! A provider of many trades, with limits: it keeps each trade as the real ones do, counts what it is
//! asked, refuses what is too much, and says nothing while a test wants it silent.

#![expect(clippy::unwrap_used, reason = "a test ends where its house is broken")]

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use enrollpay::order::{
    AccountId, CloseAnswer, CodeMode, Fen, OutTradeNo, Product, RefundAnswer, Timestamp,
    TradeAnswer, Wallet,
};
use enrollpay::provider::{
    AccountSettings, Bill, BillError, BillKind, Notice, NoticeError, OauthError, Outcome,
    PayParameters, PayerId, Provider, ProviderError, RefundDestination, RefundRequest, Success,
    TradeRequest, TradeState, note,
};
use secrecy::SecretString;
use tokio::time::Instant;

use super::bench::AMOUNT;

/// How long an answer takes.
const LATENCY: Duration = Duration::from_millis(60);
/// A call of ours ends after this.
const TIMEOUT: Duration = Duration::from_secs(8);

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asked {
    Order,
    Query,
    Close,
    Refund,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trade {
    Unpaid,
    /// The payer sits at the password page: the trade cannot be closed.
    AtPassword,
    Paid(Timestamp),
    Closed,
}

/// One account at a provider.
#[derive(Debug)]
pub struct Bank {
    settings: AccountSettings,
    trades: Mutex<HashMap<OutTradeNo, Trade>>,
    /// Calls a second of each kind; more are refused.
    limits: HashMap<Asked, usize>,
    recent: Mutex<HashMap<Asked, VecDeque<Instant>>>,
    /// Every call, with the number it was about.
    pub calls: Mutex<Vec<(Asked, OutTradeNo, Instant)>>,
    /// The most calls of a kind in any one second.
    pub most_in_a_second: Mutex<HashMap<Asked, usize>>,
    /// Calls refused because they were too many.
    pub limited: AtomicUsize,
    /// Calls are not answered.
    pub silent: AtomicBool,
}

impl Bank {
    pub fn new(account: &str, wallet: Wallet, limits: &[(Asked, usize)]) -> Self {
        let application = match wallet {
            Wallet::Wechat => "wx8888888888888888",
            Wallet::Alipay => "2021000000000001",
        };
        Self {
            settings: AccountSettings {
                id: AccountId::new(account),
                wallet,
                application: application.into(),
                mode: CodeMode::Unified,
                h5: true,
                payer_identity: false,
                alipay_wap: false,
                checkout_origins: Vec::new(),
            },
            trades: Mutex::default(),
            limits: limits.iter().copied().collect(),
            recent: Mutex::default(),
            calls: Mutex::default(),
            most_in_a_second: Mutex::default(),
            limited: AtomicUsize::new(0),
            silent: AtomicBool::new(false),
        }
    }

    /// The payer pays. A code or link makes its trade now.
    pub fn pay(&self, number: OutTradeNo, at: Timestamp) {
        let before = self.trades.lock().unwrap().insert(number, Trade::Paid(at));
        assert_ne!(before, Some(Trade::Closed), "{number} was closed");
    }

    /// The payer opens the password page.
    pub fn open(&self, number: OutTradeNo) {
        self.trades
            .lock()
            .unwrap()
            .insert(number, Trade::AtPassword);
    }

    pub fn asked(&self) -> usize {
        self.calls.lock().unwrap().len()
    }

    /// When this trade was asked about.
    pub fn queries_of(&self, number: OutTradeNo) -> Vec<Instant> {
        let calls = self.calls.lock().unwrap();
        calls
            .iter()
            .filter(|(asked, about, _)| *asked == Asked::Query && *about == number)
            .map(|(_, _, at)| *at)
            .collect()
    }

    /// Counts the call, waits as long as an answer takes: may it be answered?
    async fn takes(&self, asked: Asked, number: OutTradeNo) -> bool {
        let now = Instant::now();
        self.calls.lock().unwrap().push((asked, number, now));
        let in_second = {
            let mut recent = self.recent.lock().unwrap();
            let recent = recent.entry(asked).or_default();
            while recent
                .front()
                .is_some_and(|at| now - *at >= Duration::from_secs(1))
            {
                recent.pop_front();
            }
            recent.push_back(now);
            recent.len()
        };
        {
            let mut most = self.most_in_a_second.lock().unwrap();
            let most = most.entry(asked).or_default();
            *most = in_second.max(*most);
        }
        if self.silent.load(Ordering::SeqCst) {
            tokio::time::sleep(TIMEOUT).await;
            note(Outcome::Timeout);
            return false;
        }
        tokio::time::sleep(LATENCY).await;
        if self
            .limits
            .get(&asked)
            .is_some_and(|limit| in_second > *limit)
        {
            self.limited.fetch_add(1, Ordering::SeqCst);
            note(Outcome::Limited);
            return false;
        }
        note(Outcome::Ok);
        true
    }
}

#[async_trait]
impl Provider for Bank {
    fn account(&self) -> &AccountSettings {
        &self.settings
    }

    async fn make_trade(&self, request: &TradeRequest) -> TradeAnswer {
        let made = |handle: &str| TradeAnswer::Made {
            handle: handle.into(),
        };
        if request.product == Product::AlipayWap {
            return made("");
        }
        if !self.takes(Asked::Order, request.out_trade_no).await {
            return TradeAnswer::Unknown;
        }
        if !request.product.trade_appears_later() {
            let mut trades = self.trades.lock().unwrap();
            trades.entry(request.out_trade_no).or_insert(Trade::Unpaid);
        }
        made("handle-1")
    }

    async fn query_trade(&self, number: OutTradeNo) -> TradeState {
        if !self.takes(Asked::Query, number).await {
            return TradeState::Unknown;
        }
        match self.trades.lock().unwrap().get(&number) {
            None => TradeState::NotFound,
            Some(Trade::Unpaid | Trade::AtPassword) => TradeState::Unpaid,
            Some(Trade::Closed) => TradeState::Closed,
            Some(Trade::Paid(at)) => TradeState::Paid(Success {
                out_trade_no: number.to_string(),
                application: self.settings.application.clone(),
                transaction_id: format!("tx-{number}").into(),
                amount: AMOUNT,
                currency: "CNY".into(),
                succeeded_at: *at,
            }),
        }
    }

    async fn close_trade(&self, number: OutTradeNo) -> CloseAnswer {
        if !self.takes(Asked::Close, number).await {
            return CloseAnswer::Unknown;
        }
        match self.trades.lock().unwrap().get_mut(&number) {
            None => CloseAnswer::NotFound,
            Some(Trade::AtPassword) => CloseAnswer::NotYet,
            Some(Trade::Paid(_)) => CloseAnswer::AlreadyPaid,
            Some(trade) => {
                *trade = Trade::Closed;
                CloseAnswer::Closed
            }
        }
    }

    async fn refund(&self, request: &RefundRequest) -> RefundAnswer {
        if !self.takes(Asked::Refund, request.out_trade_no).await {
            return RefundAnswer::Unknown;
        }
        assert_ne!(request.amount, Fen::ZERO);
        RefundAnswer::Succeeded
    }

    async fn query_refund(&self, _: &RefundRequest) -> RefundAnswer {
        RefundAnswer::Unknown
    }

    async fn repair_refund(&self, _: &RefundRequest, _: &RefundDestination) -> RefundAnswer {
        RefundAnswer::Unknown
    }

    async fn bill(&self, _: BillKind, _: jiff::civil::Date) -> Result<Bill, BillError> {
        Err(BillError::NotOffered)
    }

    fn pay_parameters(
        &self,
        _: &TradeRequest,
        handle: &str,
    ) -> Result<PayParameters, ProviderError> {
        Ok(PayParameters::Code {
            content: handle.to_owned(),
        })
    }

    fn authorize_url(&self, redirect_uri: &str, _: &str) -> String {
        redirect_uri.to_owned()
    }

    async fn exchange_code(&self, _: &SecretString) -> Result<PayerId, OauthError> {
        Err(OauthError::Unavailable)
    }

    fn read_notice(
        &self,
        _: &BTreeMap<String, String>,
        _: &[u8],
        _: Timestamp,
    ) -> Result<Notice, NoticeError> {
        Err(NoticeError::BadSignature)
    }

    fn acknowledgement(&self) -> (u16, &'static str, &'static str) {
        (200, "text/plain", "success")
    }

    fn refusal(&self) -> (&'static str, &'static str) {
        ("text/plain", "fail")
    }

    async fn refresh(&self) -> Result<(), ProviderError> {
        Ok(())
    }
}
