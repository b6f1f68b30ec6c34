//! What providers tell of their own accord: notices, repeated until they are acknowledged, and the
//! day's bill.

use crate::happening::{Happening, Notice};
use crate::marks::Mark;
use crate::node::{From, Tell};
use crate::order::{AttemptNumber, Command, Effect, ForeignRefund};
use crate::provider::Number;
use crate::swarm::account_name;
use crate::world::World;

/// How the numbers of refunds begin that were made in the provider's own console.
pub(crate) const CONSOLE: &str = "console";

/// The pauses between the tries of one notice, in seconds.
const PAUSES_S: [i64; 12] = [
    15, 15, 30, 180, 600, 1_200, 1_800, 1_800, 3_600, 7_200, 10_800, 21_600,
];

impl World {
    /// Money has moved, or a refund (named by its number) has come to an end: the notice is on its
    /// way, unless it never will be.
    pub fn plan_notice(&mut self, number: Number, refund: Option<Box<str>>) {
        if self.dice.chance(self.swarm.notice_never) {
            self.hit(Mark::NoticeNever);
            return;
        }
        let in_ms = if self.dice.chance(self.swarm.notice_late) {
            self.hit(Mark::NoticeLate);
            self.dice.ms(600_000, 21_600_000)
        } else {
            self.dice.ms(20, 3_000)
        };
        let notice = self.notices.len();
        self.notices.push(Notice {
            number,
            refund,
            tries: 0,
            acknowledged: false,
        });
        self.plan(
            in_ms,
            Happening::NoticeSent {
                notice,
                again: false,
            },
        );
    }

    /// One try, at any node.
    pub fn notice_sent(&mut self, notice: usize, again: bool) {
        let Notice {
            number,
            tries,
            acknowledged,
            ..
        } = self.notices[notice];
        if acknowledged && !again {
            return;
        }
        if !again {
            self.notices[notice].tries += 1;
            if tries > 0 {
                self.hit(Mark::NoticeUnacked);
            }
            if let Some(pause) = PAUSES_S.get(tries) {
                self.plan(
                    pause * 1_000,
                    Happening::NoticeSent {
                        notice,
                        again: false,
                    },
                );
            }
            if self.dice.chance(self.swarm.notice_twice) {
                self.hit(Mark::NoticeTwice);
                let in_ms = self.dice.ms(0, 500);
                self.plan(
                    in_ms,
                    Happening::NoticeSent {
                        notice,
                        again: true,
                    },
                );
            }
        }
        if self.dice.chance(self.swarm.notice_lost) {
            self.hit(Mark::NoticeLost);
            return;
        }
        if self.notices[notice].refund.is_none() {
            self.tell_payment(number, From::Notice(notice));
            return;
        }
        let node = self.dice.index(self.nodes.len());
        let in_ms = self.dice.ms(1, 100);
        self.plan(in_ms, Happening::RefundNews { node, notice });
    }

    /// News of a refund reaches a node, which looks for it by its number.
    pub fn refund_news(&mut self, node: usize, notice: usize) {
        let Notice { number, refund, .. } = &self.notices[notice];
        let (number, index) = (*number, number.0);
        let Some(refund_no) = refund.clone() else {
            return;
        };
        if !self.nodes[node].up {
            return;
        }
        if self.dice.chance(self.swarm.read_fails) {
            self.hit(Mark::StoreReadFailed);
            return;
        }
        let answer = self
            .trade(number)
            .and_then(|trade| trade.refunds.get(&refund_no))
            .map(|refund| refund.answer());
        let row = &self.store.rows[index].order;
        let ours = row.refund_numbered(&refund_no).map(|refund| {
            let under_way = &self.nodes[node].actors[index].under_way;
            let asked = Effect::Refund { refund: refund.id };
            let is_old = row
                .refund(refund.id)
                .is_some_and(|now| now.round() > refund.round());
            (
                refund.id,
                refund.round(),
                is_old,
                under_way.iter().any(|(effect, _)| *effect == asked),
            )
        });
        let Some(answer) = answer else {
            return;
        };
        let command = if let Some((refund, round, is_old, asked)) = ours {
            if is_old {
                self.hit(Mark::RefundNewsOutdated);
            } else if asked {
                self.hit(Mark::RefundNewsFirst);
            }
            Command::RefundAnswer {
                refund,
                round,
                answer,
            }
        } else {
            // Made in the provider's console.
            if !refund_no.starts_with(CONSOLE) {
                self.fail(format!("M5: {refund_no} is no number of ours any more"));
            }
            self.hit(Mark::ForeignRefund);
            Command::ForeignRefund(ForeignRefund {
                attempt: AttemptNumber::new(number.1).unwrap_or(AttemptNumber::FIRST),
                number: refund_no,
                amount: None,
            })
        };
        let from = From::Notice(notice);
        let tell = Tell { command, from };
        self.request_arrives(node, index, tell);
    }

    fn tell_payment(&mut self, number: Number, from: From) {
        let Some(wallet) = self.wallet_of(number) else {
            return;
        };
        let Some(payment) = self.trade(number).and_then(|trade| trade.payment.clone()) else {
            return;
        };
        let report = self.report(number, account_name(wallet), &payment);
        let node = self.dice.index(self.nodes.len());
        let in_ms = self.dice.ms(1, 100);
        let tell = Tell {
            command: Command::Capture(report),
            from,
        };
        let index = number.0;
        self.plan(in_ms, Happening::Request { node, index, tell });
    }

    pub fn notice_acked(&mut self, notice: usize) {
        if self.notices[notice].refund.is_none() {
            self.audit_acknowledged(self.notices[notice].number);
        }
        self.notices[notice].acknowledged = true;
    }

    /// Every payment and refund of the day, told as if by notice.
    pub fn bill(&mut self) {
        let numbers: Vec<_> = (0..self.swarm.orders)
            .flat_map(|index| self.payments(index))
            .map(|(_, number, _)| number)
            .collect();
        for number in numbers {
            self.tell_payment(number, From::Bill);
        }
        let refunds: Vec<_> = self
            .accounts
            .iter()
            .flat_map(|account| &account.trades)
            .flat_map(|(number, trade)| trade.refunds.keys().map(|it| (*number, it.clone())))
            .collect();
        for (number, refund_no) in refunds {
            let notice = self.notices.len();
            self.notices.push(Notice {
                number,
                refund: Some(refund_no),
                tries: PAUSES_S.len(),
                acknowledged: false,
            });
            let node = self.dice.index(self.nodes.len());
            self.plan(10, Happening::RefundNews { node, notice });
        }
    }
}
