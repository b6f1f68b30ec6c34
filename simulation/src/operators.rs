//! Merchants who give money back, and the school's operators.

use std::rc::Rc;

use crate::order::state::MismatchStanding;
use crate::order::{Command, Fen, PayerHash, RefundCause, RefundId, RefundStanding, SettleBy};
use crate::world::World;

impl World {
    /// The merchant gives something back; at times the same twice, or two things at once.
    pub fn merchant_refunds(&mut self, index: usize) {
        let amount = self.store.rows[index].order.terms.amount.get();
        let known = self.folk[index].refunds.len();
        let (number, amount) = if known > 0 && self.dice.chance(250) {
            let (number, amount) = self.folk[index].refunds[self.dice.index(known)].clone();
            let other = self.dice.chance(200);
            (
                number,
                if other {
                    Fen::new(amount.get() + 1)
                } else {
                    amount
                },
            )
        } else {
            let part = match self.dice.below(4) {
                0 => amount,
                1 => (amount * 6 / 10).max(1),
                _ => self.dice.ms(1, amount + 1),
            };
            let wish = (format!("R{known}").into(), Fen::new(part));
            self.folk[index].refunds.push(wish.clone());
            wish
        };
        for _ in 0..if self.dice.chance(150) { 2 } else { 1 } {
            let refund = RefundId::from_ulid(self.dice.ulid());
            let merchant_refund_no = number.clone();
            self.ask(
                index,
                Command::Refund {
                    refund,
                    merchant_refund_no,
                    amount,
                },
            );
        }
    }

    /// What waits for people: refunds that were refused or cannot arrive, odd captures.
    pub fn operators_act(&mut self) {
        for index in 0..self.swarm.orders {
            let order = Rc::clone(&self.store.rows[index].order);
            for refund in order.every_refund() {
                let id = refund.id;
                match (refund.standing, refund.cause) {
                    (RefundStanding::Abnormal { .. }, _) => {
                        self.ask(index, Command::RepairRefund { refund: id });
                    }
                    (
                        RefundStanding::Failed { .. },
                        RefundCause::Surplus | RefundCause::Mismatch,
                    )
                    | (
                        RefundStanding::Pending {
                            underfunded: true, ..
                        },
                        _,
                    ) => {
                        self.ask(index, Command::RetryRefund { refund: id });
                    }
                    _ => {}
                }
            }
            for (place, mismatch) in (0_u16..).zip(&order.mismatches) {
                if mismatch.is_settled()
                    || matches!(mismatch.standing, MismatchStanding::GoingBack { .. })
                {
                    continue;
                }
                let settle = |by, operator, refund| Command::SettleMismatch {
                    mismatch: place,
                    by,
                    operator: PayerHash(operator),
                    refund,
                };
                let wish = |world: &mut Self| {
                    let goes = mismatch.counts() && (world.healed || world.dice.chance(600));
                    if goes {
                        SettleBy::Refund
                    } else {
                        SettleBy::Outside
                    }
                };
                let first = wish(self);
                let second = wish(self);
                let refund = RefundId::from_ulid(self.dice.ulid());
                self.ask(index, settle(first, 7, refund));
                let refund = RefundId::from_ulid(self.dice.ulid());
                self.ask(index, settle(second, 8, refund));
            }
            // The school's registrar has the fiscal receipt, and may send it before anything is paid.
            if order.fiscal_receipt.is_none() {
                self.ask(
                    index,
                    Command::IssueReceipt {
                        number: format!("F{index}").into(),
                        url: "https://fiscal.example/receipt".into(),
                        issued_at: None,
                    },
                );
            }
        }
    }
}
