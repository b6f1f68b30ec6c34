//! What may go wrong in one run, and how often. Each seed draws its own swarm: most faults are off in
//! most runs, so that each also meets a world in which little else goes wrong.

use crate::dice::Dice;
use crate::order::{
    AccountId, CodeMode, Fen, LatePayment, MerchantId, Offer, Terms, Timestamp, Wallet,
};
use ulid::Ulid;

/// Rates in permille, mean distances in milliseconds (0: never).
#[derive(Clone, Debug)]
pub(crate) struct Swarm {
    /// Orders whose codes live long and at one provider: for races at the order call.
    pub races: bool,
    pub nodes: usize,
    pub shards: usize,
    pub orders: usize,
    /// How long people act, and the pause between two acts of one of them.
    pub session_ms: i64,
    pub pace_ms: i64,
    pub cancels: u16,

    pub crash_every: i64,
    /// Kills aimed at commits on their way.
    pub crash_in_flush: u16,
    pub pause_in_flush: u16,
    /// Pauses aimed at the order call: between its intent and the call, before it is repeated.
    pub pause_at_press: u16,
    pub pause_every: i64,
    pub flush_every: i64,
    pub cut_every: i64,
    pub jump_every: i64,
    pub provider_down_every: i64,
    pub endpoint_down_every: i64,
    /// Clocks of nodes differ by at most this.
    pub skew_ms: i64,

    pub store_down: u16,
    pub read_fails: u16,
    pub unknown: u16,
    pub slow_commit: u16,

    pub request_lost: u16,
    pub answer_lost: u16,
    pub garbage: u16,
    pub slow_call: u16,

    /// People who give a code up as soon as they have pressed 确认付款.
    pub impatient: u16,
    pub person_unheard: u16,
    pub stray: u16,
    pub late_wallet: u16,

    pub notice_lost: u16,
    pub notice_twice: u16,
    pub notice_late: u16,
    pub notice_never: u16,
    pub ack_lost: u16,

    pub make_refused: u16,
    /// A close is too early before this age of the trade.
    pub close_after_ms: i64,
    /// Somebody at the password page holds a close off.
    pub paying_holds: u16,
    pub close_lies: u16,
    /// How long links and codes stay payable past their end.
    pub link_extra_ms: i64,
    pub auto_close: bool,
    pub mismatch: u16,
    pub refund_slow: u16,
    pub refund_fails: u16,
    pub refund_abnormal: u16,
    /// Merchants who refund.
    pub refunds: u16,
    pub poor_every: i64,
    /// Refunds in the provider's own console.
    pub console: u16,

    pub endpoint_fails: u16,
    pub endpoint_unheard: u16,
    pub endpoint_gone: u16,
}

/// At most this much longer a link may live: the contract waits 30 s.
pub(crate) const LINK_EXTRA_MS: i64 = 20_000;
/// Beyond this, nodes' clocks are a fault that the margins are not made for.
const SKEW_MS: i64 = 2_000;

