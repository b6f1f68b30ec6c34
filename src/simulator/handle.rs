//! The same levers as `/control`, for tests in the same process.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::bills::planted::{self, Ground};
use super::bills::{Plant, PlantError, Planted};
use super::booking::{self, Booking, ConsoleRefund};
use super::books::{Books, Capture, Refund, Refusal, Trade};
use super::crypto::KeyError;
use super::faults::{Fault, Rule};
use super::options::Options;
use super::people::{FACES, Person, Wallet};
use super::world::World;
use crate::order::Timestamp;

/// A cheap clone of the levers.
#[derive(Clone, Debug)]
pub struct Handle {
    world: Arc<World>,
}

/// Remembers every number a person goes by.
pub(super) fn introduce(books: &mut Books, options: &Options, person: &Person) {
    match person.wallet {
        Wallet::Wechat => books.introduce(person.openid(&options.wechat.appid), person),
        Wallet::Alipay => {
            books.introduce(person.buyer_id(), person);
            books.introduce(person.alipay_open_id(&options.alipay.app_id), person);
        }
    }
}

impl Handle {
    pub(super) const fn new(world: Arc<World>) -> Self {
        Self { world }
    }

    pub fn origin(&self) -> &str {
        &self.world.origin
    }

    /// The simulator's own time.
    pub fn now(&self) -> Timestamp {
        self.world.now()
    }

    /// Moves the simulator's clock against the one it was started with.
    pub async fn advance_clock(&self, millis: i64) -> Timestamp {
        let now = self.world.advance_clock(millis);
        self.world.books().settle(now);
        self.world.persist().await;
        now
    }

    /// The provider's truth, as `GET /control/books` shows it.
    pub fn books(&self) -> Value {
        let now = self.world.now();
        let mut books = self.world.books();
        books.settle(now);
        books.to_json(now)
    }

    pub fn trade(&self, wallet: Wallet, out_trade_no: &str) -> Option<Trade> {
        let now = self.world.now();
        let mut books = self.world.books();
        let trade = books.trade_mut(wallet, out_trade_no)?;
        trade.settle(now);
        Some(trade.clone())
    }

    /// Makes a person known, with openid (`WeChat`) or 2088 number (Alipay).
    pub fn meet(&self, wallet: Wallet, user: &str) -> Option<(Person, String)> {
        let person = Person::new(wallet, user)?;
        introduce(&mut self.world.books(), &self.world.options, &person);
        let payer = match wallet {
            Wallet::Wechat => person.openid(&self.world.options.wechat.appid),
            Wallet::Alipay if self.world.options.alipay.open_ids => {
                person.alipay_open_id(&self.world.options.alipay.app_id)
            }
            Wallet::Alipay => person.buyer_id(),
        };
        Some((person, payer))
    }

    /// Scans a native code (`weixin://…`, `https://qr.alipay.com/…`): binds the payer.
    pub async fn scan(&self, content: &str, person: &Person) -> Result<Trade, Refusal> {
        let token = super::wallet::token_of(content).ok_or(Refusal::Unknown)?;
        let (wallet, number) = {
            let books = self.world.books();
            books.redeem(&token, self.world.now())?
        };
        self.open(wallet, &number, person).await
    }

    /// Opens a trade in the wallet (the password page), without a code.
    pub async fn open(
        &self,
        wallet: Wallet,
        out_trade_no: &str,
        person: &Person,
    ) -> Result<Trade, Refusal> {
        let trade = self.world.begin(wallet, out_trade_no, person)?;
        self.world.persist().await;
        Ok(trade)
    }

    /// Opens and pays. The notice follows after `notice_delay`, or as the options say.
    pub async fn pay(
        &self,
        wallet: Wallet,
        out_trade_no: &str,
        person: &Person,
        notice_delay: Option<Duration>,
    ) -> Result<Capture, Refusal> {
        self.world.begin(wallet, out_trade_no, person)?;
        self.world
            .pay(wallet, out_trade_no, person, notice_delay)
            .await
    }

    /// Pays what was opened before: allowed a little beyond `time_expire`, as the providers do.
    pub async fn pay_late(
        &self,
        wallet: Wallet,
        out_trade_no: &str,
        person: &Person,
        notice_delay: Option<Duration>,
    ) -> Result<Capture, Refusal> {
        self.world
            .pay(wallet, out_trade_no, person, notice_delay)
            .await
    }

    /// The payer leaves the password page. The trade stays bound to them.
    pub async fn give_up(&self, wallet: Wallet, out_trade_no: &str) -> Result<Trade, Refusal> {
        let trade = {
            let mut books = self.world.books();
            let trade = books
                .trade_mut(wallet, out_trade_no)
                .ok_or(Refusal::Unknown)?;
            trade.begun_at = None;
            trade.clone()
        };
        self.world.persist().await;
        Ok(trade)
    }

    /// Sends every notice of a trade once more, on a fresh schedule.
    pub fn redeliver(&self, wallet: Wallet, out_trade_no: &str) -> usize {
        let ids: Vec<String> = {
            let mut books = self.world.books();
            let Some(trade) = books.trade_mut(wallet, out_trade_no) else {
                return 0;
            };
            trade
                .notices
                .iter_mut()
                .map(|notice| {
                    notice.given_up = false;
                    notice.id.clone()
                })
                .collect()
        };
        for id in &ids {
            self.world
                .dispatch(wallet, out_trade_no, id, Duration::ZERO);
        }
        ids.len()
    }

