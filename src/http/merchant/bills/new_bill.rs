//! The body of `POST /v1/bills`: one bill, or up to a thousand.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::http::json::{Findings, Object, Text};
use crate::http::merchant::new_order::{
    Around, Payer, amount, currency, items, late, masked, metadata, pay_before, payer, with_bounds,
};
use crate::http::problem::{Code, Problem};
use crate::order::{BillId, Fen, LatePayment, MerchantId, Timestamp};
use crate::sealing::Sealer;
use crate::store::bills::{Bill, BillContent, BillPeople};
use crate::store::{Item, Masks, PERSONAL_FIELDS};
use crate::view;

/// Bills of one upload at most.
pub const MOST: usize = 1_000;

const MEMBERS: [&str; 10] = [
    "merchant_bill_no",
    "subject",
    "items",
    "amount",
    "currency",
    "payer",
    "pay_before",
    "late_payment",
    "late_grace_seconds",
    "metadata",
];

/// A bill as the merchant asked for it, every member checked.
pub(super) struct NewBill {
    pub merchant_bill_no: String,
    subject: String,
    items: Vec<Item>,
    amount: Fen,
    people: BillPeople,
    pay_before: Option<Timestamp>,
    late_payment: LatePayment,
    late_grace_seconds: i64,
}

/// One bill, or a list of them, as it came.
pub(super) struct Upload<'a> {
    /// Each with the pointer to it.
    bills: Vec<(String, &'a Value)>,
    pub is_list: bool,
}

impl<'a> Upload<'a> {
    pub fn of(body: &'a Value) -> Result<Self, Problem> {
        let Some(list) = body.get("bills") else {
            return Ok(Self {
                bills: vec![(String::new(), body)],
                is_list: false,
            });
        };
        let findings = Findings::default();
        if let Some(upload) = Object::read(body, "", &["bills"], &findings) {
            upload.required_list("bills", 1..=MOST);
        }
        match (findings.into_problem(), list.as_array()) {
            (Some(problem), _) => Err(problem),
            (None, bills) => Ok(Self {
                bills: bills
                    .into_iter()
                    .flatten()
                    .enumerate()
                    .map(|(index, bill)| (format!("/bills/{index}"), bill))
                    .collect(),
                is_list: true,
            }),
        }
    }

    /// The numbers that can be numbers of bills.
    pub fn numbers(&self) -> Vec<String> {
        self.bills
            .iter()
            .filter_map(|(_, bill)| bill.get("merchant_bill_no")?.as_str())
            .filter(|number| Text::number(64).check(number).is_ok())
            .map(str::to_owned)
            .collect()
    }

    /// Reads them all. A bill that is known is judged by the time at which it was made: a deadline that
    /// has passed since does not make a repeat another one. The refusal lists every finding.
    pub fn read(
        &self,
        around: Around<'_>,
        made_at: impl Fn(&str) -> Option<Timestamp>,
    ) -> Result<Vec<NewBill>, Problem> {
        let findings = Findings::default();
        let mut first: HashMap<&str, &str> = HashMap::new();
        let mut read = Vec::with_capacity(self.bills.len());
        for (pointer, value) in &self.bills {
            let number = value.get("merchant_bill_no").and_then(Value::as_str);
            let then = Around {
                now: number.and_then(&made_at).unwrap_or(around.now),
                ..around
            };
            if let Some(number) = number
                && let Some(earlier) = first.insert(number, pointer)
            {
                findings.add(
                    format!("{pointer}/merchant_bill_no"),
                    format!("named twice; {earlier} has the same number"),
                );
            }
            read.extend(one(value, pointer, then, &findings));
        }
        match findings.into_problem() {
            Some(problem) => Err(with_bounds(problem, around)),
            None if read.len() == self.bills.len() => Ok(read),
            None => Err(Problem::new(
                Code::ValidationFailed,
                "The body holds no bills.",
            )),
        }
    }
}