impl Swarm {
    pub fn draw(dice: &mut Dice) -> Self {
        let nodes = dice.pick(&[1, 2, 2, 3]);
        // A calm world now and then; else each fault by a throw of its own.
        let stormy = !dice.chance(60);
        let mut rate = |choices: &[u16]| {
            if stormy && dice.chance(450) {
                dice.pick(choices)
            } else {
                0
            }
        };
        let store_down = rate(&[5, 30, 200]);
        let read_fails = rate(&[5, 50]);
        let unknown = rate(&[5, 30, 200]);
        let slow_commit = rate(&[10, 100]);
        let request_lost = rate(&[20, 150, 400]);
        let answer_lost = rate(&[20, 150, 400]);
        let garbage = rate(&[20, 150]);
        let slow_call = rate(&[30, 300, 900]);
        let impatient = rate(&[50, 300]);
        let person_unheard = rate(&[20, 150]);
        let stray = rate(&[50, 500]);
        let late_wallet = rate(&[100, 500]);
        let notice_lost = rate(&[100, 500, 900]);
        let notice_twice = rate(&[50, 500]);
        let notice_late = rate(&[50, 400]);
        let notice_never = rate(&[50, 500, 1000]);
        let ack_lost = rate(&[50, 400]);
        let make_refused = rate(&[10, 60]);
        let paying_holds = rate(&[500, 1000]);
        let close_lies = rate(&[300, 1000]);
        let mismatch = rate(&[30, 150]) / 2;
        let refund_slow = rate(&[300, 900]);
        let refund_fails = rate(&[50, 300]);
        let refund_abnormal = rate(&[100, 500]);
        let refunds = rate(&[30, 120]);
        let console = rate(&[5, 20]) / 2;
        let endpoint_fails = rate(&[50, 300, 700]);
        let endpoint_unheard = rate(&[50, 300]);
        let endpoint_gone = rate(&[10, 50]);
        let cancels = rate(&[10, 40]);
        let crash_in_flush = rate(&[10, 40]) / 2;
        let pause_in_flush = rate(&[10, 40]) / 2;
        let mut every = |choices: &[i64]| {
            if stormy && dice.chance(400) {
                dice.pick(choices)
            } else {
                0
            }
        };
        let crash_every = every(&[40_000, 200_000]);
        let pause_every = every(&[60_000, 300_000]);
        let flush_every = every(&[15_000, 120_000]);
        let cut_every = every(&[60_000, 300_000]);
        let jump_every = every(&[400_000]) * i64::from(stormy);
        let poor_every = every(&[300_000, 900_000]);
        let provider_down_every = every(&[120_000, 400_000]);
        let endpoint_down_every = every(&[120_000, 400_000]);
        let jump_every = if dice.chance(150) { jump_every } else { 0 };
        Self {
            races: false,
            nodes,
            shards: dice.pick(&[1, 2]),
            orders: dice.pick(&[1, 2, 4, 6, 8]),
            session_ms: dice.ms(300_000, 2_400_000),
            pace_ms: dice.pick(&[3_000, 6_000, 12_000]),
            cancels,
            crash_every,
            crash_in_flush,
            pause_in_flush,
            pause_at_press: 0,
            pause_every,
            flush_every,
            cut_every,
            jump_every,
            provider_down_every,
            endpoint_down_every,
            skew_ms: dice.pick(&[0, 0, 500, SKEW_MS]),
            store_down,
            read_fails,
            unknown,
            slow_commit,
            request_lost,
            answer_lost,
            garbage,
            slow_call,
            impatient,
            person_unheard,
            stray,
            late_wallet,
            notice_lost,
            notice_twice,
            notice_late,
            notice_never,
            ack_lost,
            make_refused,
            close_after_ms: dice.pick(&[0, 0, 60_000, 300_000]),
            paying_holds,
            close_lies,
            link_extra_ms: dice.pick(&[0, LINK_EXTRA_MS, LINK_EXTRA_MS, 400_000]),
            auto_close: dice.chance(500),
            mismatch,
            refund_slow,
            refund_fails,
            refund_abnormal,
            refunds,
            poor_every,
            console,
            endpoint_fails,
            endpoint_unheard,
            endpoint_gone,
        }
        .themed(dice)
    }

    /// Faults that only bite together are drawn together in some runs.
    fn themed(mut self, dice: &mut Dice) -> Self {
        match dice.below(8) {
            // The order call, slow and unanswered, against people who have changed their minds and nodes
            // that sleep through it; providers keep their word, so that a code that lives too long shows.
            0 => {
                self.nodes = self.nodes.max(2);
                self.slow_call = dice.pick(&[0, 300, 900]);
                self.garbage = 400;
                self.impatient = 300;
                self.stray = 300;
                self.pause_in_flush = 20;
                self.pause_at_press = 300;
                self.pace_ms = 3_000;
                self.close_lies = 0;
                self.link_extra_ms = LINK_EXTRA_MS;
                self.jump_every = 0;
                self.make_refused = 0;
                self.races = true;
            }
            // Money that nobody owes, and refunds that do not go through.
            1 => {
                self.close_lies = 1_000;
                self.auto_close = true;
                self.refund_fails = 300;
                self.refund_slow = 500;
                self.notice_late = 300;
                self.notice_twice = 300;
                self.late_wallet = 400;
                self.paying_holds = 1_000;
            }
            // A store that takes its time.
            2 => {
                self.slow_commit = 200;
                self.unknown = 50;
                self.close_lies = 0;
            }
            _ => {}
        }
        self
    }

