//! Bills and the links that lead to them.

use std::fmt::Write as _;

use super::Read;
use crate::order::Fen;
use crate::order::Status;
use crate::sealing::{Sealed, TokenHash};
use crate::store::bills::{
    Bill, BillFilter, BillOrder, BillPayment, BillStatus, PayerLink, StoredBill,
};
use crate::store::rows::{Columns, Parsing};

/// With the order that took it last, and what paid that.
pub(in crate::store) const BILL: &str = "SELECT bills.id, bills.merchant, bills.merchant_bill_no,
        bills.amount, bills.pay_before, bills.created_at, bills.content, bills.payer_masked,
        bills.payer_index, bills.personal_hashes, bills.sealed, bills.cancelled_at, bills.order_id,
        orders.status AS order_status, captures.wallet, captures.attempt, captures.transaction_id,
        captures.succeeded_at
    FROM bills LEFT JOIN orders ON orders.id = bills.order_id
        LEFT JOIN captures ON captures.order_id = orders.id AND captures.refund IS NULL
            AND orders.status = 'paid'";

/// No order has it but closed ones.
macro_rules! is_free {
    () => {
        "(bills.order_id IS NULL OR EXISTS
            (SELECT 1 FROM orders WHERE orders.id = bills.order_id AND orders.status = 'closed'))"
    };
}
pub(in crate::store) use is_free;

/// A value of a list's condition.
pub(in crate::store) enum Asked {
    Text(String),
    Bytes(Vec<u8>),
    Number(i64),
}

/// The question that a filter asks and its values. `mark`: how a database begins a parameter's number.
pub(in crate::store) fn bills_query(filter: &BillFilter, mark: char) -> (String, Vec<Asked>) {
    let mut sql = format!("{BILL} WHERE bills.merchant = {mark}1");
    let mut values = vec![Asked::Text(filter.merchant.to_string())];
    let mut also = |condition: &str, value: Option<Asked>| {
        if let Some(value) = value {
            values.push(value);
            let place = format!("{mark}{}", values.len());
            let _ = write!(sql, " AND {}", condition.replace("{}", &place));
        }
    };
    let payer = filter.payer_index.map(|index| index.to_be_bytes().to_vec());
    also("bills.payer_index = {}", payer.map(Asked::Bytes));
    let number = filter.merchant_bill_no.clone();
    also("bills.merchant_bill_no = {}", number.map(Asked::Text));
    let before = filter.before.map(|id| id.to_string());
    also("bills.id < {}", before.map(Asked::Text));
    let now = Asked::Number(filter.now.as_millis());
    match filter.status {
        None => {}
        Some(BillStatus::Paid) => sql += " AND orders.status = 'paid'",
        Some(BillStatus::Paying) => sql += " AND orders.status IN ('unpaid', 'paying')",
        Some(BillStatus::Unpaid) => also(
            "coalesce(orders.status, 'closed') = 'closed' AND bills.cancelled_at IS NULL
                AND (bills.pay_before IS NULL OR bills.pay_before > {})",
            Some(now),
        ),
        Some(BillStatus::Closed) => also(
            "coalesce(orders.status, 'closed') = 'closed'
                AND (bills.cancelled_at IS NOT NULL OR bills.pay_before <= {})",
            Some(now),
        ),
    }
    values.push(Asked::Number(crate::store::rows::limit(filter.limit)));
    // Ids begin with the time at which they were made.
    let _ = write!(sql, " ORDER BY bills.id DESC LIMIT {mark}{}", values.len());
    (sql, values)
}

pub(in crate::store) fn stored_bill(row: &dyn Columns) -> Read<StoredBill> {
    let row = Parsing::new("bills", row, "id");
    let status: Option<Status> = row.word_if_any("order_status")?;
    let order = match (row.parse_if_any("order_id")?, status) {
        (Some(id), Some(status)) => Some(BillOrder {
            id,
            status,
            payment: match row.get::<Option<String>>("transaction_id")? {
                Some(transaction_id) => Some(BillPayment {
                    wallet: row.word("wallet")?,
                    attempt: row.attempt("attempt")?,
                    transaction_id,
                    paid_at: row.time("succeeded_at")?,
                }),
                None => None,
            },
        }),
        (None, None) => None,
        _ => return Err(row.wrong("it names an order that is not there")),
    };
    Ok(StoredBill {
        bill: Bill {
            id: row.parse("id")?,
            merchant: row.parse("merchant")?,
            merchant_bill_no: row.get("merchant_bill_no")?,
            amount: row.get("amount").map(Fen::new)?,
            pay_before: row.time_if_any("pay_before")?,
            created_at: row.time("created_at")?,
            content: row.json("content")?,
            payer_masked: row.json("payer_masked")?,
            payer_index: u128::from_be_bytes(row.bytes("payer_index")?),
            personal_hashes: row.json("personal_hashes")?,
            sealed: Sealed(row.get("sealed")?),
        },
        cancelled_at: row.time_if_any("cancelled_at")?,
        order,
    })
}

pub(in crate::store) const PAYER_LINK: &str =
    "SELECT merchant, payer_index, payer_masked, return_url,
        created_at, expires_at FROM payer_links";

pub(in crate::store) fn payer_link(row: &dyn Columns, hash: TokenHash) -> Read<PayerLink> {
    let row = Parsing::new("payer_links", row, "merchant");
    Ok(PayerLink {
        hash,
        merchant: row.parse("merchant")?,
        payer_index: u128::from_be_bytes(row.bytes("payer_index")?),
        payer_masked: row.json("payer_masked")?,
        return_url: row.get("return_url")?,
        created_at: row.time("created_at")?,
        expires_at: row.time("expires_at")?,
    })
}

/// Nobody's.
pub(in crate::store) const NO_PAYER: &str = r#"{"name":null,"id_number":null,"phone":null}"#;

/// The columns of a bill as they are written.
pub(in crate::store) struct BillColumns {
    pub id: String,
    pub merchant: String,
    pub content: String,
    pub payer_masked: String,
    pub personal_hashes: String,
}

impl BillColumns {
    pub fn of(bill: &Bill) -> Result<Self, crate::store::Rejection> {
        use crate::store::step::json;
        Ok(Self {
            id: bill.id.to_string(),
            merchant: bill.merchant.to_string(),
            content: json(&bill.content)?,
            payer_masked: json(&bill.payer_masked)?,
            personal_hashes: json(&bill.personal_hashes)?,
        })
    }
}
