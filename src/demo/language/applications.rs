//! What the examination's office remembers: applications, and the orders it heard of.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::demo::desk::{Books, RFC3339, beijing};
use crate::demo::gateway::Order;
use crate::demo::inbox::{Effect, Inbox};
use crate::random::Random;

/// The candidate of the demo: nobody.
pub const CANDIDATE: Candidate = Candidate {
    name: "李晓红",
    id_number: "430102199909091222",
    phone: "13700000000",
    kind: "成人高等教育",
    major: "工商管理",
};

pub struct Candidate {
    pub name: &'static str,
    pub id_number: &'static str,
    pub phone: &'static str,
    pub kind: &'static str,
    pub major: &'static str,
}

/// The fee's official name, as it must stand on the receipt.
pub const FEE_NAME: &str = "成人高等教育学士学位外语水平考试费";
pub const FEE: i64 = 12_000;
/// What may be taken.
pub const SUBJECTS: [&str; 3] = ["英语", "日语", "俄语"];

/// Registration is open for so long, unless the office says otherwise.
const OPEN_MINUTES: i64 = 7 * 24 * 60;
/// A demo that runs for months stays small.
const APPLICATIONS_MAX: usize = 200;

/// Who pays, as typed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payer {
    pub name: String,
    pub phone: String,
}

/// One 报名: its number is the merchant's order number.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Application {
    pub number: String,
    pub created_at: String,
    pub pay_before: String,
    pub subject: String,
    /// 在籍 or 已毕业.
    pub graduated: bool,
    pub edits: u32,
    /// Who was named when the gateway took the order: from then on it is frozen.
    pub payer: Option<Payer>,
    pub return_url: Option<String>,
    pub order: Option<Order>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Applications {
    /// The newest last.
    #[serde(rename = "applications")]
    kept: Vec<Application>,
    /// Minutes until the deadline of applications made from now on.
    open_minutes: Option<i64>,
    #[serde(flatten)]
    inbox: Inbox,
}

impl Books for Applications {
    fn learn(&mut self, order: Order) -> Effect {
        match self.find_mut(&order.merchant_order_no) {
            None => Effect::Unknown,
            Some(Application {
                order: Some(known), ..
            }) if known.version >= order.version => Effect::Known,
            Some(application) => {
                application.order = Some(order);
                Effect::Applied
            }
        }
    }

    fn inbox(&mut self) -> &mut Inbox {
        &mut self.inbox
    }
}

impl Applications {
    pub const fn received(&self) -> &Inbox {
        &self.inbox
    }

    /// The newest first.
    pub fn all(&self) -> impl Iterator<Item = &Application> {
        self.kept.iter().rev()
    }

    pub fn find(&self, number: &str) -> Option<&Application> {
        self.all().find(|one| one.number == number)
    }

    pub fn find_mut(&mut self, number: &str) -> Option<&mut Application> {
        self.kept.iter_mut().find(|one| one.number == number)
    }

    pub fn open_minutes(&self) -> i64 {
        self.open_minutes.unwrap_or(OPEN_MINUTES)
    }

    pub const fn stay_open(&mut self, minutes: i64) {
        self.open_minutes = Some(minutes);
    }

    /// A new 报名 under a number that was never used.
    pub fn apply(&mut self, now_ms: i64, random: &dyn Random) -> String {
        let stamp = beijing(now_ms, "%m%d%H%M%S");
        let number = loop {
            let number = format!("XW2024B-{stamp}{:04}", random.below(10_000));
            if self.find(&number).is_none() {
                break number;
            }
        };
        if self.kept.len() >= APPLICATIONS_MAX {
            self.kept.remove(0);
        }
        let open_ms = self.open_minutes().saturating_mul(60_000);
        self.kept.push(Application {
            number: number.clone(),
            created_at: beijing(now_ms, RFC3339),
            pay_before: beijing(now_ms.saturating_add(open_ms), RFC3339),
            subject: SUBJECTS[0].to_owned(),
            graduated: false,
            edits: 0,
            payer: None,
            return_url: None,
            order: None,
        });
        number
    }
}

impl Application {
    pub fn is_paid(&self) -> bool {
        self.order
            .as_ref()
            .is_some_and(|order| order.status == "paid")
    }

    /// Registration is over: nothing is changed and nothing is paid any more.
    pub fn is_closed(&self, now_ms: i64) -> bool {
        self.pay_before
            .parse::<jiff::Timestamp>()
            .is_ok_and(|end| end.as_millisecond() <= now_ms)
    }

    /// What is asked of the gateway: the candidate registered, and this payer is said to be the same
    /// person. The gateway holds the two against each other.
    pub fn order_request(&self, payer: &Payer) -> Value {
        json!({
            "merchant_order_no": self.number,
            "subject": FEE_NAME,
            "items": [ { "name": FEE_NAME, "amount": FEE } ],
            "amount": FEE,
            "currency": "CNY",
            "payer": {
                "ref": CANDIDATE.id_number,
                "name": payer.name,
                "id_number": CANDIDATE.id_number,
                "phone": payer.phone,
            },
            "registrant": {
                "name": CANDIDATE.name,
                "id_number": CANDIDATE.id_number,
                "phone": CANDIDATE.phone,
            },
            "purpose": "XW2024B",
            "pay_before": self.pay_before,
            "return_url": self.return_url,
        })
    }
}
