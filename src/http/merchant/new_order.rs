//! The body of `POST /v1/orders`: what may stand in it, what is wrong with it, and what becomes of it.

use jiff::Timestamp as Instant;
use serde_json::{Map, Value, json};
use url::{Host, Url};

use crate::http::json::{Findings, Object, Text, kind};
use crate::http::problem::{Code, Problem};
use crate::order::{Fen, LatePayment, Timestamp, Wallet};
use crate::sealing::Sealer;
use crate::store::{
    DisplayField, Item, MaskedPayer, MaskedRegistrant, Masks, PERSONAL_FIELDS, PayerIdentity,
    Registrant,
};
use crate::view::write_time;

/// The furthest deadline: two years, longer than any enrolment.
const FURTHEST_MS: i64 = 731 * 24 * 3_600_000;
/// The longest grace after the deadline: 30 days.
const LONGEST_GRACE_SECONDS: i64 = 30 * 24 * 3_600;
/// What the longest name may be that a provider checks, in bytes: more cannot be encrypted for WeChat Pay.
const LONGEST_CHECKED_NAME: usize = 128;
/// Members of `metadata` at most.
const METADATA_KEYS: usize = 20;

const MEMBERS: [&str; 16] = [
    "merchant_order_no",
    "subject",
    "items",
    "amount",
    "currency",
    "payer",
    "registrant",
    "wallets",
    "purpose",
    "late_grace_seconds",
    "receipt_email",
    "payer_identity",
    "display_fields",
    "pay_before",
    "late_payment",
    "return_url",
];
const METADATA: &str = "metadata";

/// An order as the merchant asked for it, every member checked.
#[derive(Clone)]
pub struct Asked {
    pub merchant_order_no: String,
    pub subject: String,
    pub items: Vec<Item>,
    pub amount: Fen,
    pub payer_ref: String,
    pub name: Option<String>,
    pub id_number: Option<String>,
    pub phone: Option<String>,
    /// The person registered, where the merchant says who that is.
    pub registrant: Option<Registrant>,
    /// `None`: whatever the merchant's accounts offer.
    pub wallets: Option<Vec<Wallet>>,
    pub purpose: Option<String>,
    pub late_payment: LatePayment,
    pub late_grace_seconds: i64,
    pub receipt_email: Option<String>,
    pub payer_identity: PayerIdentity,
    pub display_fields: Vec<DisplayField>,
    pub pay_before: Option<Timestamp>,
    pub return_url: Option<String>,
    pub metadata: Map<String, Value>,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Asked")
            .field("amount", &self.amount)
            .finish_non_exhaustive()
    }
}

/// What the rules need to know of the world.
#[derive(Clone, Copy, Debug)]
pub struct Around<'a> {
    pub now: Timestamp,
    pub zone_minutes: i32,
    pub demo: bool,
    pub return_hosts: &'a [String],
}

impl Asked {
    /// Reads a body. The refusal lists every finding.
    pub fn read(body: &Value, around: Around<'_>) -> Result<Self, Problem> {
        let findings = Findings::default();
        let asked = read(body, around, &findings);
        match (findings.into_problem(), asked) {
            (None, Some(asked)) => Ok(asked),
            (Some(problem), _) => Err(with_bounds(problem, around)),
            (None, None) => Err(Problem::new(
                Code::ValidationFailed,
                "The body is not an order.",
            )),
        }
    }

    /// A keyed hash of each member, so that a conflict can be named without keeping the content.
    pub fn field_hashes(&self, sealer: &Sealer) -> Vec<(String, String)> {
        self.fields()
            .into_iter()
            .map(|(name, value)| {
                let index = sealer.index(&format!("order.{name}"), &value.to_string());
                (name.to_owned(), format!("{index:032x}"))
            })
            .collect()
    }

    /// One hash over everything but what is personal: it outlives an erasure.
    pub fn snapshot_hash(&self, sealer: &Sealer) -> String {
        let lasting: Map<String, Value> = self
            .fields()
            .into_iter()
            .filter(|(name, _)| !PERSONAL_FIELDS.contains(name))
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        let text = Value::Object(lasting).to_string();
        format!("{:032x}", sealer.index("order.snapshot", &text))
    }

