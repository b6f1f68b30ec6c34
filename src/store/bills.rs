//! What payers owe and may tick together: a bill is in at most one open order, and names the last one
//! that took it. How it stands is read from that order, never kept beside it.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{Item, MaskedPayer, StoreError};
use crate::order::{
    AttemptNumber, BillId, CloseReason, Fen, LatePayment, MerchantId, OrderId, Status, Timestamp,
    Wallet,
};
use crate::sealing::{Sealed, TokenHash};

/// Reads of bills and of the links that lead to them. What is written goes through `Store::commit`.
#[async_trait]
pub trait Bills {
    /// Those of these bills that are this merchant's; in no order.
    async fn bills_by_id(
        &self,
        merchant: MerchantId,
        bills: &[BillId],
    ) -> Result<Vec<StoredBill>, StoreError>;
    /// The merchant's bills under these numbers; in no order.
    async fn bills_by_number(
        &self,
        merchant: MerchantId,
        numbers: &[String],
    ) -> Result<Vec<StoredBill>, StoreError>;
    /// One merchant's, newest first, at most `limit`.
    async fn bills(&self, filter: &BillFilter) -> Result<Vec<StoredBill>, StoreError>;
    async fn payer_link(&self, hash: TokenHash) -> Result<Option<PayerLink>, StoreError>;
    /// Bills past `after` whose end (their cancelling, their deadline, or where they have none their
    /// making) lies before `ended_before`, that no order holds that is open or paid, and that still
    /// know their payer; by id.
    async fn bills_with_people(
        &self,
        after: Option<BillId>,
        ended_before: Timestamp,
        limit: usize,
    ) -> Result<Vec<BillId>, StoreError>;
}

/// A bill as it was uploaded: frozen, but for its payer, who can be taken out of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bill {
    pub id: BillId,
    pub merchant: MerchantId,
    pub merchant_bill_no: String,
    pub amount: Fen,
    pub pay_before: Option<Timestamp>,
    pub created_at: Timestamp,
    pub content: BillContent,
    /// As shown: masked.
    pub payer_masked: MaskedPayer,
    /// For `payer_ref=` look-ups, as an order's.
    pub payer_index: u128,
    /// HMACs of the members that say who pays; none once erased.
    pub personal_hashes: Vec<(String, String)>,
    /// [`BillPeople`] as JSON: `Place { table: "bills", column: "sealed", row: bill id }`.
    pub sealed: Sealed,
}

/// What is paid for, and by which rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BillContent {
    pub subject: String,
    pub items: Vec<Item>,
    pub late_payment: LatePayment,
    pub late_grace_seconds: i64,
    /// An HMAC per member that is not personal, so that a conflict can be named.
    pub hashes: Vec<(String, String)>,
}

/// Who pays a bill, and what the merchant keeps beside it.
#[derive(Clone, Serialize, Deserialize)]
pub struct BillPeople {
    pub payer_ref: String,
    pub name: Option<String>,
    pub id_number: Option<String>,
    pub phone: Option<String>,
    pub metadata: serde_json::Map<String, serde_json::Value>,
}

impl std::fmt::Debug for BillPeople {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("BillPeople(***)")
    }
}

/// A bill and how it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBill {
    pub bill: Bill,
    pub cancelled_at: Option<Timestamp>,
    /// The last order that took it.
    pub order: Option<BillOrder>,
}

/// The last order that took a bill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BillOrder {
    pub id: OrderId,
    pub status: Status,
    /// What paid it.
    pub payment: Option<BillPayment>,
}

/// The capture that its order keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BillPayment {
    pub wallet: Wallet,
    pub attempt: AttemptNumber,
    pub transaction_id: String,
    pub paid_at: Timestamp,
}

/// What can be done about a bill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BillStatus {
    Unpaid,
    Paying,
    Paid,
    Closed,
}

impl BillStatus {
    pub const ALL: [Self; 4] = [Self::Unpaid, Self::Paying, Self::Paid, Self::Closed];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unpaid => "unpaid",
            Self::Paying => "paying",
            Self::Paid => "paid",
            Self::Closed => "closed",
        }
    }
}

impl StoredBill {
    pub fn status(&self, now: Timestamp) -> BillStatus {
        match self.order.as_ref().map(|order| order.status) {
            Some(Status::Paid) => BillStatus::Paid,
            Some(Status::Unpaid | Status::Paying) => BillStatus::Paying,
            Some(Status::Closed) | None if self.end(now).is_some() => BillStatus::Closed,
            Some(Status::Closed) | None => BillStatus::Unpaid,
        }
    }

