//! The part of the page that changes: the same values for the rendered page, the JSON state and the
//! event stream, so that a page with scripts and one without say the same.

use serde::Serialize;

use super::state::State;
use super::times::Zone;
use crate::http::words::{Words, fill};
use crate::order::attempt::{Attempt, Phase};
use crate::order::state::{CaptureStanding, RefundStanding};
use crate::order::{CodeMode, Fen, Order, Timestamp, Wallet};
use crate::provider::OTHER_PERSON;
use crate::qr::Qr;
use crate::store::{PayerIdentity, StoredOrder};
use crate::view::View;

/// What a page needs beside the order to write a panel.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    pub words: &'static Words,
    pub zone: Zone,
    pub view: &'a View,
    pub now: Timestamp,
    /// The page is open on a phone that can pay right there.
    pub pays_here: bool,
    /// Demo mode only.
    pub demo_wallet_url: Option<&'a str>,
}

/// How a state is announced to people who listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Announce {
    None,
    Polite,
    Assertive,
}

/// The colour of a state, never its only sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tone {
    Calm,
    Wait,
    Good,
    Bad,
}

impl Tone {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Wait => "wait",
            Self::Good => "good",
            Self::Bad => "bad",
        }
    }
}

/// The code on show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// Which attempt it belongs to.
    pub attempt: u16,
    pub side: u32,
    pub path: String,
    pub label: String,
    pub caption: &'static str,
    pub tip: &'static str,
    /// Demo mode: the simulated wallet, with this code.
    pub demo: Option<String>,
}

/// The button that starts a code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Start {
    pub label: &'static str,
    /// A page with scripts presses it by itself once somebody looks.
    pub auto: bool,
    /// Somebody may be paying: ask first.
    pub ask: bool,
    pub tick: bool,
    /// It is what to do now.
    pub primary: bool,
}

/// Everything that changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Panel {
    pub version: u64,
    pub state: &'static str,
    pub status: &'static str,
    pub tone: Tone,
    pub announce: Announce,
    /// The heading takes the focus.
    pub focus: bool,
    pub heading: String,
    pub text: String,
    pub attempt: Option<u16>,
    /// Until the code's end, computed when this was written.
    pub remaining_ms: Option<i64>,
    pub total_ms: i64,
    pub until: Option<String>,
    pub code: Option<Shown>,
    /// A phone has the code: a picture of a phone stands in its place.
    pub phone: bool,
    pub start: Option<Start>,
    pub wallets: Vec<&'static str>,
    pub query: bool,
    pub cancel: bool,
    pub go: bool,
    /// Back to the enrolment system by itself, after eight seconds that can be stopped.
    pub returns: bool,
    /// Lines about the payment.
    pub payment: Vec<(&'static str, String)>,
    /// The receipt's page, of a paid order.
    pub receipt: Option<String>,
    /// The fiscal e-receipt, once the school has issued it.
    pub fiscal: Option<String>,
    pub refund: Option<String>,
    pub notice: Option<String>,
    /// An answer to a press.
    pub answer: Option<String>,
    pub checked: String,
    /// When to look again although nothing is heard, in milliseconds.
    pub again_ms: Option<i64>,
    pub done: bool,
}

impl Panel {
    pub fn of(stored: &StoredOrder, scene: Scene<'_>) -> Self {
        let Scene {
            words, zone, now, ..
        } = scene;
        let order = &stored.order;
        let state = State::of(order, &stored.snapshot, now);
        let live = order.live_attempt().filter(|live| live.is_open());
        let remaining_ms = live.map(|live| live.expires_at.since(now).max(0));
        let (heading, text) = sentences(stored, state, scene);
        let code = shown(order, state, scene);
        Self {
            version: order.version,
            state: state.name(),
            status: order.status().as_str(),
            tone: tone(state),
            announce: announce(state),
            focus: matches!(
                state,
                State::Paid
                    | State::PaidLate
                    | State::Expired
                    | State::Failed
                    | State::Duplicate
                    | State::LateAfterClosing
            ),
            heading,
            text,
            attempt: order.attempts.last().map(|last| last.number.get()),
            remaining_ms,
            total_ms: order.terms.qr_ms,
            until: live
                .map(|live| fill(words.deadline_at, &[("time", &zone.clock(live.expires_at))])),
            phone: state == State::Scanned,
            start: start(stored, state, scene),
            wallets: wallets(order, state),
            query: !matches!(
                state,
                State::Review | State::Notice | State::Ready | State::Choose
            ) && order.is_open(),
            cancel: order.is_open()
                && !matches!(
                    state,
                    State::Cancelling | State::Confirming | State::Unverified | State::Mismatch
                ),
            go: scene.pays_here
                && order.terms.mode == CodeMode::Unified
                && matches!(
                    state,
                    State::Review
                        | State::Notice
                        | State::Ready
                        | State::Awaiting
                        | State::Warning
                        | State::Expired
                        | State::Failed
                        | State::Released
                        | State::Superseded
                ),
            // Whoever comes back to see a refund stays.
            returns: matches!(state, State::Paid | State::PaidLate)
                && order.refunds.is_empty()
                && stored.snapshot.return_url.is_some(),
            payment: payment(order, scene),
            receipt: order
                .payment()
                .map(|_| format!("/receipts/{}", scene.view.receipt_token(order.id))),
            fiscal: order
                .fiscal_receipt
                .as_ref()
                .map(|known| known.url.to_string()),
            refund: refund(order, scene),
            notice: stored
                .snapshot
                .possible_duplicate
                .filter(|_| order.is_open() && state != State::Notice)
                .map(|_| words.notice_heading.to_owned()),
            answer: None,
            checked: fill(words.checked_at, &[("time", &zone.clock(now))]),
            again_ms: State::changes_at(order, now).map(|at| at.since(now)),
            done: state.is_final(),
            code,
        }
    }