    /// Each member's name, and its value with defaults filled in.
    fn fields(&self) -> Vec<(&'static str, Value)> {
        let late_payment = match self.late_payment {
            LatePayment::Refund => "refund",
            LatePayment::Accept { .. } => "accept",
        };
        let display_fields: Vec<_> = self
            .display_fields
            .iter()
            .map(|field| json!([field.label, field.value]))
            .collect();
        let mut metadata: Vec<_> = self.metadata.iter().collect();
        metadata.sort_by_key(|(name, _)| name.as_str());
        let registrant = self.registrant.as_ref();
        vec![
            ("subject", json!(self.subject)),
            ("items", json!(self.items)),
            ("amount", json!(self.amount)),
            ("payer.ref", json!(self.payer_ref)),
            ("payer.name", json!(self.name)),
            ("payer.id_number", json!(self.id_number)),
            ("payer.phone", json!(self.phone)),
            ("registrant.name", json!(registrant.map(|it| &it.name))),
            (
                "registrant.id_number",
                json!(registrant.map(|it| &it.id_number)),
            ),
            ("registrant.phone", json!(registrant.map(|it| &it.phone))),
            ("wallets", json!(self.wallets)),
            ("purpose", json!(self.purpose)),
            ("late_payment", json!(late_payment)),
            ("late_grace_seconds", json!(self.late_grace_seconds)),
            ("receipt_email", json!(self.receipt_email)),
            ("payer_identity", json!(self.payer_identity)),
            ("display_fields", json!(display_fields)),
            ("pay_before", json!(self.pay_before)),
            ("return_url", json!(self.return_url)),
            ("metadata", json!(metadata)),
        ]
    }

    /// The members that the registrant has and the payer has not, or has otherwise. Numbers are compared as
    /// a card shows them: a small x is a capital one.
    pub fn payer_differs_in(&self) -> Vec<&'static str> {
        let Some(registrant) = &self.registrant else {
            return Vec::new();
        };
        let upper = |number: &Option<String>| number.as_ref().map(|it| it.to_ascii_uppercase());
        [
            (
                "name",
                registrant.name.is_some() && registrant.name != self.name,
            ),
            (
                "id_number",
                registrant.id_number.is_some()
                    && upper(&registrant.id_number) != upper(&self.id_number),
            ),
            (
                "phone",
                registrant.phone.is_some() && registrant.phone != self.phone,
            ),
        ]
        .into_iter()
        .filter_map(|(name, differs)| differs.then_some(name))
        .collect()
    }

    /// For a merchant whose payers must be who is registered: what is wrong with this order. Never quotes
    /// a value.
    pub fn check_registrant(&self) -> Result<(), Problem> {
        let comparable = |it: &Registrant| it.name.is_some() || it.id_number.is_some();
        if !self.registrant.as_ref().is_some_and(comparable) {
            return Err(Problem::new(
                Code::ValidationFailed,
                "This merchant's orders say who is registered, so that the payer can be compared.",
            )
            .at("/registrant", "missing; expected name, id_number or both"));
        }
        let differing = self.payer_differs_in();
        if differing.is_empty() {
            return Ok(());
        }
        let problem = Problem::new(
            Code::PayerMismatch,
            format!(
                "The payer must be the person registered; these members differ: {}.",
                differing.join(", ")
            ),
        );
        let problem = differing.iter().fold(problem, |problem, name| {
            problem.at(
                format!("/registrant/{name}"),
                format!("expected the same as /payer/{name}"),
            )
        });
        Err(problem.with("differing", differing))
    }

    /// The payer as shown, and who is registered.
    pub fn masked(&self, masks: Masks) -> MaskedPayer {
        let payer = masked(
            masks,
            self.name.as_deref(),
            self.id_number.as_deref(),
            self.phone.as_deref(),
        );
        let registrant = self.registrant.as_ref().map(|registrant| {
            let shown = masked(
                masks,
                registrant.name.as_deref(),
                registrant.id_number.as_deref(),
                registrant.phone.as_deref(),
            );
            MaskedRegistrant {
                name: shown.name,
                id_number: shown.id_number,
                phone: shown.phone,
                differs: !self.payer_differs_in().is_empty(),
            }
        });
        MaskedPayer {
            registrant,
            ..payer
        }
    }
}

