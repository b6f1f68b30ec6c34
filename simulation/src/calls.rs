//! Calls of providers: they leave after the commit that intends them, and their results come back as
//! commands. Lost requests, lost answers, garbage and slowness are here.

use std::rc::Rc;

use crate::happening::{Call, Happening};
use crate::marks::Mark;
use crate::mutation::Mutation;
use crate::node::{From, Tell};
use crate::order::decide::CALL_TIMEOUT_MS;
use crate::order::{
    AttemptNumber, CaptureReport, CloseAnswer, Command, Effect, Order, Product, QueryAnswer,
    RefundAnswer, RefundId, Timestamp, TradeAnswer,
};
use crate::provider::{CloseMet, Number, Payment, Standing, TradeRequest};
use crate::swarm::account_name;
use crate::world::World;

/// Shorter than the heart's own limit, by a margin for what is on the wire already.
const CALL_LIMIT_MS: i64 = CALL_TIMEOUT_MS - 5_000;

fn attempt_of(order: &Order, effect: &Effect) -> Option<AttemptNumber> {
    match effect {
        Effect::MakeTrade { attempt }
        | Effect::QueryTrade { attempt }
        | Effect::CloseTrade { attempt } => Some(*attempt),
        Effect::Refund { refund } | Effect::RepairRefund { refund } => {
            Some(order.refund(*refund)?.attempt)
        }
    }
}

/// Was this call's intent committed?
fn is_intended(row: &Order, effect: &Effect) -> bool {
    attempt_of(row, effect)
        .and_then(|attempt| row.attempt(attempt))
        .is_some_and(|attempt| attempt.trade.is_some())
}

impl World {
    /// Starts calls. What is under way already is not asked again, but for a question: only the last
    /// question's answer may count.
    pub fn dispatch(
        &mut self,
        node: usize,
        index: usize,
        order: &Rc<Order>,
        effects: Vec<Effect>,
        decided_at: Timestamp,
    ) {
        for effect in effects {
            let is_query = matches!(effect, Effect::QueryTrade { .. });
            let under_way = &mut self.nodes[node].actors[index].under_way;
            if is_query {
                under_way.retain(|(other, _)| *other != effect);
            } else if under_way.iter().any(|(other, _)| *other == effect) {
                continue;
            }
            if self.mutated(Mutation::SkipRefunds) && is_refund(&effect) {
                continue;
            }
            // A call's time begins with the decision: whoever decided long ago may be replaced.
            let from = if self.mutated(Mutation::CallTimeFromDispatch) {
                self.now
            } else {
                decided_at
            };
            let until = from.plus_ms(CALL_LIMIT_MS);
            if self.now >= until {
                self.hit(Mark::CallDropped);
                continue;
            }
            if !is_intended(&self.store.rows[index].order, &effect) {
                self.fail(format!(
                    "O4: {effect:?} of order {index} left before its intent was committed"
                ));
                return;
            }
            self.note(|| format!("node {node} calls: order {index} {effect:?}"));
            let call = self.calls.len();
            self.calls.push(Call {
                node,
                life: self.nodes[node].life,
                index,
                effect: effect.clone(),
                until,
                order: Rc::clone(order),
            });
            self.nodes[node].actors[index]
                .under_way
                .push((effect, call));
            self.send(call);
        }
    }

    fn send(&mut self, call: usize) {
        let slow = self.dice.chance(self.swarm.slow_call);
        let is_make = matches!(self.calls[call].effect, Effect::MakeTrade { .. });
        let in_ms = if self.is_local(call) {
            0
        } else if slow && is_make && self.swarm.races {
            self.dice.ms(CALL_LIMIT_MS - 8_000, CALL_LIMIT_MS)
        } else if slow {
            self.dice.ms(1_000, CALL_LIMIT_MS)
        } else {
            self.dice.ms(5, 300)
        };
        if !self.is_local(call) && self.dice.chance(self.swarm.request_lost) {
            self.hit(Mark::RequestLost);
            self.time_out(call);
        } else if self.now.plus_ms(in_ms) >= self.calls[call].until {
            self.hit(Mark::CallDropped);
            self.time_out(call);
        } else {
            self.plan(in_ms, Happening::CallArrives(call));
        }
    }

    /// WAP links are signed here: no call is made.
    fn is_local(&self, call: usize) -> bool {
        let Call { effect, order, .. } = &self.calls[call];
        matches!(effect, Effect::MakeTrade { .. })
            && product_of(order, effect) == Some(Product::AlipayWap)
    }

