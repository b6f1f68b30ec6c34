//! The provider's own truth: trades, captures, refunds, codes handed out, notices sent. Everything
//! the gateway claims can be held against these books (`GET /control/books`).

mod refund;
mod refusal;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use refund::{Refund, SecondWay};
pub use refusal::Refusal;

use super::bills::Planted;
use super::people::{Person, RealName, Wallet};
use crate::order::Timestamp;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// How long somebody may sit at the password page beyond `time_expire`.
const PASSWORD_PAGE: i64 = 5 * MINUTE;

/// How a trade was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Product {
    Native,
    Jsapi,
    H5,
    Precreate,
    Create,
    Wap,
    Page,
}

impl Product {
    /// `trade_type` of `WeChat`.
    pub(super) const fn trade_type(self) -> &'static str {
        match self {
            Self::Native => "NATIVE",
            Self::H5 => "MWEB",
            _ => "JSAPI",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Waiting,
    Paid,
    Closed,
}

/// One `out_trade_no`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trade {
    pub wallet: Wallet,
    pub out_trade_no: String,
    pub product: Product,
    pub state: State,
    /// Alipay: somebody has scanned or logged in, so there is a trade. `WeChat`: always.
    pub exists: bool,
    pub total: i64,
    pub description: String,
    pub attach: Option<String>,
    pub notify_url: Option<String>,
    pub return_url: Option<String>,
    pub time_expire: Timestamp,
    pub created_at: Timestamp,
    pub closed_at: Option<Timestamp>,
    /// Endpoint and parameters: what a repetition must equal.
    pub fingerprint: String,
    /// The only account that may pay, once known: person id.
    pub buyer: Option<String>,
    /// The only person whose account may pay, where the merchant named one.
    #[serde(default)]
    pub identity: Option<RealName>,
    /// When that person opened the payment (the password page).
    pub begun_at: Option<Timestamp>,
    /// `transaction_id` or `trade_no`.
    pub trade_no: Option<String>,
    /// The one native code that is alive.
    pub code: Option<String>,
    pub captures: Vec<Capture>,
    pub refunds: Vec<Refund>,
    pub notices: Vec<Notice>,
}

/// Money taken. At most one in each trade, a list so that a checker can prove it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Capture {
    pub transaction_id: String,
    pub amount: i64,
    pub at: Timestamp,
    pub by: String,
}

/// One event to tell, with every try.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Notice {
    pub id: String,
    /// `WeChat`'s `event_type`, [`V2_REFUND`], or Alipay's `trade_status`.
    pub event: String,
    pub url: String,
    /// The plaintext: `WeChat`'s resource, or Alipay's parameters.
    pub content: Value,
    pub made_at: Timestamp,
    pub tries: Vec<Try>,
    pub acked: bool,
    pub given_up: bool,
}

/// The refund notice of the time before APIv3: XML, for refunds made without a `notify_url`.
pub const V2_REFUND: &str = "V2_REFUND";

