//! What is asked: numbers that the reference makes into transactions that fit, nearly fit or do not fit.

use enrollpay::store::DeliveryState;
use proptest::prelude::*;

pub const ORDERS: u32 = 3;
pub const MERCHANTS: u32 = 2;
pub const KEYS: u32 = 2;
pub const SHARDS: u16 = 2;

/// What is committed at once.
pub type Call = Vec<Asked>;

/// One transaction.
#[derive(Clone, Debug)]
pub struct Asked {
    pub nonce: Option<u32>,
    pub key: Option<(u32, KeyStep)>,
    pub step: Option<Step>,
    pub delivery: Option<Delivery>,
    pub claim: Option<Claimed>,
}

#[derive(Clone, Copy, Debug)]
pub enum KeyStep {
    Started,
    Finished,
    Dropped,
    /// Of the row as it is, or as it was.
    Resumed {
        stale: bool,
    },
}

#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub order: u32,
    pub kind: Kind,
    /// How many versions old the state is that it was decided on.
    pub age: usize,
    pub event: bool,
    pub due: bool,
    pub late: bool,
    /// Under a shard's pair: which, how far its epoch is off, whose.
    pub fence: Option<(u16, u64, u128)>,
}

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// What an order that goes its way needs next: most rules are about what comes late.
    Next {
        pick: u32,
    },
    Create {
        merchant: u32,
        number: u32,
    },
    Start,
    Supersede,
    Claim {
        payer: u128,
    },
    Pay {
        transaction: u32,
    },
    Surplus {
        transaction: u32,
    },
    Close,
    Refund {
        number: u32,
        amount: i64,
    },
    RefundEnds {
        which: usize,
        succeeds: bool,
    },
}

/// A try at one of the events, or what was decided on an event that has moved on.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    pub which: usize,
    pub stale: bool,
    pub state: DeliveryState,
}

#[derive(Clone, Copy, Debug)]
pub struct Claimed {
    pub shard: u16,
    /// 1: the next epoch.
    pub ahead: u64,
    pub instance: u128,
}

/// Most choices are likely ones: a sequence of nothing but refusals tells little.
fn seldom() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.1)
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        20 => (0..12_u32).prop_map(|pick| Kind::Next { pick }),
        4 => (1..=MERCHANTS, 1..=ORDERS)
            .prop_map(|(merchant, number)| Kind::Create { merchant, number }),
        4 => Just(Kind::Start),
        1 => Just(Kind::Supersede),
        4 => (1..4_u128).prop_map(|payer| Kind::Claim { payer }),
        4 => (0..6_u32).prop_map(|transaction| Kind::Pay { transaction }),
        2 => (0..6_u32).prop_map(|transaction| Kind::Surplus { transaction }),
        1 => Just(Kind::Close),
        3 => (1..=ORDERS, prop_oneof![Just(14_000), 1..9_000_i64])
            .prop_map(|(number, amount)| Kind::Refund { number, amount }),
        3 => (any::<usize>(), any::<bool>())
            .prop_map(|(which, succeeds)| Kind::RefundEnds { which, succeeds }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let fence = prop::option::weighted(
        0.2,
        (
            0..SHARDS,
            prop_oneof![3 => Just(0_u64), 1 => Just(1)],
            1..3_u128,
        ),
    );
    let age = prop_oneof![6 => Just(0_usize), 1 => 1..3_usize];
    let flags = (any::<bool>(), any::<bool>(), prop::bool::weighted(0.04));
    (1..=ORDERS, kind(), age, flags, fence).prop_map(
        |(order, kind, age, (event, due, late), fence)| Step {
            order,
            kind,
            age,
            event,
            due,
            late,
            fence,
        },
    )
}

fn key() -> impl Strategy<Value = (u32, KeyStep)> {
    let step = prop_oneof![
        3 => Just(KeyStep::Started),
        3 => Just(KeyStep::Finished),
        1 => Just(KeyStep::Dropped),
        1 => any::<bool>().prop_map(|stale| KeyStep::Resumed { stale }),
    ];
    (0..KEYS, step)
}

fn delivery() -> impl Strategy<Value = Delivery> {
    let state = prop_oneof![
        2 => Just(DeliveryState::Pending),
        2 => Just(DeliveryState::Delivered),
        1 => Just(DeliveryState::Parked),
    ];
    (any::<usize>(), seldom(), state).prop_map(|(which, stale, state)| Delivery {
        which,
        stale,
        state,
    })
}

fn claimed() -> impl Strategy<Value = Claimed> {
    let ahead = prop_oneof![4 => Just(1_u64), 1 => 0..3_u64];
    (0..SHARDS, ahead, 1..3_u128).prop_map(|(shard, ahead, instance)| Claimed {
        shard,
        ahead,
        instance,
    })
}

fn asked() -> impl Strategy<Value = Asked> {
    (
        prop::option::weighted(0.2, 0..30_u32),
        prop::option::weighted(0.2, key()),
        prop::option::weighted(0.9, step()),
        prop::option::weighted(0.3, delivery()),
        prop::option::weighted(0.1, claimed()),
    )
        .prop_map(|(nonce, key, step, delivery, claim)| Asked {
            nonce,
            key,
            step,
            delivery,
            claim,
        })
}

pub fn calls() -> impl Strategy<Value = Vec<Call>> {
    let call = prop_oneof![
        2 => prop::collection::vec(asked(), 1),
        1 => prop::collection::vec(asked(), 2..6),
    ];
    prop::collection::vec(call, 4..30)
}