    /// Nothing is heard until the call's time is over.
    fn time_out(&mut self, call: usize) {
        let command = self.unknown(call);
        let until = self.calls[call].until;
        self.queue
            .plan(until, Happening::CallAnswered { call, command });
    }

    /// The answer that proves nothing.
    fn unknown(&self, call: usize) -> Command {
        match self.calls[call].effect {
            Effect::MakeTrade { attempt } => Command::TradeAnswer {
                attempt,
                answer: TradeAnswer::Unknown,
            },
            Effect::QueryTrade { attempt } => Command::QueryAnswer {
                attempt,
                answer: QueryAnswer::Unknown,
            },
            Effect::CloseTrade { attempt } => Command::CloseAnswer {
                attempt,
                answer: CloseAnswer::Unknown,
            },
            Effect::Refund { refund } | Effect::RepairRefund { refund } => Command::RefundAnswer {
                refund,
                round: self.calls[call]
                    .order
                    .refund(refund)
                    .map_or(0, |it| it.round()),
                answer: RefundAnswer::Unknown,
            },
        }
    }

    pub fn call_arrives(&mut self, call: usize) {
        let local = self.is_local(call);
        let Call {
            index,
            effect,
            order,
            until,
            ..
        } = &self.calls[call];
        let (index, until) = (*index, *until);
        let Some(product) = product_of(order, effect) else {
            return;
        };
        let is_refund = is_refund(effect);
        let wallet = product.wallet();
        let soon = self.dice.ms(5, 300);
        let now = self.now;
        if !local && self.account_of(wallet).down_until > now {
            self.hit(Mark::ProviderDown);
            if self.dice.chance(500) {
                return self.time_out(call);
            }
            let command = self.unknown(call);
            return self.plan(soon, Happening::CallAnswered { call, command });
        }
        let garbage = !local && self.dice.chance(self.swarm.garbage);
        if garbage {
            self.hit(Mark::Garbage);
        }
        let answer = if garbage && self.dice.chance(500) {
            self.unknown(call)
        } else {
            let Some(answer) = self.act(call, index) else {
                return;
            };
            if garbage { self.unknown(call) } else { answer }
        };
        self.note(|| format!("provider: order {index} {answer:?}"));
        self.audit_codes(index);
        let slow = self.dice.chance(self.swarm.slow_call);
        let in_ms = if local {
            0
        } else if slow {
            self.dice.ms(1_000, CALL_LIMIT_MS)
        } else {
            soon
        };
        if !local && self.dice.chance(self.swarm.answer_lost) {
            self.hit(if is_refund {
                Mark::RefundAnswerLost
            } else {
                Mark::AnswerLost
            });
            self.time_out(call);
        } else if self.now.plus_ms(in_ms) >= until {
            self.time_out(call);
        } else {
            let command = answer;
            self.plan(in_ms, Happening::CallAnswered { call, command });
        }
    }

    /// What the provider does with a call, and what it says. `None`: the run has failed.
    fn act(&mut self, call: usize, index: usize) -> Option<Command> {
        let effect = self.calls[call].effect.clone();
        let order = Rc::clone(&self.calls[call].order);
        let attempt = attempt_of(&order, &effect)?;
        let number = (index, attempt.get());
        match effect {
            Effect::MakeTrade { .. } => {
                let answer = self.make(number, &order, attempt)?;
                Some(Command::TradeAnswer { attempt, answer })
            }
            Effect::QueryTrade { .. } => {
                let wallet = product_of(&order, &effect)?.wallet();
                let payment = self.trade(number).and_then(|trade| trade.payment.clone());
                let answer = match payment {
                    Some(payment) => {
                        QueryAnswer::Paid(self.report(number, account_name(wallet), &payment))
                    }
                    None => self.account_of(wallet).query(number),
                };
                Some(Command::QueryAnswer { attempt, answer })
            }
            Effect::CloseTrade { .. } => {
                let wallet = product_of(&order, &effect)?.wallet();
                let answer = self.close(number, wallet);
                Some(Command::CloseAnswer { attempt, answer })
            }
            Effect::Refund { refund } => {
                let round = order.refund(refund)?.round();
                let answer = self.give_back(call, number, refund)?;
                Some(Command::RefundAnswer {
                    refund,
                    round,
                    answer,
                })
            }
            Effect::RepairRefund { refund } => {
                let known = order.refund(refund)?;
                let (refund_no, round) = (known.number(&order), known.round());
                let wallet = self.wallet_of(number)?;
                let (answer, repaired) = self.account_of(wallet).repair(number, &refund_no);
                if repaired {
                    self.hit(Mark::RefundRepaired);
                    self.plan_refund_end(number, &refund_no);
                }
                Some(Command::RefundAnswer {
                    refund,
                    round,
                    answer,
                })
            }
        }
    }

