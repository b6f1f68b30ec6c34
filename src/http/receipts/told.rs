//! What a receipt and its check say alike of a paid order.

use crate::http::Deps;
use crate::http::cashier::times::Zone;
use crate::http::problem::Problem;
use crate::http::refusal;
use crate::http::words::Words;
use crate::order::{Capture, Fen, Order, RefundStanding};
use crate::store::{MaskedPayer, Merchant, StoredOrder};
use crate::view::PERSONAL_SLOT;

/// How much of the payment is still with the school.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Paid,
    PartBack,
    AllBack,
}

impl Mark {
    fn of(order: &Order) -> Self {
        match order.refund_status() {
            "full" => Self::AllBack,
            "partial" => Self::PartBack,
            _ => Self::Paid,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Paid => "paid",
            Self::PartBack => "part",
            Self::AllBack => "back",
        }
    }

    pub const fn word(self, words: &'static Words) -> &'static str {
        match self {
            Self::Paid => words.mark_paid,
            Self::PartBack => words.mark_part,
            Self::AllBack => words.mark_back,
        }
    }
}

/// One refund of the payment.
#[derive(Clone, Debug)]
pub struct RefundLine {
    pub at: String,
    pub state: &'static str,
    pub amount: String,
}

/// The order, told.
#[derive(Clone, Debug)]
pub struct Told {
    pub number: String,
    pub payee: String,
    pub subject: String,
    pub amount: String,
    pub paid_at: String,
    pub mark: Mark,
    pub refunds: Vec<RefundLine>,
    /// What is left of the payment, where something went back.
    pub rest: Option<String>,
}

impl Told {
    /// `payment` is the capture that pays the order.
    pub fn of(
        stored: &StoredOrder,
        payment: &Capture,
        merchant: Option<&Merchant>,
        words: &'static Words,
        zone: Zone,
    ) -> Self {
        let order = &stored.order;
        let refunds: Vec<RefundLine> = order
            .refunds
            .iter()
            .filter_map(|refund| {
                let (at, state) = match refund.standing {
                    RefundStanding::Succeeded { at } => (at, words.refund_done),
                    RefundStanding::Pending { .. } | RefundStanding::Processing { .. } => {
                        (refund.requested_at, words.refunding)
                    }
                    RefundStanding::Abnormal { since, .. } => (since, words.refund_stuck),
                    // Between the school and its provider: the payer's money stayed where it was.
                    RefundStanding::Failed { .. } => return None,
                };
                Some(RefundLine {
                    at: zone.date_and_minute(at),
                    state,
                    amount: refund.amount.to_yuan(),
                })
            })
            .collect();
        let rest = payment.amount.checked_sub(order.amount_refunded());
        Self {
            number: order.id.ulid().to_string(),
            payee: merchant
                .map_or(words.service, |known| &known.display_name)
                .to_owned(),
            subject: stored.snapshot.subject.clone(),
            amount: payment.amount.to_string(),
            paid_at: zone.date_and_clock(payment.succeeded_at),
            mark: Mark::of(order),
            rest: (!refunds.is_empty()).then(|| rest.unwrap_or(Fen::ZERO).to_string()),
            refunds,
        }
    }
}

/// The payer as shown; nothing once the order's people were erased, though an actor may remember them.
pub async fn masks(deps: &Deps, stored: &StoredOrder) -> Result<MaskedPayer, Problem> {
    let kept = deps
        .store
        .personal(stored.order.id, PERSONAL_SLOT)
        .await
        .map_err(|error| refusal::store_failed(&error))?;
    Ok(if kept.is_some_and(|sealed| !sealed.is_erased()) {
        stored.snapshot.payer_masked.clone()
    } else {
        MaskedPayer::default()
    })
}

/// The school, for its name.
pub async fn merchant(deps: &Deps, stored: &StoredOrder) -> Result<Option<Merchant>, Problem> {
    deps.store
        .merchant(stored.order.terms.merchant)
        .await
        .map_err(|error| refusal::store_failed(&error))
}

/// A check code in groups, to be read aloud and typed.
pub fn grouped(code: &str) -> String {
    let signs: Vec<char> = code.chars().collect();
    let groups: Vec<String> = signs
        .chunks(4)
        .map(|group| group.iter().collect())
        .collect();
    groups.join("-")
}
