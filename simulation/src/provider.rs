//! The providers, with books of their own. They know nothing of orders, only of their numbers.

use std::collections::BTreeMap;

use crate::order::{
    CloseAnswer, Fen, Product, QueryAnswer, RefundAnswer, RefundId, Timestamp, TradeAnswer, Wallet,
};

/// Our number of a trade: which order, which attempt.
pub(crate) type Number = (usize, u16);

/// What the order call carries; equal for every repetition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TradeRequest {
    pub product: Product,
    pub amount: Fen,
    pub time_expire: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// A link or code that nobody opened: the provider knows of no trade.
    Handed,
    Unpaid,
    Closed,
    Paid,
}

/// A trade, or a code that may become one.
#[derive(Debug)]
pub(crate) struct Trade {
    pub request: TradeRequest,
    pub made_at: Timestamp,
    pub standing: Standing,
    /// Payers at the password page.
    pub paying: u8,
    /// It was closed, and can be paid all the same.
    pub undead: bool,
    pub close_refused: bool,
    pub payment: Option<Payment>,
    pub refunds: BTreeMap<Box<str>, Refund>,
}

#[derive(Clone, Debug)]
pub(crate) struct Payment {
    pub transaction_id: Box<str>,
    pub application: Box<str>,
    pub amount: Fen,
    pub currency: &'static str,
    pub at: Timestamp,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Refund {
    pub amount: Fen,
    pub standing: RefundStanding,
}

/// How a refund ends, or how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefundStanding {
    /// On its way, until it turns into what it will be.
    Processing,
    /// The payer's account cannot take it.
    Abnormal,
    Succeeded,
    Failed,
}

/// One account at one provider.
#[derive(Debug)]
pub(crate) struct Account {
    pub wallet: Wallet,
    pub trades: BTreeMap<Number, Trade>,
    pub down_until: Timestamp,
    /// The school's balance is too small for refunds.
    pub poor_until: Timestamp,
}

/// What a close met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseMet {
    Nothing,
    TooEarly,
    Payer,
    Payment,
    Done,
}

impl Trade {
    pub fn new(request: TradeRequest, now: Timestamp) -> Self {
        Self {
            request,
            made_at: now,
            standing: if request.product.trade_appears_later() {
                Standing::Handed
            } else {
                Standing::Unpaid
            },
            paying: 0,
            undead: false,
            close_refused: false,
            payment: None,
            refunds: BTreeMap::new(),
        }
    }

    /// Could somebody pay it from now on? `link_extra_ms`: how long links outlive their end.
    pub fn is_payable(&self, now: Timestamp, link_extra_ms: i64) -> bool {
        match self.standing {
            Standing::Handed => now < self.request.time_expire.plus_ms(link_extra_ms),
            Standing::Unpaid => now < self.request.time_expire || self.paying > 0,
            Standing::Closed => self.undead,
            Standing::Paid => false,
        }
    }

    /// A payer opens it: from now on at the password page. `false`: nothing to pay.
    pub fn open(&mut self, now: Timestamp, link_extra_ms: i64) -> bool {
        let opens = match self.standing {
            Standing::Handed => now < self.request.time_expire.plus_ms(link_extra_ms),
            Standing::Unpaid => now < self.request.time_expire,
            Standing::Closed => self.undead,
            Standing::Paid => false,
        };
        if opens {
            self.paying = self.paying.saturating_add(1);
            if self.standing == Standing::Handed {
                self.standing = Standing::Unpaid;
            }
        }
        opens
    }

    /// The payer leaves the password page, or has paid: `true` if the money moved.
    pub fn leave(&mut self, pays: Option<Payment>) -> bool {
        self.paying = self.paying.saturating_sub(1);
        let Some(payment) = pays else { return false };
        let takes = match self.standing {
            Standing::Unpaid => true,
            Standing::Closed => self.undead,
            Standing::Handed | Standing::Paid => false,
        };
        if takes {
            self.standing = Standing::Paid;
            self.payment = Some(payment);
        }
        takes
    }

    /// What has gone back: merchants' refunds, and everything else.
    pub fn refunded(&self) -> (Fen, Fen) {
        let sum = |merchants: bool| {
            let done = self.refunds.iter().filter(|(number, refund)| {
                refund.standing == RefundStanding::Succeeded
                    && number.starts_with(RefundId::PREFIX) == merchants
            });
            Fen::sum(done.map(|(_, refund)| refund.amount)).unwrap_or(Fen::MAX_ORDER)
        };
        (sum(true), sum(false))
    }

    /// Refunds that stand or may yet.
    pub fn claimed_back(&self) -> Fen {
        let standing = self
            .refunds
            .values()
            .filter(|refund| refund.standing != RefundStanding::Failed);
        Fen::sum(standing.map(|refund| refund.amount)).unwrap_or(Fen::MAX_ORDER)
    }
}

