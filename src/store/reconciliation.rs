//! What reconciliation asks of the store and leaves in it: our captures and refunds of a day, its runs,
//! and the verdict on every line of the provider's bill and every row of ours.

use std::fmt;

use async_trait::async_trait;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::{RefundRow, StoreError};
use crate::order::{AccountId, AttemptNumber, Fen, MerchantId, OrderId, Timestamp};

/// Reads for reconciliation. What it writes goes through `Store::commit` like everything else
/// ([`super::Write::Reconciliation`]).
#[async_trait]
pub trait Reconciliations {
    /// Captures of one account by their success time, `window.from` included and `window.until` not,
    /// ordered by time and transaction, past `after` (the last one of the page before).
    async fn captures_between(
        &self,
        account: &AccountId,
        window: Window,
        after: Option<(Timestamp, Box<str>)>,
        limit: usize,
    ) -> Result<Vec<CaptureRow>, StoreError>;
    /// Those of these transactions that are recorded for the account.
    async fn captures_known(
        &self,
        account: &AccountId,
        transactions: Vec<Box<str>>,
    ) -> Result<Vec<CaptureRow>, StoreError>;
    /// Refunds of one account that ended within the window, ordered by that time and their number,
    /// past `after`.
    async fn refunds_between(
        &self,
        account: &AccountId,
        window: Window,
        after: Option<(Timestamp, Box<str>)>,
        limit: usize,
    ) -> Result<Vec<RefundRow>, StoreError>;
    /// Those of these numbers under which a refund of the account was intended.
    async fn refunds_known(
        &self,
        account: &AccountId,
        numbers: Vec<Box<str>>,
    ) -> Result<Vec<RefundRow>, StoreError>;
    /// Runs, the latest date and the latest run first; of every account where none is named.
    async fn reconciliation_runs(
        &self,
        account: Option<&AccountId>,
        from: Date,
        to: Date,
    ) -> Result<Vec<Run>, StoreError>;
    /// Rows of one run by their number, at most `filter.limit`.
    async fn reconciliation_rows(&self, filter: &RowFilter) -> Result<Vec<Row>, StoreError>;
    /// Those of these keys ([`Row::key`]) whose row stands in the result of another date.
    async fn reconciled_elsewhere(
        &self,
        account: &AccountId,
        date: Date,
        keys: Vec<Box<str>>,
    ) -> Result<Vec<Box<str>>, StoreError>;
}

/// From an instant to another, the second not included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub from: Timestamp,
    pub until: Timestamp,
}

impl Window {
    pub fn has(self, at: Timestamp) -> bool {
        self.from <= at && at < self.until
    }

    /// Longer by so much at both ends.
    #[must_use]
    pub const fn widened(self, millis: i64) -> Self {
        Self {
            from: self.from.minus_ms(millis),
            until: self.until.plus_ms(millis),
        }
    }
}

/// A capture of ours, and whose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureRow {
    pub transaction_id: Box<str>,
    pub order: OrderId,
    pub attempt: AttemptNumber,
    pub merchant: MerchantId,
    pub amount: Fen,
    pub succeeded_at: Timestamp,
}

/// A closed set of words, the same in columns, JSON and labels.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$word_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$word_doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// What came of comparing.
    Verdict {
        Matched = "matched",
        /// A row of ours that the bill does not have.
        OnlyHere = "only_here",
        /// A line of the bill without a row of ours.
        OnlyThere = "only_there",
        /// Both are there and do not agree.
        Different = "different",
    }
}

words! {
    /// What a row is about.
    RowKind {
        Payment = "payment",
        Refund = "refund",
        /// From here on: movements of the account's balance against the lines of the trade bill.
        PaymentFlow = "payment_flow",
        RefundFlow = "refund_flow",
        FeeFlow = "fee_flow",
        Balance = "balance",
    }
}

words! {
    /// In what two sides differ.
    Field {
        /// Our number of the trade: the transaction is of another one.
        Number = "number",
        /// The provider's number: another transaction is recorded for this trade.
        Transaction = "transaction",
        Amount = "amount",
        Currency = "currency",
        /// The trade was asked of another account.
        Account = "account",
        Application = "application",
        Status = "status",
        Time = "time",
        /// The bill has it more than once.
        Duplicate = "duplicate",
    }
}

words! {
    /// How far a run is.
    RunState {
        Running = "running",
        /// The provider has not made the bill yet.
        Waiting = "waiting",
        Finished = "finished",
        Failed = "failed",
    }
}

words! {
    /// Who asked for a run.
    RunBy {
        Schedule = "schedule",
        Operator = "operator",
    }
}

/// One comparison of one account's day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub account: AccountId,
    /// The provider's day: Beijing's.
    pub date: Date,
    /// 1 for the first. The result of a date is that of its last finished run.
    pub run: u32,
    pub state: RunState,
    pub by: RunBy,
    pub started_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    /// Of a finished run: a line for each merchant with rows in it, one for rows of no order.
    pub tallies: Vec<Tally>,
    /// Of a finished run, where the provider offers a bill of fund flows.
    pub flows: Option<FlowSums>,
    /// Why it waits or failed; of a finished run, what could not be compared.
    pub why: Option<String>,
}

impl Run {
    /// All rows of the run.
    pub fn total(&self) -> Tally {
        let mut total = Tally::of(None);
        for tally in &self.tallies {
            total.add(tally);
        }
        total
    }
}

