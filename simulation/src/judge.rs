//! The end of a run: by our books and by the providers', order by order.

use std::rc::Rc;

use crate::notices::CONSOLE;
use crate::order::Fen;
use crate::order::evolve::replay;
use crate::order::invariants::{Books, at_rest, check, check_at_rest};
use crate::provider::Trade;
use crate::store::Delivery;
use crate::world::World;

impl World {
    /// The end of a run, in either mode.
    pub fn judge(&mut self) {
        for number in std::mem::take(&mut self.audit.acknowledged) {
            if !self.is_recorded(number) {
                self.fail(format!(
                    "A1: the acknowledged payment of {number:?} is gone"
                ));
            }
        }
        for index in 0..self.store.rows.len() {
            self.judge_order(index);
        }
        let events = self.store.rows.iter().flat_map(|row| &row.timeline);
        let told = events
            .flat_map(|(_, events)| events.iter())
            .filter(|event| event.webhook().is_some());
        if told.count() != self.store.outbox.len() {
            self.fail("E2: transitions and outbox rows differ in number");
        }
    }

    fn judge_order(&mut self, index: usize) {
        let row = &self.store.rows[index];
        let commits = row
            .timeline
            .iter()
            .map(|(at, events)| (*at, events.as_ref()));
        let order = Rc::clone(&row.order);
        if replay(order.id, commits).as_ref() != Some(&*order) {
            return self.fail(format!(
                "E5: the timeline of order {index} does not give its row"
            ));
        }
        if let Err(violation) = check(&order) {
            return self.fail(violation.to_string());
        }
        self.audit_ledger(index);
        let mut ids: Vec<_> = order.captures.iter().map(|it| &it.transaction_id).collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.len() != order.captures.len() {
            return self.fail("A2: one payment was recorded twice");
        }
        let numbers: Vec<_> = self.payments(index).map(|(_, number, _)| number).collect();
        let heard = numbers.iter().all(|number| self.is_recorded(*number))
            && self.console_refunds_are_heard(index);
        if heard && let Err(violation) = check_at_rest(&order, self.books(index)) {
            self.fail(violation.to_string());
        }
    }

    fn console_refunds_are_heard(&self, index: usize) -> bool {
        let order = &self.store.rows[index].order;
        self.trades(index)
            .flat_map(|trade| trade.refunds.keys())
            .filter(|number| number.starts_with(CONSOLE))
            .all(|number| order.foreign_refunds.iter().any(|it| it.number == *number))
    }

    fn trades(&self, index: usize) -> impl Iterator<Item = &Trade> {
        self.accounts
            .iter()
            .flat_map(move |account| account.trades.range((index, 0)..=(index, u16::MAX)))
            .map(|(_, trade)| trade)
    }

    /// The providers' books of an order.
    pub fn books(&self, index: usize) -> Books {
        let trades = || self.trades(index);
        let sum =
            |amounts: &mut dyn Iterator<Item = Fen>| Fen::sum(amounts).unwrap_or(Fen::MAX_ORDER);
        Books {
            captured: sum(&mut trades()
                .filter_map(|trade| trade.payment.as_ref())
                .map(|payment| payment.amount)),
            surplus_refunded: sum(&mut trades().map(|trade| trade.refunded().1)),
            refunded: sum(&mut trades().map(|trade| trade.refunded().0)),
        }
    }

    /// Liveness: a healthy world comes to rest.
    pub fn judge_rest(&mut self) {
        for index in 0..self.store.rows.len() {
            let order = Rc::clone(&self.store.rows[index].order);
            let unheard = self
                .payments(index)
                .map(|(_, number, _)| number)
                .find(|number| !self.is_recorded(*number));
            if let Some(number) = unheard {
                self.fail(format!("M6: the payment of {number:?} was never heard of"));
            }
            if let Some(refund) = order.every_refund().find(|it| !it.standing.is_over()) {
                self.fail(format!(
                    "M1: a refund of order {index} is still {:?}",
                    refund.standing
                ));
            }
            let overdue = order.is_open()
                && (order.cancel_requested_at.is_some()
                    || order.terms.closes_at().is_some_and(|end| end < self.now));
            if overdue {
                self.fail(format!("Q7: order {index} should be closed"));
            }
            if !self.console_refunds_are_heard(index) {
                self.fail(format!("R1: a refund of order {index} was never heard of"));
            }
            // What the console gave back cannot be given back again: its order waits for people.
            if !at_rest(&order) && order.foreign_refunds.is_empty() {
                self.fail(format!("M1: order {index} has not come to rest: {order:?}"));
            }
        }
        if let Some(row) = self
            .store
            .outbox
            .iter()
            .find(|row| row.state != Delivery::Delivered)
        {
            let what = format!(
                "E2: {:?} of order {} is {:?}",
                row.kind, row.order, row.state
            );
            self.fail(what);
        }
    }
}
