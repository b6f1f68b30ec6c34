//! Money that does not go by the book, through the real binary and the real wire: refunds that merchants
//! ask for (`refunds`), captures that fit nothing (`odd`), and what only the provider's bill tells
//! (`bills`, and a whole `day` of it). The books of both sides are held together at the end.

#![expect(
    clippy::unwrap_used,
    reason = "a test may stop where its own set-up fails"
)]

pub mod bills;
mod day;
mod odd;
mod refunds;

use serde_json::Value;

use crate::support::World;
use crate::support::student::{Alipay, Wallet, Wechat};

const BOTH: [Wallet; 2] = [Wechat, Alipay];

/// A provider's operation, as its faults name it.
fn operation(wallet: Wallet, what: &str) -> String {
    format!("{}.{what}", wallet.word())
}

/// The account of the simulated school.
fn account(wallet: Wallet) -> String {
    format!("demo-{}", wallet.word())
}

/// Numbers and amounts of the refunds that the merchant API lists.
async fn listed(world: &World, order: &str) -> Vec<(String, i64)> {
    let path = format!("/v1/orders/{order}/refunds");
    let listed = world.merchant.get(&path).await.expect(200);
    let rows = listed["data"].as_array().unwrap().iter();
    rows.map(|refund| {
        let number = refund["number"].as_str().unwrap().to_owned();
        (number, refund["amount"].as_i64().unwrap())
    })
    .collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