impl Notice {
    pub fn about_refund(&self) -> bool {
        self.event == V2_REFUND
            || self.event.starts_with("REFUND.")
            || self.content.get("refund_fee").is_some()
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Try {
    pub at: Timestamp,
    /// `None`: no answer.
    pub status: Option<u16>,
    pub acked: bool,
    /// The fault that spoiled it, if any.
    pub fault: Option<String>,
}

/// What a code or id that left the house leads to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ticket {
    pub wallet: Wallet,
    pub out_trade_no: String,
    pub dies_at: Timestamp,
    /// Replaced by a newer code of the same trade.
    pub replaced: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OauthCode {
    pub wallet: Wallet,
    pub person: String,
    pub dies_at: Timestamp,
    pub used: bool,
}

impl Trade {
    /// Lets time do its work: Alipay closes at `time_expire`, `WeChat` after seven days.
    pub fn settle(&mut self, now: Timestamp) {
        if self.state != State::Waiting {
            return;
        }
        let end = match self.wallet {
            Wallet::Alipay if self.exists => self.time_expire,
            Wallet::Alipay => return,
            Wallet::Wechat => self.created_at.plus_ms(7 * DAY),
        };
        if now > end {
            self.state = State::Closed;
            self.closed_at = Some(end);
        }
    }

    pub fn refunded(&self) -> i64 {
        self.refunds
            .iter()
            .filter(|refund| refund.counts())
            .map(|refund| refund.amount)
            .sum()
    }

    /// Somebody opens the payment: binds the payer; at Alipay this makes the trade.
    pub fn begin(
        &mut self,
        person: &Person,
        now: Timestamp,
        new_trade_no: impl FnOnce() -> String,
    ) -> Result<(), Refusal> {
        self.settle(now);
        self.may_pay(person)?;
        if now > self.time_expire && self.begun_at.is_none() {
            return Err(Refusal::Expired);
        }
        self.buyer = Some(person.id.clone());
        if now <= self.time_expire {
            self.begun_at.get_or_insert(now);
        }
        if self.wallet == Wallet::Alipay {
            self.exists = true;
            if self.trade_no.is_none() {
                self.trade_no = Some(new_trade_no());
            }
        }
        Ok(())
    }

    fn may_pay(&self, person: &Person) -> Result<(), Refusal> {
        if person.wallet != self.wallet {
            return Err(Refusal::OtherWallet(self.wallet));
        }
        match self.state {
            State::Paid => return Err(Refusal::Paid),
            State::Closed => return Err(Refusal::Closed),
            State::Waiting => {}
        }
        if let Some(named) = &self.identity
            && *named != person.real_name()
        {
            return Err(Refusal::OtherPerson);
        }
        match &self.buyer {
            Some(buyer) if *buyer != person.id => Err(Refusal::OtherPayer),
            _ => Ok(()),
        }
    }

    /// The password is right: money moves. A payment begun in time may end a little after it.
    pub fn pay(
        &mut self,
        person: &Person,
        now: Timestamp,
        new_trade_no: impl FnOnce() -> String,
    ) -> Result<Capture, Refusal> {
        self.settle(now);
        self.may_pay(person)?;
        let begun = self.begun_at.ok_or(Refusal::NotBegun)?;
        if begun > self.time_expire || now > self.time_expire.plus_ms(PASSWORD_PAGE) {
            return Err(Refusal::Expired);
        }
        let trade_no = match &self.trade_no {
            Some(trade_no) => trade_no.clone(),
            None => new_trade_no(),
        };
        self.trade_no = Some(trade_no.clone());
        self.state = State::Paid;
        let capture = Capture {
            transaction_id: trade_no,
            amount: self.total,
            at: now,
            by: person.id.clone(),
        };
        self.captures.push(capture.clone());
        Ok(capture)
    }

    fn to_json(&self, now: Timestamp) -> Value {
        let refunds: Vec<Value> = self
            .refunds
            .iter()
            .map(|refund| {
                json!({
                    "number": refund.number, "refund_id": refund.id, "amount": refund.amount,
                    "status": refund.status(now), "accepted_at": refund.accepted_at, "done_at": refund.arrives_at(),
                    "by_console": refund.by_console,
                    "second_way": refund.second_way.as_ref().map(|way| &way.account),
                })
            })
            .collect();
        let notices: Vec<Value> = self
            .notices
            .iter()
            .map(|notice| {
                json!({
                    "id": notice.id, "event": notice.event, "acked": notice.acked,
                    "given_up": notice.given_up, "sent": notice.tries.len(), "tries": notice.tries,
                })
            })
            .collect();
        json!({
            "wallet": self.wallet, "out_trade_no": self.out_trade_no, "product": self.product,
            "state": self.state, "exists": self.exists, "total": self.total,
            "payable": self.state == State::Waiting && now <= self.time_expire,
            "time_expire": self.time_expire, "created_at": self.created_at, "closed_at": self.closed_at,
            "begun_at": self.begun_at, "buyer": self.buyer, "trade_no": self.trade_no,
            "captured": self.captures.iter().map(|capture| capture.amount).sum::<i64>(),
            "refunded": self.refunded(),
            "captures": self.captures, "refunds": refunds, "notices": notices,
        })
    }
}

/// All of it. Maps are ordered, so that two dumps of the same truth are the same bytes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Books {
    trades: BTreeMap<Wallet, BTreeMap<String, Trade>>,
    /// By `prepay_id`, `pr=` of a native code, Alipay's code token.
    tickets: BTreeMap<String, Ticket>,
    codes: BTreeMap<String, OauthCode>,
    /// Openids, buyer numbers and open ids that were handed out.
    payers: BTreeMap<String, Person2>,
    /// For readable, unique trade numbers.
    sequence: u64,
    pub(super) offset_ms: i64,
    /// What the bills are to say wrong.
    #[serde(default)]
    pub(super) plants: Vec<Planted>,
}

/// A person as the file has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Person2 {
    wallet: Wallet,
    id: String,
}