/// Rows of one merchant, or of no order, in numbers. Sums are in fen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub merchant: Option<MerchantId>,
    pub matched: u64,
    pub only_here: u64,
    pub only_there: u64,
    pub different: u64,
    /// Of the matched: those that were missing here until this run.
    pub repaired: u64,
    pub payments_here: i64,
    pub payments_there: i64,
    pub refunds_here: i64,
    pub refunds_there: i64,
    /// What the provider keeps, less what it gave back with refunds.
    pub fees_there: i64,
}

impl Tally {
    pub fn of(merchant: Option<MerchantId>) -> Self {
        Self {
            merchant,
            ..Self::default()
        }
    }

    pub const fn differences(&self) -> u64 {
        self.only_here + self.only_there + self.different
    }

    pub const fn rows(&self) -> u64 {
        self.matched + self.differences()
    }

    pub const fn with_verdict(&self, verdict: Verdict) -> u64 {
        match verdict {
            Verdict::Matched => self.matched,
            Verdict::OnlyHere => self.only_here,
            Verdict::OnlyThere => self.only_there,
            Verdict::Different => self.different,
        }
    }

    /// Counts one row in.
    pub fn count(&mut self, row: &Row) {
        match row.verdict {
            Verdict::Matched => self.matched += 1,
            Verdict::OnlyHere => self.only_here += 1,
            Verdict::OnlyThere => self.only_there += 1,
            Verdict::Different => self.different += 1,
        }
        self.repaired += u64::from(row.repaired);
        let (here, there) = match row.kind {
            RowKind::Payment => (&mut self.payments_here, &mut self.payments_there),
            RowKind::Refund => (&mut self.refunds_here, &mut self.refunds_there),
            // Movements are of lines that were counted already.
            _ => return,
        };
        let amount = |side: &Option<Side>| side.as_ref().map_or(0, |side| side.amount.get());
        *here = here.saturating_add(amount(&row.ours));
        *there = there.saturating_add(amount(&row.theirs));
        let fee = row.theirs.as_ref().and_then(|side| side.fee);
        self.fees_there = self.fees_there.saturating_add(fee.map_or(0, Fen::get));
    }

    pub fn add(&mut self, other: &Self) {
        self.matched += other.matched;
        self.only_here += other.only_here;
        self.only_there += other.only_there;
        self.different += other.different;
        self.repaired += other.repaired;
        for (sum, more) in [
            (&mut self.payments_here, other.payments_here),
            (&mut self.payments_there, other.payments_there),
            (&mut self.refunds_here, other.refunds_here),
            (&mut self.refunds_there, other.refunds_there),
            (&mut self.fees_there, other.fees_there),
        ] {
            *sum = sum.saturating_add(more);
        }
    }
}

/// Movements of the account's balance on one day, in fen; what leaves is negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowSums {
    pub payments: i64,
    pub refunds: i64,
    pub fees: i64,
    /// Withdrawals and whatever else.
    pub others: i64,
    /// Before the first and after the last movement, where the bill says.
    pub opening: Option<i64>,
    pub closing: Option<i64>,
}

/// One verdict, with both sides. A movement's own side stands in `theirs`, that of the trade bill in
/// `ours`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Its place in the result, from 1.
    pub number: u32,
    pub verdict: Verdict,
    pub kind: RowKind,
    pub field: Option<Field>,
    /// It was missing here, and was recorded by this run.
    pub repaired: bool,
    pub order: Option<OrderId>,
    pub merchant: Option<MerchantId>,
    pub ours: Option<Side>,
    pub theirs: Option<Side>,
}

impl Row {
    /// What names our side for good: the transaction of a payment, our number of a refund.
    pub fn key(&self) -> Option<&str> {
        let side = self.ours.as_ref()?;
        match self.kind {
            RowKind::Payment => Some(&side.transaction_id),
            RowKind::Refund => side.refund_no.as_deref(),
            _ => None,
        }
    }
}

/// One side of a comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// The line of the bill.
    pub line: Option<u32>,
    /// Our number of the trade, as written there.
    pub out_trade_no: Box<str>,
    pub transaction_id: Box<str>,
    pub refund_no: Option<Box<str>>,
    pub amount: Fen,
    pub at: Timestamp,
    pub status: Box<str>,
    pub fee: Option<Fen>,
    /// As the bill has it, where it is not CNY.
    pub currency: Option<Box<str>>,
}

/// Which rows are wanted.
#[derive(Clone, Debug)]
pub struct RowFilter {
    pub account: AccountId,
    pub date: Date,
    pub run: u32,
    /// Rows of this merchant and of no order; `None`: all.
    pub merchant: Option<MerchantId>,
    pub verdict: Option<Verdict>,
    /// Only rows past this one (the cursor).
    pub after: u32,
    pub limit: usize,
}

/// What a run writes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReconciliationWrite {
    /// A run begins: a new one, or one that waited, again. One that never ended has failed. Whoever
    /// writes this holds the account's lock.
    Started {
        account: AccountId,
        date: Date,
        run: u32,
        by: RunBy,
        at: Timestamp,
    },
    /// Inserts or replaces.
    Rows {
        account: AccountId,
        date: Date,
        run: u32,
        rows: Vec<Row>,
    },
    /// A running one ends. Finished, its rows are the result of the date from this commit on.
    Ended(Box<Run>),
    /// Deletes at most `most` rows of a run that is not the result.
    Cleared {
        account: AccountId,
        date: Date,
        run: u32,
        most: usize,
    },
}