/// A payer as shown: enough to recognise, too little to misuse.
pub(super) fn masked(
    masks: Masks,
    name: Option<&str>,
    id_number: Option<&str>,
    phone: Option<&str>,
) -> MaskedPayer {
    let (number, dial) = match masks {
        Masks::Standard => ((4, 4), (3, 4)),
        Masks::Strict => ((1, 1), (3, 2)),
    };
    MaskedPayer {
        name: name.map(mask_name),
        id_number: id_number.map(|text| mask(text, number.0, number.1)),
        phone: phone.map(|text| mask(text, dial.0, dial.1)),
        registrant: None,
    }
}

/// Where a deadline is wrong: between which times it may be.
pub(super) fn with_bounds(problem: Problem, around: Around<'_>) -> Problem {
    if problem.code() != Code::PayBeforeInvalid {
        return problem;
    }
    let write = |at| write_time(at, around.zone_minutes);
    problem
        .with("server_time", write(around.now))
        .with("latest", write(around.now.plus_ms(FURTHEST_MS)))
}

fn read(body: &Value, around: Around<'_>, findings: &Findings) -> Option<Asked> {
    let mut known = MEMBERS.to_vec();
    known.push(METADATA);
    let order = Object::read(body, "", &known, findings)?;

    let merchant_order_no = order.required_text("merchant_order_no", Text::number(64));
    let subject = order.required_text("subject", Text::displayed(127));
    let items = items(&order);
    let amount = amount(&order, &items);
    if order.require("currency").is_some() {
        currency(&order);
    }
    let payer = payer(&order);
    let registrant = order
        .get("registrant")
        .and_then(|value| registrant(value, findings));
    let wallets = wallets(&order);
    let (late_payment, late_grace_seconds) = late(&order);
    let identities = [
        ("none", PayerIdentity::None),
        ("confirm", PayerIdentity::Confirm),
        ("provider", PayerIdentity::Provider),
    ];
    let payer_identity = order
        .word("payer_identity", &identities)
        .unwrap_or(PayerIdentity::None);
    if payer_identity == PayerIdentity::Provider
        && let (Some(raw), Some(payer)) = (order.get("payer"), &payer)
    {
        check_identity(raw, payer, findings);
    }
    let purpose = order.text("purpose", Text::displayed(64));
    let receipt_email = order.text("receipt_email", Text::id(254));
    if let Some(email) = &receipt_email
        && !looks_like_email(email)
    {
        order.finding("receipt_email", "expected one e-mail address");
    }
    let display_fields = display_fields(&order);
    let pay_before = pay_before(&order, around);
    let return_url = return_url(&order, around);
    let metadata = metadata(&order);
    let Payer {
        reference: payer_ref,
        name,
        id_number,
        phone,
    } = payer?;

    Some(Asked {
        merchant_order_no: merchant_order_no?,
        subject: subject?,
        items,
        amount: amount?,
        payer_ref,
        name,
        id_number,
        phone,
        registrant,
        wallets,
        purpose,
        late_payment,
        late_grace_seconds,
        receipt_email,
        payer_identity,
        display_fields,
        pay_before,
        return_url,
        metadata,
    })
}

/// Yuan alone.
pub(super) fn currency(order: &Object<'_>) {
    if order.get("currency").is_some_and(|word| word != "CNY") {
        order.finding("currency", "expected \"CNY\"");
    }
}

/// What becomes of money after the deadline, and how many seconds later it still counts.
pub(super) fn late(order: &Object<'_>) -> (LatePayment, i64) {
    let accepts = order
        .word("late_payment", &[("refund", false), ("accept", true)])
        .unwrap_or(false);
    let seconds = order
        .integer("late_grace_seconds", 0..=LONGEST_GRACE_SECONDS)
        .unwrap_or(0);
    if seconds > 0 && !accepts {
        order.finding(
            "late_grace_seconds",
            "expected 0, or \"late_payment\": \"accept\" beside it",
        );
    }
    (late_payment(accepts, seconds), seconds)
}