impl Books {
    pub fn trade(&self, wallet: Wallet, out_trade_no: &str) -> Option<&Trade> {
        self.trades.get(&wallet)?.get(out_trade_no)
    }

    pub fn trade_mut(&mut self, wallet: Wallet, out_trade_no: &str) -> Option<&mut Trade> {
        self.trades.get_mut(&wallet)?.get_mut(out_trade_no)
    }

    /// By our number, or by the provider's.
    pub fn trade_by_trade_no(&self, wallet: Wallet, trade_no: &str) -> Option<&Trade> {
        self.trades
            .get(&wallet)?
            .values()
            .find(|trade| trade.trade_no.as_deref() == Some(trade_no))
    }

    /// The trade with such a refund.
    pub fn refunding(
        &mut self,
        wallet: Wallet,
        wanted: impl Fn(&Refund) -> bool,
    ) -> Option<(&mut Trade, usize)> {
        self.trades
            .get_mut(&wallet)?
            .values_mut()
            .find_map(|trade| {
                let index = trade.refunds.iter().position(&wanted)?;
                Some((trade, index))
            })
    }

    pub fn insert(&mut self, trade: Trade) {
        self.trades
            .entry(trade.wallet)
            .or_default()
            .insert(trade.out_trade_no.clone(), trade);
    }

    pub fn trades(&self) -> impl Iterator<Item = &Trade> {
        self.trades.values().flat_map(BTreeMap::values)
    }

    pub fn trades_of(&self, wallet: Wallet) -> impl Iterator<Item = &Trade> {
        self.trades
            .get(&wallet)
            .into_iter()
            .flat_map(BTreeMap::values)
    }

    /// A code for a trade; the one before dies where the provider says so.
    pub fn issue(&mut self, token: String, ticket: Ticket, replaces: bool) {
        if replaces
            && let Some(trade) = self.trade_mut(ticket.wallet, &ticket.out_trade_no)
            && let Some(old) = trade.code.replace(token.clone())
            && let Some(old) = self.tickets.get_mut(&old)
        {
            old.replaced = true;
        }
        self.tickets.insert(token, ticket);
    }

    pub fn ticket(&self, token: &str) -> Option<&Ticket> {
        self.tickets.get(token)
    }

    /// The trade a code leads to, if the code still lives.
    pub fn redeem(&self, token: &str, now: Timestamp) -> Result<(Wallet, String), Refusal> {
        let ticket = self.tickets.get(token).ok_or(Refusal::Unknown)?;
        if ticket.replaced || now > ticket.dies_at {
            return Err(Refusal::CodeDead);
        }
        Ok((ticket.wallet, ticket.out_trade_no.clone()))
    }

    pub fn add_code(&mut self, code: String, entry: OauthCode) {
        self.codes.insert(code, entry);
    }

    pub fn code_mut(&mut self, code: &str) -> Option<&mut OauthCode> {
        self.codes.get_mut(code)
    }

    /// Remembers that this openid or user number stands for that person.
    pub fn introduce(&mut self, payer: String, person: &Person) {
        self.payers.insert(
            payer,
            Person2 {
                wallet: person.wallet,
                id: person.id.clone(),
            },
        );
    }

    pub fn payer(&self, payer: &str) -> Option<Person> {
        self.payers.get(payer).map(|person| Person {
            id: person.id.clone(),
            wallet: person.wallet,
        })
    }

    pub fn next_number(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    pub fn settle(&mut self, now: Timestamp) {
        for trade in self.trades.values_mut().flat_map(BTreeMap::values_mut) {
            trade.settle(now);
        }
    }

    /// `GET /control/books`.
    pub fn to_json(&self, now: Timestamp) -> Value {
        json!({
            "now": now,
            "trades": self.trades().map(|trade| trade.to_json(now)).collect::<Vec<_>>(),
        })
    }

    pub fn trade_json(&self, wallet: Wallet, out_trade_no: &str, now: Timestamp) -> Option<Value> {
        self.trade(wallet, out_trade_no)
            .map(|trade| trade.to_json(now))
    }
}
