//! Money on its way back, at the providers.

use std::rc::Rc;

use crate::happening::Happening;
use crate::marks::Mark;
use crate::mutation::Mutation;
use crate::notices::CONSOLE;
use crate::order::{Fen, RefundAnswer, RefundId};
use crate::provider::{Number, RefundStanding};
use crate::world::World;

impl World {
    /// A refund is asked for: the same number is the same refund.
    pub fn give_back(&mut self, call: usize, number: Number, id: RefundId) -> Option<RefundAnswer> {
        let order = Rc::clone(&self.calls[call].order);
        let refund = order.refund(id)?;
        let mut refund_no = refund.number(&order);
        if self.mutated(Mutation::FreshRefundNumber) {
            refund_no = format!("{refund_no}{call}");
        }
        self.audit_refund_number(number, (id, refund.round()), &refund_no);
        let fate = if self.dice.chance(self.swarm.refund_slow) {
            RefundStanding::Processing
        } else if self.dice.chance(self.swarm.refund_fails) {
            RefundStanding::Failed
        } else {
            RefundStanding::Succeeded
        };
        let now = self.now;
        let wallet = self.wallet_of(number)?;
        let (answer, is_new) =
            self.account_of(wallet)
                .refund(number, &refund_no, refund.amount, fate, now);
        match answer {
            RefundAnswer::Processing => self.hit(Mark::RefundProcessing),
            RefundAnswer::Failed => self.hit(Mark::RefundFailed),
            RefundAnswer::Underfunded => self.hit(Mark::RefundUnderfunded),
            _ => {}
        }
        self.audit_refunds(number);
        if is_new {
            match fate {
                RefundStanding::Processing => self.plan_refund_end(number, &refund_no),
                _ => self.plan_notice(number, Some(refund_no.into())),
            }
        }
        Some(answer)
    }

    /// Minutes for a wallet, longer for a bank card.
    pub fn plan_refund_end(&mut self, number: Number, refund_no: &str) {
        let in_ms = if self.dice.chance(600) {
            self.dice.ms(2_000, 300_000)
        } else {
            self.dice.ms(300_000, 7_200_000)
        };
        let refund_no = refund_no.into();
        self.plan(in_ms, Happening::RefundEnds { number, refund_no });
    }

    /// Somebody gives money back in the provider's own console.
    pub fn console_refunds(&mut self) {
        let paid: Vec<_> = (0..self.swarm.orders)
            .flat_map(|index| self.payments(index))
            .map(|(wallet, number, payment)| (wallet, number, payment.amount))
            .collect();
        if paid.is_empty() {
            return;
        }
        let (wallet, number, amount) = self.dice.pick(&paid);
        let part = Fen::new(self.dice.ms(1, amount.get() + 1));
        let refund_no = format!("{CONSOLE}{}", self.dice.below(1_000_000));
        let now = self.now;
        let fate = RefundStanding::Succeeded;
        let (_, is_new) = self
            .account_of(wallet)
            .refund(number, &refund_no, part, fate, now);
        if is_new {
            self.note(|| format!("provider: {refund_no} gives back {part} of {number:?}"));
            self.audit_refunds(number);
            self.plan_notice(number, Some(refund_no.into()));
        }
    }

    /// What a refund that was on its way has become.
    pub fn refund_ends(&mut self, number: Number, refund_no: Box<str>) {
        let end = if self.dice.chance(self.swarm.refund_fails) {
            RefundStanding::Failed
        } else if self.dice.chance(self.swarm.refund_abnormal) {
            self.hit(Mark::RefundAbnormal);
            RefundStanding::Abnormal
        } else {
            RefundStanding::Succeeded
        };
        let refund = self
            .trade(number)
            .and_then(|trade| trade.refunds.get_mut(&refund_no));
        if let Some(refund) = refund {
            refund.standing = end;
        }
        self.note(|| format!("provider: refund {refund_no} of {number:?} is {end:?}"));
        self.plan_notice(number, Some(refund_no));
    }
}