    /// The nemesis leaves. What providers do by their own rules they go on doing.
    pub fn heal(&mut self) {
        let Self {
            crash_every,
            pause_every,
            flush_every,
            cut_every,
            jump_every,
            provider_down_every,
            poor_every,
            endpoint_down_every,
            skew_ms,
            ..
        } = self;
        for mean in [
            crash_every,
            pause_every,
            flush_every,
            cut_every,
            jump_every,
            provider_down_every,
            poor_every,
            endpoint_down_every,
            skew_ms,
        ] {
            *mean = 0;
        }
        for rate in [
            &mut self.crash_in_flush,
            &mut self.pause_in_flush,
            &mut self.pause_at_press,
            &mut self.store_down,
            &mut self.read_fails,
            &mut self.unknown,
            &mut self.slow_commit,
            &mut self.request_lost,
            &mut self.answer_lost,
            &mut self.garbage,
            &mut self.slow_call,
            &mut self.person_unheard,
            &mut self.stray,
            &mut self.notice_lost,
            &mut self.notice_twice,
            &mut self.ack_lost,
            &mut self.refund_fails,
            &mut self.refund_abnormal,
            &mut self.endpoint_fails,
            &mut self.endpoint_unheard,
            &mut self.endpoint_gone,
        ] {
            *rate = 0;
        }
    }

    /// Do providers keep their word about what can still be paid, and nodes the time? Where not, a
    /// dead code may turn out to be alive, and only the money has to be right.
    pub fn is_honest(&self) -> bool {
        self.close_lies == 0 && self.link_extra_ms <= LINK_EXTRA_MS && self.jump_every == 0
    }
}

/// The frozen conditions of one order.
pub(crate) fn terms(dice: &mut Dice, now: Timestamp, swarm: &Swarm) -> Terms {
    let wallets: &[Wallet] = match dice.below(4) {
        _ if swarm.races => &[Wallet::Wechat],
        0 => &[Wallet::Wechat],
        1 => &[Wallet::Alipay],
        _ => &[Wallet::Wechat, Wallet::Alipay],
    };
    let pay_before = dice
        .chance(if swarm.races { 100 } else { 650 })
        .then(|| now.plus_ms(dice.ms(150_000, swarm.session_ms)));
    Terms {
        merchant: MerchantId::from_ulid(Ulid(1)),
        amount: Fen::new(dice.ms(1, 20_000)),
        pay_before,
        late_payment: if dice.chance(350) {
            LatePayment::Accept {
                grace_ms: dice.pick(&[60_000, 300_000, 1_800_000]),
            }
        } else {
            LatePayment::Refund
        },
        mode: if dice.chance(350) {
            CodeMode::Native
        } else {
            CodeMode::Unified
        },
        offers: wallets
            .iter()
            .map(|wallet| Offer {
                wallet: *wallet,
                account: AccountId::new(account_name(*wallet)),
                application: application(*wallet).into(),
            })
            .collect(),
        qr_ms: if swarm.races {
            300_000
        } else {
            dice.pick(&[60_000, 180_000, 180_000, 300_000])
        },
    }
}

pub(crate) const fn account_name(wallet: Wallet) -> &'static str {
    match wallet {
        Wallet::Wechat => "school-wechat",
        Wallet::Alipay => "school-alipay",
    }
}

pub(crate) const fn application(wallet: Wallet) -> &'static str {
    match wallet {
        Wallet::Wechat => "wx1",
        Wallet::Alipay => "2021",
    }
}
