//! What the examination office remembers: registrations, and the orders it heard of.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::demo::desk::{Books, RFC3339, beijing};
use crate::demo::gateway::Order;
use crate::demo::inbox::{Effect, Inbox};
use crate::random::Random;

/// A course of the manual's example: code, name, time of the examination, fee in fen.
pub struct Course {
    pub code: &'static str,
    pub name: &'static str,
    pub english: &'static str,
    pub time: &'static str,
    pub fee: i64,
}

pub const COURSES: [Course; 4] = [
    Course {
        code: "00024",
        name: "普通逻辑",
        english: "General Logic",
        time: "2021年04月01日 上午",
        fee: 3500,
    },
    Course {
        code: "00018",
        name: "计算机应用基础",
        english: "Computer Basics",
        time: "2021年04月10日 下午",
        fee: 3500,
    },
    Course {
        code: "00031",
        name: "心理学",
        english: "Psychology",
        time: "2021年04月11日 上午",
        fee: 3500,
    },
    Course {
        code: "00144",
        name: "企业管理概论",
        english: "Business Management",
        time: "2021年04月11日 下午",
        fee: 3500,
    },
];

pub fn total() -> i64 {
    COURSES.iter().map(|course| course.fee).sum()
}

/// How long a candidate has to pay.
const PAY_WITHIN_MS: i64 = 7 * 24 * 3_600_000;
/// A demo that runs for months stays small.
const REGISTRATIONS_MAX: usize = 200;

/// One 报考: its number is the merchant's order number.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Registration {
    pub number: String,
    pub created_at: String,
    pub pay_before: String,
    /// An order was asked for, perhaps without an answer: from now on its content stays.
    pub asked: bool,
    /// Where the cashier sends the candidate back to; fixed with the first order call.
    pub return_url: Option<String>,
    pub order: Option<Order>,
    /// When 更新缴费结果 last had an answer.
    pub checked_at: Option<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Registrations {
    /// The newest last.
    registrations: Vec<Registration>,
    #[serde(flatten)]
    inbox: Inbox,
}

impl Books for Registrations {
    fn learn(&mut self, order: Order) -> Effect {
        match self.registration_mut(&order.merchant_order_no) {
            None => Effect::Unknown,
            Some(Registration {
                order: Some(known), ..
            }) if known.version >= order.version => Effect::Known,
            Some(registration) => {
                registration.order = Some(order);
                Effect::Applied
            }
        }
    }

    fn inbox(&mut self) -> &mut Inbox {
        &mut self.inbox
    }
}

impl Registrations {
    pub fn newest(&self) -> Option<&Registration> {
        self.registrations.last()
    }

    /// Newest first.
    pub fn registrations(&self) -> impl Iterator<Item = &Registration> {
        self.registrations.iter().rev()
    }

    pub fn registration(&self, number: &str) -> Option<&Registration> {
        self.registrations().find(|one| one.number == number)
    }

    pub fn registration_mut(&mut self, number: &str) -> Option<&mut Registration> {
        self.registrations
            .iter_mut()
            .find(|one| one.number == number)
    }

    pub const fn received(&self) -> &Inbox {
        &self.inbox
    }

    /// A new 报考 under a number that was never used.
    pub fn register(&mut self, now_ms: i64, random: &dyn Random) -> String {
        let stamp = beijing(now_ms, "%m%d%H%M%S");
        let number = loop {
            let number = format!("ZK202104-{stamp}{:04}", random.below(10_000));
            if self.registration(&number).is_none() {
                break number;
            }
        };
        if self.registrations.len() >= REGISTRATIONS_MAX {
            self.registrations.remove(0);
        }
        self.registrations.push(Registration {
            number: number.clone(),
            created_at: beijing(now_ms, RFC3339),
            pay_before: beijing(now_ms.saturating_add(PAY_WITHIN_MS), RFC3339),
            asked: false,
            return_url: None,
            order: None,
            checked_at: None,
        });
        number
    }
}

impl Registration {
    /// What is asked of the gateway: the same bytes each time, so that a repeat is one.
    pub fn order_request(&self) -> Value {
        let items: Vec<Value> = COURSES
            .iter()
            .map(|course| {
                json!({ "code": course.code, "name": course.name, "note": course.time,
                        "amount": course.fee })
            })
            .collect();
        json!({
            "merchant_order_no": self.number,
            "subject": "2021年4月自学考试报考费",
            "items": items,
            "amount": total(),
            "currency": "CNY",
            "payer": {
                "ref": "650100-demo-0001",
                "name": "测试考生",
                "id_number": "650100200001010001",
                "phone": "13800000000",
            },
            "purpose": self.number,
            "display_fields": [
                { "label": "专业", "value": "工商企业管理" },
                { "label": "考区", "value": "乌鲁木齐" },
                { "label": "缴费方式", "value": "个人缴费" },
                { "label": "缴费地点", "value": "网上缴费" },
            ],
            "pay_before": self.pay_before,
            "return_url": self.return_url,
            "metadata": { "registration": self.number },
        })
    }
}
