//! What the university remembers: what its student owes, and the orders it heard of.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::demo::desk::{Books, RFC3339, beijing};
use crate::demo::gateway::Order;
use crate::demo::inbox::{Effect, Inbox};
use crate::demo::page::StatusWords;
use crate::random::Random;

/// The student of the demo: nobody.
pub const STUDENT: Student = Student {
    number: "2024013307",
    name: "王晓明",
    id_number: "370602200503071234",
    phone: "13900000000",
};

pub struct Student {
    /// 学号: the university's key for a person.
    pub number: &'static str,
    pub name: &'static str,
    pub id_number: &'static str,
    pub phone: &'static str,
}

impl Student {
    /// The manual's first password: the last eight characters of the id number.
    pub fn first_password(&self) -> &'static str {
        &self.id_number[self.id_number.len() - 8..]
    }
}

/// One fee of a year: subject, lines (name, fen).
const FEES: [(&str, &[(&str, i64)]); 3] = [
    ("2026学年学费", &[("护理学（专升本）学费", 240_000)]),
    (
        "2026学年教材费",
        &[
            ("护理管理学", 4_600),
            ("护理研究", 3_900),
            ("内科护理学（二）", 5_800),
        ],
    ),
    ("学士学位外语培训费", &[("学士学位外语培训", 30_000)]),
];

/// How long a student has to pay.
const PAY_WITHIN_MS: i64 = 30 * 24 * 3_600_000;
/// A demo that runs for months stays small.
const BILLS_MAX: usize = 60;
const ORDERS_MAX: usize = 200;
const LOGINS_MAX: usize = 50;

/// One bill as the university wrote it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Owed {
    pub number: String,
    pub subject: String,
    pub lines: Vec<(String, i64)>,
    pub amount: i64,
    pub pay_before: String,
    /// The gateway has it.
    pub uploaded: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Ledger {
    bills: Vec<Owed>,
    /// By id.
    orders: BTreeMap<String, Order>,
    /// Tokens of the browsers that are logged in, the newest last.
    #[serde(default)]
    logins: Vec<String>,
    #[serde(flatten)]
    inbox: Inbox,
}

impl Books for Ledger {
    fn learn(&mut self, order: Order) -> Effect {
        let ours = order.bills.iter().any(|named| {
            self.bills
                .iter()
                .any(|owed| owed.number == named.merchant_bill_no)
        });
        match self.orders.get(&order.id) {
            _ if !ours => Effect::Unknown,
            Some(known) if known.version >= order.version => Effect::Known,
            _ => {
                if self.orders.len() >= ORDERS_MAX {
                    self.orders.pop_first();
                }
                self.orders.insert(order.id.clone(), order);
                Effect::Applied
            }
        }
    }

    fn inbox(&mut self) -> &mut Inbox {
        &mut self.inbox
    }
}

impl Ledger {
    pub const fn received(&self) -> &Inbox {
        &self.inbox
    }

    pub fn log_in(&mut self, token: String) {
        if self.logins.len() >= LOGINS_MAX {
            self.logins.remove(0);
        }
        self.logins.push(token);
    }

    pub fn log_out(&mut self, token: &str) {
        self.logins.retain(|known| known != token);
    }

    pub fn is_logged_in(&self, token: &str) -> bool {
        self.logins.iter().any(|known| known == token)
    }

    /// The newest first.
    pub fn bills(&self) -> impl Iterator<Item = &Owed> {
        self.bills.iter().rev()
    }

    /// A year's bills under numbers that were never used.
    pub fn issue(&mut self, now_ms: i64, random: &dyn Random) {
        let stamp = beijing(now_ms, "%m%d%H%M%S");
        let series = format!("{stamp}{:04}", random.below(10_000));
        for (place, (subject, lines)) in FEES.iter().enumerate() {
            if self.bills.len() >= BILLS_MAX {
                self.bills.remove(0);
            }
            self.bills.push(Owed {
                number: format!("XF2026-{series}-{}", place + 1),
                subject: (*subject).to_owned(),
                lines: lines
                    .iter()
                    .map(|(name, fee)| ((*name).to_owned(), *fee))
                    .collect(),
                amount: lines.iter().map(|(_, fee)| fee).sum(),
                pay_before: beijing(now_ms.saturating_add(PAY_WITHIN_MS), RFC3339),
                uploaded: false,
            });
        }
    }

    /// What the gateway was not told yet, as it wants it; `None` where it knows all.
    pub fn to_upload(&self) -> Option<(Vec<String>, Value)> {
        let missing: Vec<&Owed> = self.bills.iter().filter(|owed| !owed.uploaded).collect();
        if missing.is_empty() {
            return None;
        }
        let bills: Vec<Value> = missing.iter().map(|owed| owed.upload()).collect();
        let numbers = missing.iter().map(|owed| owed.number.clone()).collect();
        Some((numbers, json!({ "bills": bills })))
    }

    pub fn uploaded(&mut self, numbers: &[String]) {
        for owed in &mut self.bills {
            owed.uploaded |= numbers.contains(&owed.number);
        }
    }

    /// The order that decides how a bill stands, as far as webhooks have told.
    pub fn order_of(&self, owed: &Owed) -> Option<&Order> {
        let named = |order: &&Order| {
            order
                .bills
                .iter()
                .any(|bill| bill.merchant_bill_no == owed.number)
        };
        self.orders
            .values()
            .filter(named)
            .max_by_key(|order| (order.status == "paid", order.id.clone()))
            .filter(|order| order.status != "closed")
    }

    pub fn status_of(&self, owed: &Owed) -> StatusWords {
        StatusWords::of(self.order_of(owed))
    }

    /// Paid orders, the newest first.
    pub fn paid(&self) -> impl Iterator<Item = &Order> {
        self.orders
            .values()
            .rev()
            .filter(|order| order.status == "paid")
    }
}

impl Owed {
    fn upload(&self) -> Value {
        let items: Vec<Value> = self
            .lines
            .iter()
            .map(|(name, fee)| json!({ "name": name, "amount": fee }))
            .collect();
        json!({
            "merchant_bill_no": self.number,
            "subject": self.subject,
            "amount": self.amount,
            "currency": "CNY",
            "items": items,
            "payer": payer(),
            "pay_before": self.pay_before,
            "late_payment": "accept",
            "late_grace_seconds": 86_400,
        })
    }
}

/// The student, as bills and links name one person.
pub fn payer() -> Value {
    json!({
        "ref": STUDENT.number,
        "name": STUDENT.name,
        "id_number": STUDENT.id_number,
        "phone": STUDENT.phone,
    })
}
