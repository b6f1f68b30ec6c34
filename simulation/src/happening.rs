//! What can happen next, and what is under way.

use std::rc::Rc;

use crate::node::{Answered, Pending, Tell};
use crate::order::{Command, Effect, Order, Timestamp};
use crate::provider::Number;
use crate::store::{Delivery, Rejection};

/// One thing that happens, to one part of the world.
#[derive(Debug)]
pub(crate) enum Happening {
    /// A person does something about an order.
    Impulse(usize),
    /// A person asks for something that was planned before.
    Wish {
        index: usize,
        command: Command,
    },
    /// A command from outside reaches a node.
    Request {
        node: usize,
        index: usize,
        tell: Tell,
    },
    /// An answer reaches the person who asked.
    Heard {
        index: usize,
        command: Command,
        answered: Answered,
    },
    /// A payer opens a code in the wallet.
    WalletOpens {
        number: Number,
        payer: u8,
    },
    /// A payer has typed the password, or gives up.
    WalletDone {
        number: Number,
        pays: bool,
    },
    AutoClose(Number),
    /// A provider tells us of a payment.
    NoticeSent {
        notice: usize,
        again: bool,
    },
    NoticeAcked(usize),
    RefundNews {
        node: usize,
        notice: usize,
    },
    /// A refund that was on its way has become what it will be.
    RefundEnds {
        number: Number,
        refund_no: Box<str>,
    },
    /// Operators look at what waits for people.
    OperatorsAct,
    ProviderPoor,
    /// A provider's list of a day's payments.
    Bill,
    FlushLands {
        flush: usize,
    },
    FlushAnswered {
        node: usize,
        life: u32,
        flush: usize,
    },
    CallArrives(usize),
    CallAnswered {
        call: usize,
        command: Command,
    },
    Alarm {
        node: usize,
        life: u32,
        index: usize,
    },
    Sweep {
        node: usize,
        life: u32,
    },
    Heartbeat {
        node: usize,
        life: u32,
    },
    RelayLooks {
        node: usize,
        life: u32,
    },
    /// A webhook reaches the merchant's endpoint.
    Delivery {
        node: usize,
        life: u32,
        place: usize,
        /// How the event stood when it was sent.
        was: (Delivery, u16),
        body: Rc<str>,
    },
    DeliveryAnswered {
        node: usize,
        life: u32,
        place: usize,
        was: (Delivery, u16),
        outcome: Told,
    },
    OperatorResends,
    /// Kills a node: this one, if it still is in this life, or any.
    Crash(Option<(usize, u32)>),
    Restart(usize),
    Pause(Option<(usize, u32)>),
    LocksEmptied,
    LocksCut,
    ClockJumps,
    ProviderDown,
    EndpointDown,
    Heal,
    /// Liveness: every attempt must have ended by now.
    AttemptsMustRest,
    End,
}

/// What the endpoint said to a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Taken,
    Failed,
    Gone,
}

/// A call of a provider.
#[derive(Debug)]
pub(crate) struct Call {
    pub node: usize,
    pub life: u32,
    pub index: usize,
    pub effect: Effect,
    /// Past this, nothing is sent and nothing is heard.
    pub until: Timestamp,
    /// As the order was when it was sent: what the request is made of.
    pub order: Rc<Order>,
}

#[derive(Debug)]
pub(crate) struct Notice {
    pub number: Number,
    /// The number of the refund that it is about; `None`: the payment.
    pub refund: Option<Box<str>>,
    pub tries: usize,
    pub acknowledged: bool,
}

/// A group of commits on its way to the store.
#[derive(Debug)]
pub(crate) struct Flush {
    pub group: Vec<Pending>,
    pub fate: Fate,
    pub verdicts: Vec<Result<(), Rejection>>,
    pub landed: bool,
    pub dropped: bool,
    pub answered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Answered,
    /// Surely not written.
    Unavailable,
    /// The answer is lost; whether it lands is another matter.
    Unknown,
}