    /// Do both say the same, the running time aside?
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.standing() == other.standing()
    }

    /// Without what time alone changes.
    #[must_use]
    pub fn standing(&self) -> Self {
        Self {
            remaining_ms: None,
            again_ms: None,
            checked: String::new(),
            heading: if self.state == State::Warning.name() {
                String::new()
            } else {
                self.heading.clone()
            },
            ..self.clone()
        }
    }

    /// Without the picture, for the copy that the page's script starts from: it is drawn already.
    #[must_use]
    pub fn without_picture(&self) -> Self {
        let mut panel = self.clone();
        if let Some(code) = &mut panel.code {
            code.path = String::new();
        }
        panel
    }
}

fn tone(state: State) -> Tone {
    match state {
        State::Paid | State::PaidLate => Tone::Good,
        State::Warning
        | State::Confirming
        | State::Unverified
        | State::Cancelling
        | State::Mismatch
        | State::Notice
        | State::TooClose
        | State::Duplicate
        | State::LateAfterClosing => Tone::Wait,
        State::Expired | State::Failed | State::Cancelled | State::Deadline => Tone::Bad,
        _ => Tone::Calm,
    }
}

fn announce(state: State) -> Announce {
    match state {
        State::Review | State::Ready | State::Choose => Announce::None,
        State::TooClose
        | State::Paid
        | State::PaidLate
        | State::Expired
        | State::Unverified
        | State::Mismatch
        | State::LateAfterClosing
        | State::Duplicate
        | State::Failed
        | State::Cancelled
        | State::Deadline => Announce::Assertive,
        _ => Announce::Polite,
    }
}