pub fn late_payment(accepts: bool, grace_seconds: i64) -> LatePayment {
    if accepts {
        LatePayment::Accept {
            grace_ms: grace_seconds.saturating_mul(1_000),
        }
    } else {
        LatePayment::Refund
    }
}

pub(super) fn items(order: &Object<'_>) -> Vec<Item> {
    let values = order.required_list("items", 1..=200).unwrap_or_default();
    let findings = order.findings();
    let read = |(index, value): (usize, &Value)| {
        let pointer = format!("{}/{index}", order.pointer("items"));
        let item = Object::read(
            value,
            pointer,
            &["code", "name", "note", "amount"],
            findings,
        )?;
        let code = item.text("code", Text::displayed(64));
        let name = item.required_text("name", Text::displayed(128));
        let note = item.text("note", Text::displayed(256));
        let amount = fen(&item, "amount");
        Some(Item {
            code,
            name: name?,
            note,
            amount: amount?,
        })
    };
    values.iter().enumerate().filter_map(read).collect()
}

/// One amount: a whole number of fen from 1 to 10^9.
pub(super) fn fen(object: &Object<'_>, name: &str) -> Option<Fen> {
    let value = object.require(name)?;
    let refuse = |detail: String| {
        object
            .findings()
            .add_as(Code::AmountInvalid, object.pointer(name), detail);
        None
    };
    match value {
        Value::Number(number) => match number.as_i64().map(Fen::new) {
            Some(fen) if fen.is_payable() => Some(fen),
            _ => refuse(format!(
                "expected a whole number of fen from 1 to {}, found {number}",
                Fen::MAX_ORDER.get()
            )),
        },
        other => {
            object.finding(
                name,
                format!("expected a whole number of fen, found {}", kind(other)),
            );
            None
        }
    }
}

pub(super) fn amount(order: &Object<'_>, items: &[Item]) -> Option<Fen> {
    let amount = fen(order, "amount")?;
    let asked_items = order.get("items").and_then(Value::as_array).map(Vec::len);
    // The sum says nothing while single items are wrong.
    if asked_items == Some(items.len()) && !items.is_empty() {
        let sum = Fen::sum(items.iter().map(|item| item.amount));
        if sum != Some(amount) {
            let sum = sum.map_or_else(
                || "more than can be".to_owned(),
                |sum| sum.get().to_string(),
            );
            order.findings().add_as(
                Code::AmountInvalid,
                order.pointer("amount"),
                format!(
                    "expected the sum of the items, {sum}, found {}",
                    amount.get()
                ),
            );
        }
    }
    Some(amount)
}

/// Who pays, as the merchant names one.
pub(super) struct Payer {
    pub reference: String,
    pub name: Option<String>,
    pub id_number: Option<String>,
    pub phone: Option<String>,
}

pub(super) fn payer(order: &Object<'_>) -> Option<Payer> {
    let payer = Object::read(
        order.require("payer")?,
        order.pointer("payer"),
        &["ref", "name", "id_number", "phone"],
        order.findings(),
    )?;
    let reference = payer.required_text("ref", Text::id(128));
    let (name, id_number, phone) = person(&payer);
    Some(Payer {
        reference: reference?,
        name,
        id_number,
        phone,
    })
}

fn registrant(value: &Value, findings: &Findings) -> Option<Registrant> {
    let registrant = Object::read(
        value,
        "/registrant",
        &["name", "id_number", "phone"],
        findings,
    )?;
    let (name, id_number, phone) = person(&registrant);
    let says_nothing = ["name", "id_number", "phone"]
        .iter()
        .all(|member| registrant.get(member).is_none());
    if says_nothing {
        findings.add(
            "/registrant",
            "expected name, id_number, phone or several of them",
        );
        return None;
    }
    Some(Registrant {
        name,
        id_number,
        phone,
    })
}