    fn make(
        &mut self,
        number: Number,
        order: &Order,
        attempt: AttemptNumber,
    ) -> Option<TradeAnswer> {
        let trade = order.attempt(attempt)?.trade.as_ref()?;
        let request = TradeRequest {
            product: trade.product,
            amount: order.terms.amount,
            time_expire: trade.time_expire,
        };
        let wallet = trade.product.wallet();
        let now = self.now;
        let known = self.trade(number).is_some();
        if !known
            && !self.audit.refused.contains(&number)
            && self.dice.chance(self.swarm.make_refused)
        {
            // For what the request is, before any trade and equally on each repetition.
            self.audit.refused.insert(number);
        }
        if self.audit.refused.contains(&number) {
            self.hit(Mark::MakeRefused);
            return Some(TradeAnswer::Refused {
                code: "NO_AUTH".into(),
            });
        }
        if known {
            self.hit(Mark::MakeRepeated);
        }
        let answer = self.account_of(wallet).make(number, request, now);
        if answer.is_none() {
            self.fail(format!(
                "Q6: a repeated order call of {number:?} carries another request"
            ));
        }
        if !known && request.product == Product::AlipayCreate && self.dice.chance(80) {
            // The wallet shows it to its buyer by itself, whether our answer arrives or not.
            let in_ms = self.dice.ms(100, 10_000);
            self.plan(in_ms, Happening::WalletOpens { number, payer: 1 });
        }
        if !known && self.swarm.auto_close {
            let end = request.time_expire.plus_ms(self.dice.ms(0, 20_000));
            self.queue.plan(end, Happening::AutoClose(number));
        }
        answer
    }

    fn close(&mut self, number: Number, wallet: crate::order::Wallet) -> CloseAnswer {
        let now = self.now;
        let close_after_ms = self.swarm.close_after_ms;
        let holds = self.dice.chance(self.swarm.paying_holds);
        let lies = self.dice.chance(self.swarm.close_lies);
        let (answer, met) = self
            .account_of(wallet)
            .close(number, now, close_after_ms, holds);
        let trade = self.trade(number);
        let refused_before = trade.as_ref().is_some_and(|trade| trade.close_refused);
        match met {
            CloseMet::Nothing => self.hit(Mark::ClosedUnknownTrade),
            CloseMet::TooEarly => self.hit(Mark::CloseTooEarly),
            CloseMet::Payer => self.hit(Mark::CloseWhilePaying),
            CloseMet::Payment => {}
            CloseMet::Done => {
                if let Some(trade) = trade {
                    trade.undead |= lies;
                }
                if lies && self.dice.chance(600) {
                    // Somebody still has the payment sheet open.
                    let in_ms = self.dice.ms(1_000, 240_000);
                    self.plan(in_ms, Happening::WalletOpens { number, payer: 1 });
                }
                if refused_before {
                    self.hit(Mark::CloseThenAccepted);
                }
            }
        }
        answer
    }

    /// A success as its provider signs it.
    pub fn report(
        &mut self,
        number: Number,
        account: &'static str,
        payment: &Payment,
    ) -> CaptureReport {
        CaptureReport {
            attempt: AttemptNumber::new(number.1).unwrap_or(AttemptNumber::FIRST),
            account: crate::order::AccountId::new(account),
            application: payment.application.clone(),
            transaction_id: payment.transaction_id.clone(),
            amount: payment.amount,
            currency: payment.currency.into(),
            succeeded_at: payment.at,
            surplus_refund: RefundId::from_ulid(self.dice.ulid()),
        }
    }

    pub fn call_answered(&mut self, call: usize, command: Command) {
        let Call { node, index, .. } = self.calls[call];
        let tell = Tell {
            command,
            from: From::Call(call),
        };
        self.tell(node, index, tell);
    }

    pub fn auto_close(&mut self, number: Number) {
        let now = self.now;
        let Some(trade) = self.trade(number) else {
            return;
        };
        if trade.standing == Standing::Unpaid
            && trade.paying == 0
            && now >= trade.request.time_expire
        {
            trade.standing = Standing::Closed;
            self.hit(Mark::AutoClosed);
        }
    }
}

const fn is_refund(effect: &Effect) -> bool {
    matches!(effect, Effect::Refund { .. } | Effect::RepairRefund { .. })
}

fn product_of(order: &Order, effect: &Effect) -> Option<Product> {
    let attempt = order.attempt(attempt_of(order, effect)?)?;
    Some(attempt.trade.as_ref()?.product)
}