fn one(value: &Value, pointer: &str, around: Around<'_>, findings: &Findings) -> Option<NewBill> {
    let bill = Object::read(value, pointer, &MEMBERS, findings)?;
    let merchant_bill_no = bill.required_text("merchant_bill_no", Text::number(64));
    let subject = bill.required_text("subject", Text::displayed(127));
    let items = items(&bill);
    let amount = amount(&bill, &items);
    currency(&bill);
    let payer = payer(&bill);
    let (late_payment, late_grace_seconds) = late(&bill);
    let pay_before = pay_before(&bill, around);
    let metadata = metadata(&bill);
    let payer = payer?;
    Some(NewBill {
        merchant_bill_no: merchant_bill_no?,
        subject: subject?,
        items,
        amount: amount?,
        people: people(payer, metadata),
        pay_before,
        late_payment,
        late_grace_seconds,
    })
}

fn people(payer: Payer, metadata: Map<String, Value>) -> BillPeople {
    BillPeople {
        payer_ref: payer.reference,
        name: payer.name,
        id_number: payer.id_number,
        phone: payer.phone,
        metadata,
    }
}

impl NewBill {
    /// A keyed hash of each member, so that a conflict can be named without keeping the content: those
    /// of the bill, and those of its payer.
    pub fn hashes(&self, sealer: &Sealer) -> [Vec<(String, String)>; 2] {
        let people = &self.people;
        let accepts = matches!(self.late_payment, LatePayment::Accept { .. });
        let mut metadata: Vec<_> = people.metadata.iter().collect();
        metadata.sort_by_key(|(name, _)| name.as_str());
        let members = [
            ("subject", json!(self.subject)),
            ("items", json!(self.items)),
            ("amount", json!(self.amount)),
            ("pay_before", json!(self.pay_before)),
            ("late_payment", json!(accepts)),
            ("late_grace_seconds", json!(self.late_grace_seconds)),
            ("payer.ref", json!(people.payer_ref)),
            ("payer.name", json!(people.name)),
            ("payer.id_number", json!(people.id_number)),
            ("payer.phone", json!(people.phone)),
            ("metadata", json!(metadata)),
        ];
        let hashed = members.map(|(name, value)| {
            let index = sealer.index(&format!("bill.{name}"), &value.to_string());
            (name.to_owned(), format!("{index:032x}"))
        });
        let (personal, lasting) = hashed
            .into_iter()
            .partition(|(name, _)| PERSONAL_FIELDS.contains(&&**name));
        [lasting, personal]
    }

    /// The members in which it differs from a bill that is known.
    pub fn differs_from(&self, known: &Bill, sealer: &Sealer) -> Vec<String> {
        let [lasting, personal] = self.hashes(sealer);
        // Who an erased payer was cannot be compared any more.
        let personal = personal
            .into_iter()
            .filter(|_| !known.personal_hashes.is_empty());
        let known: Vec<_> = known
            .content
            .hashes
            .iter()
            .chain(&known.personal_hashes)
            .collect();
        lasting
            .into_iter()
            .chain(personal)
            .filter(|member| !known.contains(&member))
            .map(|(name, _)| name)
            .collect()
    }

    pub fn into_bill(
        self,
        id: BillId,
        merchant: MerchantId,
        masks: Masks,
        now: Timestamp,
        sealer: &Sealer,
    ) -> Bill {
        let [hashes, personal_hashes] = self.hashes(sealer);
        let people = &self.people;
        Bill {
            id,
            merchant,
            amount: self.amount,
            pay_before: self.pay_before,
            created_at: now,
            payer_masked: masked(
                masks,
                people.name.as_deref(),
                people.id_number.as_deref(),
                people.phone.as_deref(),
            ),
            payer_index: sealer.index("payer_ref", &people.payer_ref),
            personal_hashes,
            sealed: view::seal_bill(sealer, id, people),
            merchant_bill_no: self.merchant_bill_no,
            content: BillContent {
                subject: self.subject,
                items: self.items,
                late_payment: self.late_payment,
                late_grace_seconds: self.late_grace_seconds,
                hashes,
            },
        }
    }
}