fn sentences(stored: &StoredOrder, state: State, scene: Scene<'_>) -> (String, String) {
    let Scene {
        words: w,
        zone,
        now,
        ..
    } = scene;
    let order = &stored.order;
    let native = order.live_attempt().and_then(|live| live.native);
    let (heading, text) = match state {
        State::Review => (w.review_heading, w.review_text),
        State::Notice => (w.notice_heading, w.notice_text),
        State::Ready if scene.pays_here => (w.phone_heading, w.phone_text),
        State::Ready => (w.ready_heading, w.ready_text),
        State::Choose => (w.choose_heading, w.choose_text),
        State::TooClose => (w.too_close_heading, w.too_close_text),
        State::Loading => (w.loading_heading, w.loading_text),
        State::Awaiting => (
            w.awaiting_heading,
            match native {
                None => w.awaiting_text,
                Some(Wallet::Wechat) => w.awaiting_wechat_text,
                Some(Wallet::Alipay) => w.awaiting_alipay_text,
            },
        ),
        State::Warning => (w.warning_heading, w.warning_text),
        State::Scanned => (w.scanned_heading, w.scanned_text),
        State::Superseded => (w.superseded_heading, w.superseded_text),
        State::Released => (w.released_heading, w.released_text),
        State::Confirming => (w.confirming_heading, w.confirming_text),
        State::Unverified => (w.unverified_heading, w.unverified_text),
        State::Cancelling => (w.cancelling_heading, w.cancelling_text),
        State::Mismatch => (w.mismatch_heading, w.mismatch_text),
        State::Paid => (w.paid_heading, w.paid_text),
        State::PaidLate => (w.paid_late_heading, w.paid_late_text),
        State::Duplicate => (w.duplicate_heading, w.duplicate_text),
        State::LateAfterClosing => (w.late_heading, w.late_text),
        State::Expired => (w.expired_heading, w.expired_text),
        State::Failed if failed_for_identity(order) => (w.failed_heading, w.other_person_text),
        State::Failed => (w.failed_heading, w.failed_text),
        State::Cancelled => (w.cancelled_heading, w.closed_text),
        State::Deadline => (w.deadline_heading, w.closed_text),
    };
    let seconds = order
        .live_attempt()
        .map(|live| live.expires_at.since(now).max(0))
        .map(|left| left / 1000 + i64::from(left % 1000 > 0))
        .unwrap_or_default()
        .to_string();
    let payment = order.payment();
    let amount = match state {
        State::Duplicate | State::LateAfterClosing => surplus(order),
        _ => order.terms.amount,
    };
    let reason = match order.attempts.last().map(|last| &last.phase) {
        Some(Phase::Failed { code, .. }) => code.to_string(),
        _ => String::new(),
    };
    let values = [
        ("seconds", seconds),
        ("amount", amount.to_string()),
        (
            "wallet",
            payment
                .map(|payment| wallet_name(payment.wallet, w).to_owned())
                .unwrap_or_default(),
        ),
        (
            "time",
            payment
                .map(|payment| zone.clock(payment.succeeded_at))
                .unwrap_or_default(),
        ),
        (
            "order",
            stored
                .snapshot
                .possible_duplicate
                .map(|other| short(&other.to_string()))
                .unwrap_or_default(),
        ),
        ("reason", reason),
    ];
    let values: Vec<(&str, &str)> = values
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    (fill(heading, &values), fill(text, &values))
}

/// Did the provider refuse the newest attempt because its payer is not the person named?
fn failed_for_identity(order: &Order) -> bool {
    matches!(
        order.attempts.last().map(|last| &last.phase),
        Some(Phase::Failed { code, .. }) if **code == *OTHER_PERSON
    )
}

/// The last characters of an id, to be read aloud.
pub fn short(id: &str) -> String {
    let from = id.len().saturating_sub(8);
    format!("…{}", id.get(from..).unwrap_or(id))
}

pub fn wallet_name(wallet: Wallet, words: &'static Words) -> &'static str {
    match wallet {
        Wallet::Wechat => words.wechat,
        Wallet::Alipay => words.alipay,
    }
}

/// What the live attempt's code holds, while it may be shown.
pub fn content_of(live: &Attempt, view: &View, now: Timestamp) -> Option<String> {
    (live.phase == Phase::Shown && live.expires_at > now)
        .then(|| view.qr_content(live))
        .flatten()
}

fn shown(order: &Order, state: State, scene: Scene<'_>) -> Option<Shown> {
    if !matches!(state, State::Awaiting | State::Warning) {
        return None;
    }
    let words = scene.words;
    let live = order.live_attempt()?;
    let content = content_of(live, scene.view, scene.now)?;
    let picture = Qr::of(&content).ok()?;
    let (caption, wallets, tip) = match live.native {
        None => (words.scan_with, words.both_wallets, words.album_tip),
        Some(Wallet::Wechat) => (words.scan_with_wechat, words.wechat, words.album_tip_native),
        Some(Wallet::Alipay) => (words.scan_with_alipay, words.alipay, ""),
    };
    let amount = order.terms.amount.to_string();
    Some(Shown {
        attempt: live.number.get(),
        side: picture.side(),
        path: picture.path(),
        label: fill(
            words.code_label,
            &[("amount", &amount), ("wallets", wallets)],
        ),
        caption,
        tip,
        demo: scene.demo_wallet_url.map(|url| {
            let scan: String = url::form_urlencoded::byte_serialize(content.as_bytes()).collect();
            format!("{url}?scan={scan}")
        }),
    })
}

fn start(stored: &StoredOrder, state: State, scene: Scene<'_>) -> Option<Start> {
    let words = scene.words;
    let native = stored.order.terms.mode == CodeMode::Native;
    let tick = stored.snapshot.payer_identity == PayerIdentity::Confirm
        && stored.order.attempts.is_empty();
    let (label, primary) = match state {
        State::Review | State::Ready => (words.start, true),
        State::Notice => (words.start_anyway, false),
        State::Warning => (words.restart, false),
        State::Scanned => (words.restart_not_mine, false),
        State::Superseded | State::Released | State::Expired | State::Failed => {
            (words.restart, true)
        }
        _ => return None,
    };
    if native && !matches!(state, State::Warning | State::Scanned) {
        // A press on a wallet starts it.
        return None;
    }
    Some(Start {
        label,
        auto: state == State::Superseded || (state == State::Ready && !scene.pays_here),
        ask: state == State::Scanned,
        tick,
        primary: primary && !scene.pays_here,
    })
}

/// Native mode: which wallets can be picked now.
fn wallets(order: &Order, state: State) -> Vec<&'static str> {
    let picking = matches!(
        state,
        State::Choose
            | State::Notice
            | State::Review
            | State::Awaiting
            | State::Warning
            | State::Superseded
            | State::Released
            | State::Expired
            | State::Failed
    );
    if order.terms.mode != CodeMode::Native || !picking {
        return Vec::new();
    }
    let current = order.live_attempt().and_then(|live| live.native);
    order
        .terms
        .offers
        .iter()
        .map(|offer| offer.wallet)
        .filter(|wallet| Some(*wallet) != current)
        .map(Wallet::as_str)
        .collect()
}