    /// Sends, at once and to the trade's address, a notice that claims a payment that never was.
    /// The status of the answer, and whether it was an acknowledgement.
    pub async fn forge(
        &self,
        wallet: Wallet,
        out_trade_no: &str,
        fault: Fault,
    ) -> Option<(Option<u16>, bool)> {
        super::control::forge(&self.world, wallet, out_trade_no, fault).await
    }

    /// Books payments and refunds at a stroke, as if they had come over the wire; nobody is told. Ends
    /// at the first that cannot be. The captures, in order.
    pub async fn book(
        &self,
        bookings: impl IntoIterator<Item = Booking>,
    ) -> Result<Vec<Capture>, Refusal> {
        let booked = booking::book(&self.world, bookings);
        self.world.persist().await;
        booked
    }

    /// Somebody refunds by hand in the merchant's console.
    pub async fn refund_by_hand(&self, asked: &ConsoleRefund) -> Result<Refund, Refusal> {
        let (refund, notice) = booking::refund_by_hand(&self.world, asked)?;
        self.world.persist().await;
        if let Some(id) = notice {
            let options = &self.world.options;
            let wait = Duration::from_millis(options.refund_delay_ms + options.notify_delay_ms);
            self.world
                .dispatch(asked.wallet, &asked.out_trade_no, &id, wait);
        }
        Ok(refund)
    }

    /// Makes a bill wrong in one way.
    pub async fn plant(&self, plant: Plant) -> Result<Planted, PlantError> {
        let options = &self.world.options;
        let wallet = plant.wallet;
        let new_number = || {
            self.world
                .trade_no(wallet, self.world.random.below(1_000_000))
        };
        let ground = match wallet {
            Wallet::Wechat => Ground {
                rate: options.wechat.fee_rate,
                appid: &options.wechat.appid,
                mchid: &options.wechat.mchid,
                new_number: &new_number,
            },
            Wallet::Alipay => Ground {
                rate: options.alipay.fee_rate,
                appid: &options.alipay.app_id,
                mchid: &options.alipay.seller_id,
                new_number: &new_number,
            },
        };
        let planted = planted::plant(&mut self.world.books(), plant, &ground);
        self.world.persist().await;
        planted
    }

    /// Every difference in force, and how often a bill carried it.
    pub fn planted(&self) -> Vec<Planted> {
        self.world.books().plants.clone()
    }

    /// The bills tell the truth again.
    pub async fn clear_plants(&self) {
        self.world.books().plants.clear();
        self.world.persist().await;
    }

    /// No callback comes any more, of one wallet or of both, for one order or for all; queries answer
    /// as ever. `silent: false` takes it back, and the schedules go on.
    pub fn silence(&self, wallet: Option<Wallet>, out_trade_no: Option<&str>, silent: bool) {
        let mut faults = self.world.faults();
        for wallet in wallet.map_or_else(|| vec![Wallet::Wechat, Wallet::Alipay], |one| vec![one]) {
            let operation = format!("{}.notice", wallet.as_str());
            faults.silence(&operation, out_trade_no, silent);
        }
    }

    pub fn add_fault(&self, rule: Rule) {
        self.world.faults().add(rule);
    }

    pub fn clear_faults(&self) {
        self.world.faults().clear();
    }

    /// With `hits`, spent rules included.
    pub fn faults(&self) -> Vec<Rule> {
        self.world.faults().rules().to_vec()
    }

    /// A new `WeChat` platform certificate signs from now on. Its serial number.
    pub fn rotate_wechat_certificate(&self) -> Result<String, KeyError> {
        self.world
            .wechat
            .rotate(&*self.world.clock, &*self.world.random)
    }

    /// `http://host:port` of a person's built-in browser.
    pub fn browser_origin(&self, user: &str) -> Option<String> {
        super::browser::origin(&self.world, user)
    }

    /// Whose wallet this is, and who pays if nobody is named: the bound buyer, else the first face.
    pub(super) fn find(
        &self,
        wallet: Option<Wallet>,
        out_trade_no: &str,
        user: Option<&str>,
    ) -> Option<(Wallet, Person)> {
        let books = self.world.books();
        let wallet = wallet
            .or_else(|| user.and_then(Person::face).map(|person| person.wallet))
            .or_else(|| {
                [Wallet::Wechat, Wallet::Alipay]
                    .into_iter()
                    .find(|wallet| books.trade(*wallet, out_trade_no).is_some())
            })?;
        let user = user.map(str::to_owned).or_else(|| {
            books
                .trade(wallet, out_trade_no)
                .and_then(|trade| trade.buyer.clone())
        });
        let user = user.or_else(|| {
            FACES
                .iter()
                .find(|(_, face, _)| *face == wallet)
                .map(|(id, ..)| (*id).to_owned())
        })?;
        Some((wallet, Person::new(wallet, &user)?))
    }
}