    /// When and why nobody may pay it any more; `None` where somebody may, does or did.
    pub fn closed(&self, now: Timestamp) -> Option<(Timestamp, CloseReason)> {
        (self.status(now) == BillStatus::Closed)
            .then(|| self.end(now))
            .flatten()
    }

    fn end(&self, now: Timestamp) -> Option<(Timestamp, CloseReason)> {
        let passed = self.bill.pay_before.filter(|deadline| *deadline <= now);
        match (self.cancelled_at, passed) {
            (Some(at), None) => Some((at, CloseReason::Cancelled)),
            (Some(at), Some(deadline)) if at <= deadline => Some((at, CloseReason::Cancelled)),
            (_, Some(deadline)) => Some((deadline, CloseReason::Deadline)),
            (None, None) => None,
        }
    }

    /// The order that is open for it, or that paid it.
    pub fn holder(&self) -> Option<&BillOrder> {
        self.order
            .as_ref()
            .filter(|order| order.status != Status::Closed)
    }
}

#[derive(Clone, Debug)]
pub struct BillFilter {
    pub merchant: MerchantId,
    pub payer_index: Option<u128>,
    /// As of [`BillFilter::now`].
    pub status: Option<BillStatus>,
    pub merchant_bill_no: Option<String>,
    /// Only bills older than this one (the cursor).
    pub before: Option<BillId>,
    pub limit: usize,
    pub now: Timestamp,
}

/// The way to one payer's bills for a while. Only its token's hash is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayerLink {
    pub hash: TokenHash,
    pub merchant: MerchantId,
    pub payer_index: u128,
    pub payer_masked: MaskedPayer,
    pub return_url: Option<String>,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
}

/// A bill as its order names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BillRef {
    pub id: BillId,
    pub merchant_bill_no: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use ulid::Ulid;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn bill(pay_before: Option<i64>, cancelled: Option<i64>, order: Option<Status>) -> StoredBill {
        StoredBill {
            bill: Bill {
                id: BillId::from_ulid(Ulid(1)),
                merchant: MerchantId::from_ulid(Ulid(1)),
                merchant_bill_no: "B-1".to_owned(),
                amount: Fen::new(1),
                pay_before: pay_before.map(at),
                created_at: at(0),
                content: BillContent {
                    subject: String::new(),
                    items: Vec::new(),
                    late_payment: LatePayment::Refund,
                    late_grace_seconds: 0,
                    hashes: Vec::new(),
                },
                payer_masked: MaskedPayer::default(),
                payer_index: 0,
                personal_hashes: Vec::new(),
                sealed: Sealed(Vec::new()),
            },
            cancelled_at: cancelled.map(at),
            order: order.map(|status| BillOrder {
                id: OrderId::from_ulid(Ulid(1)),
                status,
                payment: None,
            }),
        }
    }

    #[test]
    fn a_bill_stands_as_its_order_does() {
        let stands = |pay_before, cancelled, order| {
            bill(pay_before, cancelled, order).status(at(100)).as_str()
        };
        assert_eq!(stands(None, None, None), "unpaid");
        assert_eq!(stands(Some(101), None, None), "unpaid");
        assert_eq!(stands(Some(100), None, None), "closed");
        assert_eq!(stands(None, Some(5), None), "closed");
        assert_eq!(stands(Some(101), None, Some(Status::Closed)), "unpaid");
        assert_eq!(stands(Some(100), None, Some(Status::Closed)), "closed");
        assert_eq!(stands(Some(100), None, Some(Status::Unpaid)), "paying");
        assert_eq!(stands(Some(100), None, Some(Status::Paying)), "paying");
        assert_eq!(stands(Some(100), None, Some(Status::Paid)), "paid");
    }

    #[test]
    fn what_ended_a_bill_first_is_why_it_is_closed() {
        let closed = |pay_before, cancelled| bill(pay_before, cancelled, None).closed(at(100));
        assert_eq!(closed(Some(101), None), None);
        assert_eq!(
            closed(Some(50), Some(40)),
            Some((at(40), CloseReason::Cancelled))
        );
        assert_eq!(
            closed(Some(50), Some(60)),
            Some((at(50), CloseReason::Deadline))
        );
        assert_eq!(
            closed(None, Some(60)),
            Some((at(60), CloseReason::Cancelled))
        );
    }
}
