//! The ledger: every movement of money as lines that sum to zero (M9), derived from events, so that
//! nothing can move without them. A correction is a later entry, never an edit.
//!
//! ```text
//!   captured, owed            provider +a   merchant  −a
//!   captured, not owed        provider +a   surplus   −a
//!   captured, does not fit    provider +a   suspense  −a
//!   given back: a refund      merchant +a   provider  −a
//!               a surplus     surplus  +a   provider  −a
//!               an odd one    suspense +a   provider  −a
//!   settled outside           suspense +a   outside   −a
//! ```
//!
//! So `provider` is what the school's account there has taken and not given back, before its fees.

use std::fmt;

use super::event::Event;
use super::ids::AccountId;
use super::money::Fen;
use super::refunds::RefundCause;
use super::state::{CaptureStanding, Order, SettleBy};

/// Whose money a line is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Book {
    /// At the provider, in one school's account there.
    Provider(AccountId),
    /// Owed to the merchant for fees that are paid.
    Merchant,
    /// Taken, not owed, on its way back.
    Surplus,
    /// Taken, and does not fit what was asked for: waits for two people.
    Suspense,
    /// Settled by people, past these books.
    Outside,
}

impl fmt::Display for Book {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Provider(account) => write!(formatter, "provider:{account}"),
            Self::Merchant => formatter.write_str("merchant"),
            Self::Surplus => formatter.write_str("surplus"),
            Self::Suspense => formatter.write_str("suspense"),
            Self::Outside => formatter.write_str("outside"),
        }
    }
}

/// One line: positive where the book gains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub book: Book,
    pub amount: Fen,
}

/// The lines of one event; `after` is the order as its commit leaves it. Empty where no money moves.
pub fn lines(after: &Order, event: &Event) -> Vec<Line> {
    let Some((gains, loses, amount)) = movement(after, event) else {
        return Vec::new();
    };
    let Some(less) = Fen::ZERO.checked_sub(amount) else {
        return Vec::new();
    };
    vec![
        Line {
            book: gains,
            amount,
        },
        Line {
            book: loses,
            amount: less,
        },
    ]
}

/// What gains, what loses, how much.
fn movement(after: &Order, event: &Event) -> Option<(Book, Book, Fen)> {
    match event {
        Event::MoneyCaptured { capture } => {
            let trade = after.attempt(capture.attempt)?.trade.as_ref()?;
            let owner = match capture.standing {
                CaptureStanding::Kept => Book::Merchant,
                CaptureStanding::Surplus { .. } => Book::Surplus,
            };
            Some((Book::Provider(trade.account.clone()), owner, capture.amount))
        }
        Event::MoneyMismatched { mismatch } => {
            let account = mismatch.account.clone().filter(|_| mismatch.counts())?;
            Some((Book::Provider(account), Book::Suspense, mismatch.amount))
        }
        Event::RefundSucceeded { refund }
        | Event::SurplusRefunded { refund }
        | Event::MismatchRefunded { refund } => {
            let refund = after.refund(*refund)?;
            let owner = match refund.cause {
                RefundCause::Merchant => Book::Merchant,
                RefundCause::Surplus => Book::Surplus,
                RefundCause::Mismatch => Book::Suspense,
            };
            Some((
                owner,
                Book::Provider(refund.account?.clone()),
                refund.amount,
            ))
        }
        Event::MismatchSettled {
            mismatch,
            by: SettleBy::Outside,
            ..
        } => {
            let mismatch = after
                .mismatches
                .get(usize::from(*mismatch))
                .filter(|mismatch| mismatch.counts())?;
            Some((Book::Suspense, Book::Outside, mismatch.amount))
        }
        _ => None,
    }
}
