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
//!   told again, and it fits   suspense +a   provider  −a   (the first telling is taken back)
//! ```
//!
//! So `provider` is what the school's account there has taken and not given back, before its fees.

use std::fmt;

use super::event::Event;
use super::ids::{AccountId, RefundId};
use super::money::Fen;
use super::refunds::RefundCause;
use super::state::{Capture, CaptureStanding, Mismatch, MismatchStanding, Order, SettleBy};

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
    movements(after, event)
        .into_iter()
        .filter_map(|movement| {
            let less = Fen::ZERO.checked_sub(movement.amount)?;
            let line = |book, amount| Line { book, amount };
            Some([
                line(movement.gains, movement.amount),
                line(movement.loses, less),
            ])
        })
        .flatten()
        .collect()
}

struct Movement {
    gains: Book,
    loses: Book,
    amount: Fen,
}

fn movements(after: &Order, event: &Event) -> Vec<Movement> {
    let moved = match event {
        Event::MoneyCaptured { capture } => {
            return captured(after, capture)
                .into_iter()
                .chain(corrected(after, capture))
                .collect();
        }
        Event::MoneyMismatched { mismatch } => mismatched(after, mismatch),
        Event::RefundSucceeded { refund }
        | Event::SurplusRefunded { refund }
        | Event::MismatchRefunded { refund } => given_back(after, *refund),
        Event::MismatchSettled {
            mismatch,
            by: SettleBy::Outside,
            ..
        } => settled_outside(after, usize::from(*mismatch)),
        _ => None,
    };
    moved.into_iter().collect()
}

fn captured(after: &Order, capture: &Capture) -> Option<Movement> {
    let trade = after.attempt(capture.attempt)?.trade.as_ref()?;
    Some(Movement {
        gains: Book::Provider(trade.account.clone()),
        loses: match capture.standing {
            CaptureStanding::Kept => Book::Merchant,
            CaptureStanding::Surplus { .. } => Book::Surplus,
        },
        amount: capture.amount,
    })
}

/// The same transaction was told of before in a way that did not fit, and counted: not twice.
fn corrected(after: &Order, capture: &Capture) -> Option<Movement> {
    let told = after
        .mismatches
        .iter()
        .find(|mismatch| mismatch.transaction_id == capture.transaction_id)
        .filter(|told| told.counts())?;
    let gains = match told.standing {
        MismatchStanding::Waiting | MismatchStanding::Proposed { .. } => Book::Suspense,
        MismatchStanding::SettledOutside { .. } => Book::Outside,
        // What goes back leaves the provider by itself.
        MismatchStanding::GoingBack { .. } => return None,
    };
    Some(Movement {
        gains,
        loses: Book::Provider(told.account.clone()?),
        amount: told.amount,
    })
}

fn mismatched(after: &Order, mismatch: &Mismatch) -> Option<Movement> {
    let place = after.mismatches.iter().rposition(|known| {
        known.transaction_id == mismatch.transaction_id
            && known.heard_at == mismatch.heard_at
            && known.field == mismatch.field
    })?;
    after.mismatch_counts(place).then_some(())?;
    Some(Movement {
        gains: Book::Provider(mismatch.account.clone()?),
        loses: Book::Suspense,
        amount: mismatch.amount,
    })
}

fn settled_outside(after: &Order, place: usize) -> Option<Movement> {
    let mismatch = after.mismatches.get(place)?;
    (after.mismatch_counts(place) && mismatch.account.is_some()).then_some(Movement {
        gains: Book::Suspense,
        loses: Book::Outside,
        amount: mismatch.amount,
    })
}

fn given_back(after: &Order, refund: RefundId) -> Option<Movement> {
    let refund = after.refund(refund)?;
    Some(Movement {
        gains: match refund.cause {
            RefundCause::Merchant => Book::Merchant,
            RefundCause::Surplus => Book::Surplus,
            RefundCause::Mismatch => Book::Suspense,
        },
        loses: Book::Provider(refund.account?.clone()),
        amount: refund.amount,
    })
}