type Person = (Option<String>, Option<String>, Option<String>);

/// Name, number and phone.
fn person(object: &Object<'_>) -> Person {
    let name = object.text("name", Text::displayed(64));
    let id_number = object.text("id_number", Text::id(32));
    let phone = object.text("phone", Text::id(20));
    let is_phone = |phone: &str| {
        let digits = phone.strip_prefix('+').unwrap_or(phone);
        digits.len() >= 5 && digits.bytes().all(|b| b.is_ascii_digit() || b == b'-')
    };
    if let Some(phone) = &phone
        && !is_phone(phone)
    {
        object.finding("phone", "expected digits and -, after an optional +");
    }
    (name, id_number, phone)
}

/// What a provider needs to know of the payer, in order to check who pays. A name that is wrong in itself
/// is a finding already.
fn check_identity(raw: &Value, payer: &Payer, findings: &Findings) {
    const BESIDE: &str = "with \"payer_identity\": \"provider\"";
    for name in ["name", "id_number"] {
        if raw.get(name).is_none_or(Value::is_null) {
            findings.add(
                format!("/payer/{name}"),
                format!("missing; expected {BESIDE}"),
            );
        }
    }
    match &payer.name {
        Some(name) if name.len() > LONGEST_CHECKED_NAME => findings.add(
            "/payer/name",
            format!("expected at most {LONGEST_CHECKED_NAME} bytes of UTF-8 {BESIDE}"),
        ),
        _ => {}
    }
    match &payer.id_number {
        Some(number) if !is_identity_card(number) => findings.add(
            "/payer/id_number",
            format!("expected 17 digits and a digit or X, a resident identity card's, {BESIDE}"),
        ),
        _ => {}
    }
}

fn is_identity_card(number: &str) -> bool {
    number.len() == 18
        && number.bytes().enumerate().all(|(index, byte)| {
            byte.is_ascii_digit() || (index == 17 && byte.eq_ignore_ascii_case(&b'x'))
        })
}

fn wallets(order: &Object<'_>) -> Option<Vec<Wallet>> {
    let values = order.list("wallets", 1..=8)?;
    let mut wallets = Vec::new();
    for (index, value) in values.iter().enumerate() {
        let wallet = match value.as_str() {
            Some("wechat") => Wallet::Wechat,
            Some("alipay") => Wallet::Alipay,
            _ => {
                let pointer = format!("/wallets/{index}");
                order
                    .findings()
                    .add(pointer, "expected \"wechat\" or \"alipay\"");
                continue;
            }
        };
        if wallets.contains(&wallet) {
            let pointer = format!("/wallets/{index}");
            order.findings().add(pointer, "named twice");
        } else {
            wallets.push(wallet);
        }
    }
    Some(wallets)
}

fn display_fields(order: &Object<'_>) -> Vec<DisplayField> {
    let values = order.list("display_fields", 0..=20).unwrap_or_default();
    let read = |(index, value): (usize, &Value)| {
        let pointer = format!("/display_fields/{index}");
        let field = Object::read(value, pointer, &["label", "value"], order.findings())?;
        let label = field.required_text("label", Text::displayed(32));
        let value = field.required_text("value", Text::displayed(128));
        Some(DisplayField {
            label: label?,
            value: value?,
        })
    };
    values.iter().enumerate().filter_map(read).collect()
}

pub(super) fn pay_before(order: &Object<'_>, around: Around<'_>) -> Option<Timestamp> {
    let value = order.get("pay_before")?;
    let refuse = |detail: &str| {
        order
            .findings()
            .add_as(Code::PayBeforeInvalid, order.pointer("pay_before"), detail);
        None
    };
    let Value::String(text) = value else {
        order.finding(
            "pay_before",
            format!("expected a text, found {}", kind(value)),
        );
        return None;
    };
    // The offset is what makes it an instant; without one it does not parse.
    let Ok(instant) = text.parse::<Instant>() else {
        return refuse(
            "expected an RFC 3339 time with an offset, such as 2026-11-20T18:00:00+08:00",
        );
    };
    let at = Timestamp::from_millis(instant.as_millisecond());
    if at <= around.now {
        return refuse("expected a time to come, found one that has passed");
    }
    if at > around.now.plus_ms(FURTHEST_MS) {
        return refuse("expected a time within the next two years");
    }
    Some(at)
}

