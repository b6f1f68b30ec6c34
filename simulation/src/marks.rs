//! Coverage marks: a count for every fault that must bite and every outcome that must be seen. A
//! fault that no run meets proves nothing.

macro_rules! marks {
    ($($mark:ident => $text:literal,)*) => {
        /// Something that must happen somewhere.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mark { $($mark,)* }

        impl Mark {
            pub const ALL: &'static [Self] = &[$(Self::$mark,)*];

            pub const fn text(self) -> &'static str {
                match self { $(Self::$mark => $text,)* }
            }
        }
    };
}

marks! {
    // Nodes, locks, store.
    NodeCrashed => "node killed",
    CrashedWithFlush => "node killed with a commit on its way",
    CrashBeforeCommit => "commit lost with its node",
    CrashAfterCommit => "commit stands, its node is gone",
    NodePaused => "node paused and continued",
    SleeperWoke => "paused node woke up to a shard of another",
    TakenOver => "shard taken over after a crash",
    LocksFlushed => "locks emptied",
    LocksUnreachable => "locks out of reach of a node",
    TwoBelievers => "two nodes believe they own a shard",
    FenceRefused => "write of a replaced owner refused",
    StaleMemory => "stale memory found out before it answered",
    StaleRefused => "stale write refused",
    EpochMoved => "claim of a shard lost to another claim",
    StoreRefused => "store unavailable for a commit",
    StoreReadFailed => "store unavailable for a read",
    UnknownStood => "commit unknown: it stood",
    UnknownGone => "commit unknown: it was gone",
    UnknownLanded => "commit unknown: it landed after the look",
    CommitSlow => "slow commit",
    ClockJumped => "wall clock of a node jumped",
    ClaimTooLate => "claim in time by the node's clock, too late by the store's",
    SweepWoke => "order woken by the sweep",
    // Calls.
    CallDropped => "call not made: its time was over",
    RequestLost => "request to a provider lost",
    AnswerLost => "provider acted, answer lost",
    Garbage => "provider answered garbage",
    ProviderDown => "provider down",
    OutdatedAnswer => "answer to an outdated question ignored",
    MakeRepeated => "order call repeated for an existing trade",
    MakeRefused => "order call refused",
    CloseTooEarly => "close refused as too early",
    CloseThenAccepted => "close refused, then accepted",
    CloseWhilePaying => "close refused: the payer is at the password page",
    ClosedUnknownTrade => "close of a trade that is not there",
    CloseLied => "closed trade paid all the same",
    LinkOutlived => "link or code paid after its end",
    LinkOpenedLate => "link or code opened while its attempt was closing",
    AutoClosed => "provider closed a trade at its time_expire",
    // Payers and merchants.
    SecondScanner => "second payer refused",
    ScannedTwice => "same payer scanned twice",
    TwoPayersOneCode => "two payers at one code",
    PaidPastExpiry => "password page finished after time_expire",
    Released => "code released",
    Superseded => "attempt superseded",
    Cancelled => "order cancelled",
    CancelWhilePaying => "cancel accepted, then paid",
    RequestUnanswered => "answer to a person lost",
    NotOwner => "request to a node that does not own the shard",
    QuerySpaced => "query shared with the one before",
    DeadlineRefused => "attempt refused near the deadline",
    NativePaid => "native code paid",
    // Money.
    Paid => "order paid",
    PaidByQuery => "payment found by a query",
    PaidByBill => "payment found by the bill",
    ExpiredThenPaid => "capture on an expired attempt paid the order",
    SecondCodePaid => "second code paid",
    LateRefunded => "capture after the deadline surplus",
    LateAccepted => "capture within the grace accepted",
    SurplusRefunded => "surplus refunded",
    ClosedThenPaid => "money for an order closed at its deadline",
    CancelledThenPaid => "money for a cancelled order",
    Mismatched => "capture that does not fit its trade",
    RefundProcessing => "refund still in process",
    RefundAnswerLost => "refund done, answer lost",
    RefundFailed => "refund refused for good",
    RefundAbnormal => "refund that the payer's account cannot take",
    RefundRepaired => "abnormal refund sent elsewhere",
    RefundUnderfunded => "refund refused: balance too small",
    RefundRenewed => "refused refund begun anew under a new number",
    RefundPartial => "merchant's partial refund succeeded",
    RefundFull => "payment refunded in full",
    RefundTwin => "merchant's refund asked for twice",
    RefundConflict => "refund number asked for with another amount",
    RefundExceeds => "refund of more than is left refused",
    RefundTooEarly => "refund of an order that is not paid refused",
    RefundWaitsTurn => "refund that waits for the one before it",
    RefundMerchantFailed => "merchant's refund failed",
    RefundNewsFirst => "refund notice before the answer",
    ForeignRefund => "refund made in the provider's console",
    RefundNewsOutdated => "refund notice of a number given up",
    SettledOutside => "odd capture settled outside",
    SettledRefund => "odd capture refunded by two people",
    SettlementRefused => "settlement refused: the second person wants another way",
    ReceiptIssued => "fiscal receipt issued",
    ClosedAtDeadline => "order closed at its deadline",
    StuckClosing => "closing called for a person",
    // Notices.
    NoticeLost => "notice lost",
    NoticeTwice => "notice duplicated",
    NoticeLate => "notice hours late",
    NoticeNever => "notice never sent",
    NoticeUnacked => "notice not acknowledged, repeated",
    AckLost => "acknowledgement lost",
    NoticeBeforeAnswer => "notice before the order call's answer",
    // Webhooks.
    Delivered => "webhook delivered",
    DeliveryFailed => "webhook refused by the endpoint",
    DeliveryUnheard => "webhook taken, answer lost",
    DeliveredTwice => "webhook delivered twice",
    DeliveryMoved => "late delivery result refused",
    Parked => "webhook parked",
    Resent => "parked webhook resent",
    WaitedItsTurn => "webhook waited for an earlier one",
}

/// How often each mark was hit.
#[derive(Clone, Debug)]
pub struct Marks([u64; Mark::ALL.len()]);

impl Default for Marks {
    fn default() -> Self {
        Self([0; Mark::ALL.len()])
    }
}

impl Marks {
    pub(crate) fn hit(&mut self, mark: Mark) {
        self.0[mark as usize] += 1;
    }

    pub fn count(&self, mark: Mark) -> u64 {
        self.0[mark as usize]
    }

    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine += theirs;
        }
    }

    /// Those that were never hit.
    pub fn missing(&self) -> Vec<Mark> {
        let never = |mark: &Mark| self.count(*mark) == 0;
        Mark::ALL.iter().copied().filter(never).collect()
    }

    /// A line for each mark.
    pub fn table(&self) -> String {
        use std::fmt::Write as _;
        let mut table = String::new();
        for mark in Mark::ALL {
            let _ = writeln!(table, "{:>10}  {}", self.count(*mark), mark.text());
        }
        table
    }
}