impl Account {
    pub const fn new(wallet: Wallet) -> Self {
        Self {
            wallet,
            trades: BTreeMap::new(),
            down_until: Timestamp::from_millis(0),
            poor_until: Timestamp::from_millis(0),
        }
    }

    /// The order call. `None` in the answer's place: it differs from the first one.
    pub fn make(
        &mut self,
        number: Number,
        request: TradeRequest,
        now: Timestamp,
    ) -> Option<TradeAnswer> {
        let handle = || TradeAnswer::Made {
            handle: if request.product == Product::AlipayWap {
                "".into()
            } else {
                "handle".into()
            },
        };
        match self.trades.get(&number) {
            None if request.time_expire <= now => Some(TradeAnswer::Refused {
                code: "EXPIRED".into(),
            }),
            None => {
                self.trades.insert(number, Trade::new(request, now));
                Some(handle())
            }
            Some(trade) if trade.request != request => None,
            Some(trade) => Some(match trade.standing {
                Standing::Handed | Standing::Unpaid => handle(),
                // It exists and is over: no proof that there is none.
                Standing::Closed | Standing::Paid => TradeAnswer::Unknown,
            }),
        }
    }

    /// Everything but a payment; that is in the trade.
    pub fn query(&self, number: Number) -> QueryAnswer {
        match self.trades.get(&number).map(|trade| trade.standing) {
            None | Some(Standing::Handed) => QueryAnswer::NotFound,
            Some(Standing::Unpaid) => QueryAnswer::Unpaid,
            Some(Standing::Closed) => QueryAnswer::Closed,
            Some(Standing::Paid) => QueryAnswer::Unknown,
        }
    }

    pub fn close(
        &mut self,
        number: Number,
        now: Timestamp,
        close_after_ms: i64,
        paying_holds: bool,
    ) -> (CloseAnswer, CloseMet) {
        let Some(trade) = self.trades.get_mut(&number) else {
            return (CloseAnswer::NotFound, CloseMet::Nothing);
        };
        match trade.standing {
            Standing::Handed => (CloseAnswer::NotFound, CloseMet::Nothing),
            Standing::Paid => (CloseAnswer::AlreadyPaid, CloseMet::Payment),
            Standing::Closed => (CloseAnswer::Closed, CloseMet::Done),
            Standing::Unpaid if now.since(trade.made_at) < close_after_ms => {
                trade.close_refused = true;
                (CloseAnswer::NotYet, CloseMet::TooEarly)
            }
            Standing::Unpaid if trade.paying > 0 && paying_holds => {
                trade.close_refused = true;
                (CloseAnswer::NotYet, CloseMet::Payer)
            }
            Standing::Unpaid => {
                trade.standing = Standing::Closed;
                (CloseAnswer::Closed, CloseMet::Done)
            }
        }
    }

    /// Gives money back under a number: the same number is the same refund. `fate`: how a new one
    /// stands at first. The second value: it is new.
    pub fn refund(
        &mut self,
        number: Number,
        refund_no: &str,
        amount: Fen,
        fate: RefundStanding,
        now: Timestamp,
    ) -> (RefundAnswer, bool) {
        let poor = self.poor_until > now;
        let Some(trade) = self.trades.get_mut(&number) else {
            return (RefundAnswer::Failed, false);
        };
        let Some(payment) = &trade.payment else {
            return (RefundAnswer::Failed, false);
        };
        if let Some(refund) = trade.refunds.get(refund_no) {
            return (refund.answer(), false);
        }
        let left = payment.amount.checked_sub(trade.claimed_back());
        if left.is_none_or(|left| left < amount) {
            return (RefundAnswer::Failed, false);
        }
        if poor {
            return (RefundAnswer::Underfunded, false);
        }
        let standing = fate;
        let refund = Refund { amount, standing };
        trade.refunds.insert(refund_no.into(), refund);
        (refund.answer(), true)
    }

    /// Another destination for an abnormal refund. The second value: it is on its way again.
    pub fn repair(&mut self, number: Number, refund_no: &str) -> (RefundAnswer, bool) {
        let refund = self
            .trades
            .get_mut(&number)
            .and_then(|trade| trade.refunds.get_mut(refund_no));
        let Some(refund) = refund else {
            return (RefundAnswer::Unknown, false);
        };
        let repaired = refund.standing == RefundStanding::Abnormal;
        if repaired {
            refund.standing = RefundStanding::Processing;
        }
        (refund.answer(), repaired)
    }
}

impl Refund {
    pub const fn answer(self) -> RefundAnswer {
        match self.standing {
            RefundStanding::Processing => RefundAnswer::Processing,
            RefundStanding::Abnormal => RefundAnswer::Abnormal,
            RefundStanding::Succeeded => RefundAnswer::Succeeded,
            RefundStanding::Failed => RefundAnswer::Failed,
        }
    }
}