pub(super) fn return_url(order: &Object<'_>, around: Around<'_>) -> Option<String> {
    let text = order.text("return_url", Text::id(2_048))?;
    let url = web_url(order, "return_url", &text, around.demo)?;
    let host = url.host_str().unwrap_or_default();
    let registered = around.return_hosts.is_empty()
        || around
            .return_hosts
            .iter()
            .any(|known| known.eq_ignore_ascii_case(host));
    if !registered {
        order.finding(
            "return_url",
            "expected a host of the merchant's return_hosts",
        );
        return None;
    }
    Some(text)
}

/// An address that a browser may be sent to: https; in demo mode plain http to this machine too.
pub(super) fn web_url(object: &Object<'_>, name: &str, text: &str, demo: bool) -> Option<Url> {
    let refuse = |detail: &str| {
        object.finding(name, detail);
        None
    };
    let Ok(url) = Url::parse(text) else {
        return refuse("expected an https URL");
    };
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    let allowed = url.scheme() == "https" || (demo && url.scheme() == "http" && loopback);
    if !allowed {
        return refuse("expected an https URL");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("expected a URL without a user or password");
    }
    Some(url)
}

pub(super) fn metadata(order: &Object<'_>) -> Map<String, Value> {
    let Some(value) = order.get(METADATA) else {
        return Map::new();
    };
    let Value::Object(members) = value else {
        order.finding(
            METADATA,
            format!("expected an object, found {}", kind(value)),
        );
        return Map::new();
    };
    if members.len() > METADATA_KEYS {
        let detail = format!(
            "expected at most {METADATA_KEYS} members, found {}",
            members.len()
        );
        order.finding(METADATA, detail);
    }
    for (name, value) in members.iter().take(METADATA_KEYS) {
        let fault = Text::displayed(40)
            .check(name)
            .map_err(|fault| format!("its name: {fault}"))
            .and_then(|()| match value {
                Value::Null | Value::Bool(_) => Ok(()),
                Value::Number(number) if !number.is_f64() => Ok(()),
                Value::String(text) => Text::kept(500).check(text),
                other => Err(format!(
                    "expected a text, a whole number, true, false or null, found {}",
                    kind(other)
                )),
            });
        if let Err(fault) = fault {
            let name = name.replace('~', "~0").replace('/', "~1");
            let pointer = format!("{}/{name}", order.pointer(METADATA));
            order.findings().add(pointer, fault);
        }
    }
    members.clone()
}

pub fn looks_like_email(text: &str) -> bool {
    match text.split_once('@') {
        Some((local, domain)) => {
            !local.is_empty()
                && !domain.contains('@')
                && domain.contains('.')
                && !domain.starts_with('.')
                && !domain.ends_with('.')
        }
        None => false,
    }
}

/// The first character of a name.
fn mask_name(name: &str) -> String {
    name.chars().next().into_iter().chain(['*']).collect()
}

/// The first and last few characters of a number, if enough lies between them.
fn mask(text: &str, first: usize, last: usize) -> String {
    let length = text.chars().count();
    let (first, last) = if length >= first + last + 3 {
        (first, last)
    } else {
        (0, length.min(2) / 2)
    };
    text.chars()
        .enumerate()
        .map(|(index, letter)| {
            if index < first || index >= length - last {
                letter
            } else {
                '*'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_as_the_contract_shows() {
        assert_eq!(mask_name("测试考生"), "测*");
        assert_eq!(mask("650102200001010011", 4, 4), "6501**********0011");
        assert_eq!(mask("13800000000", 3, 4), "138****0000");
        assert_eq!(mask("12345", 4, 4), "****5");
        assert_eq!(mask("1", 4, 4), "*");
    }
}
