//! The providers' books, as their simulators show them.

use enrollpay::order::{AttemptNumber, OrderId, OutTradeNo};
use serde::Deserialize;

#[derive(Deserialize)]
pub struct TheirBooks {
    pub trades: Vec<Trade>,
}

#[derive(Deserialize)]
pub struct Trade {
    pub wallet: String,
    pub out_trade_no: String,
    pub payable: bool,
    pub captures: Vec<TheirCapture>,
    pub refunds: Vec<TheirRefund>,
    pub notices: Vec<TheirNotice>,
}

#[derive(Deserialize)]
pub struct TheirCapture {
    pub transaction_id: String,
    pub amount: i64,
}

#[derive(Deserialize)]
pub struct TheirRefund {
    pub number: String,
    pub amount: i64,
    pub status: String,
}

#[derive(Deserialize)]
pub struct TheirNotice {
    pub acked: bool,
}

impl TheirRefund {
    /// Merchants' refunds go by their own ids, all others by the number of their trade.
    pub fn is_merchants(&self) -> bool {
        self.number.starts_with("rfd_")
    }
}

impl Trade {
    /// The order it is for: `ord_` and the first 26 characters.
    pub fn order(&self) -> String {
        format!("ord_{}", &self.out_trade_no[..26])
    }

    pub fn captured(&self) -> i64 {
        self.captures.iter().map(|capture| capture.amount).sum()
    }

    /// What went back by refunds of this kind.
    pub fn refunded(&self, of: impl Fn(&TheirRefund) -> bool) -> i64 {
        self.refunds
            .iter()
            .filter(|refund| refund.status == "SUCCESS" && of(refund))
            .map(|refund| refund.amount)
            .sum()
    }

    /// What left by every refund that the provider has not refused.
    pub fn left(&self) -> i64 {
        self.refunds
            .iter()
            .filter(|refund| refund.status != "CLOSED")
            .map(|refund| refund.amount)
            .sum()
    }
}

pub fn trades_of<'a>(books: &'a TheirBooks, order: &str) -> Vec<&'a Trade> {
    books
        .trades
        .iter()
        .filter(|trade| trade.order() == order)
        .collect()
}

pub fn trade_number(order: &str, attempt: u16) -> String {
    let order: OrderId = order.parse().unwrap();
    let attempt = AttemptNumber::new(attempt).unwrap();
    OutTradeNo { order, attempt }.to_string()
}
