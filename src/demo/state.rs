//! What the school remembers: registrations, the orders it heard of, and the notices it received.

use std::collections::VecDeque;
use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::gateway::Order;
use super::receive::{Notice, Refused};
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
const NOTICES_MAX: usize = 500;
const REFUSED_MAX: usize = 50;

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

/// One delivery that reached the school and was believed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Heard {
    pub id: String,
    pub kind: String,
    pub number: String,
    pub version: u64,
    pub status: String,
    /// When it came first.
    pub at: String,
    /// How often it came.
    pub times: u32,
    pub effect: Effect,
}

/// What a notice did to our books.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It told us something newer.
    Applied,
    /// We had heard of this version or a higher one.
    Known,
    /// No registration of ours has this number.
    Unknown,
}

impl Effect {
    pub const fn words(self) -> &'static str {
        match self {
            Self::Applied => "已更新 applied",
            Self::Known => "已知，忽略 not newer, ignored",
            Self::Unknown => "非本校订单 not one of ours",
        }
    }
}

/// One delivery that was not believed.
#[derive(Clone, Debug)]
pub struct Disbelieved {
    pub at: String,
    pub why: Refused,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// The newest last.
    registrations: Vec<Registration>,
    heard: VecDeque<Heard>,
    /// In memory only, and apart, so that forgeries push out nothing genuine.
    #[serde(skip)]
    refused: VecDeque<Disbelieved>,
}

impl State {
    /// A missing file is an empty state.
    pub fn load(path: &Path) -> Result<Self, String> {
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Durable when it returns: written beside, flushed, then renamed over the old.
    pub fn save(&self, path: &Path) -> std::io::Result<()> {
        let beside = path.with_extension("new");
        let mut file = std::fs::File::create(&beside)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    }

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

    pub fn heard(&self) -> impl Iterator<Item = &Heard> {
        self.heard.iter().rev()
    }

    pub fn refused(&self) -> impl Iterator<Item = &Disbelieved> {
        self.refused.iter().rev()
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

    /// Takes in an order wherever it comes from; the highest version stays.
    pub fn learn(&mut self, order: Order) -> Effect {
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

    /// Takes in a verified notice, once by its id.
    pub fn hear(&mut self, notice: Notice, now_ms: i64) {
        if let Some(known) = self.heard.iter_mut().find(|one| one.id == notice.id) {
            known.times = known.times.saturating_add(1);
            return;
        }
        let order = notice.data.order;
        if self.heard.len() >= NOTICES_MAX {
            self.heard.pop_front();
        }
        let (number, version, status) = (
            order.merchant_order_no.clone(),
            order.version,
            order.status.clone(),
        );
        let effect = self.learn(order);
        self.heard.push_back(Heard {
            id: notice.id,
            kind: notice.kind,
            number,
            version,
            status,
            at: beijing(now_ms, RFC3339),
            times: 1,
            effect,
        });
    }

    pub fn disbelieve(&mut self, why: Refused, now_ms: i64) {
        if self.refused.len() >= REFUSED_MAX {
            self.refused.pop_front();
        }
        self.refused.push_back(Disbelieved {
            at: beijing(now_ms, RFC3339),
            why,
        });
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

pub const RFC3339: &str = "%Y-%m-%dT%H:%M:%S%:z";

/// An instant (milliseconds since the Unix epoch) as a clock in Beijing shows it.
pub fn beijing(at_ms: i64, format: &str) -> String {
    let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(8));
    let at = jiff::Timestamp::from_millisecond(at_ms).unwrap_or_default();
    at.to_zoned(zone).strftime(format).to_string()
}