fn payment(order: &Order, scene: Scene<'_>) -> Vec<(&'static str, String)> {
    let words = scene.words;
    let Some(payment) = order.payment() else {
        return Vec::new();
    };
    let mut lines = vec![
        (
            words.paid_at,
            scene.zone.date_and_clock(payment.succeeded_at),
        ),
        (
            words.paid_with,
            wallet_name(payment.wallet, words).to_owned(),
        ),
        (words.transaction, payment.transaction_id.to_string()),
    ];
    if let Some(fiscal) = &order.fiscal_receipt {
        lines.push((words.fiscal_receipt, fiscal.number.to_string()));
    }
    lines
}

fn surplus(order: &Order) -> Fen {
    Fen::sum(
        order
            .captures
            .iter()
            .filter(|capture| capture.standing != CaptureStanding::Kept)
            .map(|capture| capture.amount),
    )
    .unwrap_or_default()
}

/// What goes back to the payer, or went: the surplus, then what the school gave back.
fn refund(order: &Order, scene: Scene<'_>) -> Option<String> {
    let lines: Vec<String> = surplus_refund(order, scene)
        .into_iter()
        .chain(school_refund(order, scene))
        .collect();
    (!lines.is_empty()).then(|| lines.join(scene.words.between))
}

fn surplus_refund(order: &Order, scene: Scene<'_>) -> Option<String> {
    let words = scene.words;
    order.captures.iter().rev().find_map(|capture| {
        let CaptureStanding::Surplus { standing, .. } = &capture.standing else {
            return None;
        };
        Some(match standing {
            RefundStanding::Pending { .. } | RefundStanding::Processing { .. } => {
                words.refunding.to_owned()
            }
            RefundStanding::Abnormal { .. } | RefundStanding::Failed { .. } => {
                words.refund_stuck.to_owned()
            }
            RefundStanding::Succeeded { at } => fill(
                words.refunded,
                &[
                    ("amount", &capture.amount.to_string()),
                    ("time", &scene.zone.date_and_minute(*at)),
                ],
            ),
        })
    })
}

/// What the school gave back so far and by when, what is on its way, what a person looks after. A
/// refund that the provider refused is between it and the school.
fn school_refund(order: &Order, scene: Scene<'_>) -> Vec<String> {
    let words = scene.words;
    let standings = || order.refunds.iter().map(|refund| refund.standing);
    let mut lines = Vec::new();
    let last = standings().filter_map(|standing| match standing {
        RefundStanding::Succeeded { at } => Some(at),
        _ => None,
    });
    if let Some(last) = last.max() {
        let sentence = if order.refund_status() == "full" {
            words.refunded
        } else {
            words.refunded_part
        };
        let amount = order.amount_refunded().to_string();
        let time = scene.zone.date_and_minute(last);
        lines.push(fill(sentence, &[("amount", &amount), ("time", &time)]));
    }
    let under_way = order
        .refunds
        .iter()
        .filter(|refund| {
            matches!(
                refund.standing,
                RefundStanding::Pending { .. } | RefundStanding::Processing { .. }
            )
        })
        .map(|refund| refund.amount);
    match Fen::sum(under_way) {
        Some(Fen::ZERO) | None => {}
        Some(amount) => {
            let amount = amount.to_string();
            lines.push(fill(words.refunding_amount, &[("amount", &amount)]));
        }
    }
    if standings().any(|standing| matches!(standing, RefundStanding::Abnormal { .. })) {
        lines.push(words.refund_stuck.to_owned());
    }
    lines
}
