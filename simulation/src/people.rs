//! Students, their wallets, merchants: they act at random, on what they were told, and sometimes all
//! at once.

use crate::happening::Happening;
use crate::marks::Mark;
use crate::node::{Answered, From, Tell, Trouble, Verdict};
use crate::order::{
    Answer, Attempt, AttemptId, AttemptNumber, CodeMode, Command, PayerHash, Product, Refusal,
    TradeStanding, Wallet,
};
use crate::world::{Code, World, applied};

const fn payer_hash(payer: u8) -> PayerHash {
    PayerHash(payer as u128)
}

impl World {
    /// Everybody comes.
    pub fn invite(&mut self) {
        for index in 0..self.swarm.orders {
            let until = self.now.plus_ms(self.swarm.session_ms);
            self.folk[index].until = until;
            let in_ms = self.dice.ms(2_000, 15_000);
            self.plan(in_ms, Happening::Impulse(index));
        }
    }

    /// One act, and the next one planned.
    pub fn impulse(&mut self, index: usize) {
        if self.now >= self.folk[index].until {
            return;
        }
        // Bursts: two people at once now and then.
        let in_ms = if self.dice.chance(100) {
            self.dice.ms(0, 20)
        } else {
            self.dice.ms(200, 2 * self.swarm.pace_ms)
        };
        self.plan(in_ms, Happening::Impulse(index));
        if self.dice.chance(self.swarm.cancels) {
            return self.ask(index, Command::Cancel);
        }
        if self.dice.chance(self.swarm.refunds) {
            return self.merchant_refunds(index);
        }
        if self.dice.chance(30) {
            return self.operators_act();
        }
        if self.dice.chance(self.swarm.console) {
            return self.console_refunds();
        }
        let count = self.folk[index].codes.len();
        if count == 0 || self.folk[index].codes[count - 1].ended {
            return if self.dice.chance(800) {
                self.start(index);
            } else {
                self.ask(index, Command::Query);
            };
        }
        // The newest code, mostly: an old one may still lie about.
        let which = if self.dice.chance(750) {
            count - 1
        } else {
            self.dice.index(count)
        };
        let code = &self.folk[index].codes[which];
        let (attempt, told, handle, product) = (code.attempt, code.told, code.handle, code.product);
        if let Some(payer) = told
            && !handle
            && self.dice.chance(self.swarm.impatient)
        {
            return self.give_up(index, attempt, payer_hash(payer));
        }
        match self.dice.below(100) {
            0..30 if told.is_none() && !product.is_native() => {
                let payer = if self.dice.chance(800) { 1 } else { 2 };
                self.scan(index, attempt, payer);
            }
            0..8 if !product.is_native() => {
                let payer = if self.dice.chance(500) { 1 } else { 2 };
                self.scan(index, attempt, payer);
            }
            0..45 if !handle => match told {
                Some(payer) => {
                    let payer = payer_hash(payer);
                    self.ask(index, Command::Pay { attempt, payer });
                }
                None => self.look(index),
            },
            // Where it is about races at the order call, few orders are paid soon.
            8..62 if handle && (!self.swarm.races || self.dice.chance(60)) => {
                self.take_up_wallet(index, attempt, product);
            }
            8..62 if handle => self.start(index),
            62..72 => self.start(index),
            72..75 => {
                let payer = payer_hash(told.unwrap_or(1));
                self.ask(index, Command::Release { attempt, payer });
            }
            75..84 => self.ask(index, Command::Query),
            _ => self.look(index),
        }
    }

    /// Away from this code, one way or the other.
    fn give_up(&mut self, index: usize, attempt: AttemptNumber, payer: PayerHash) {
        if self.dice.chance(500) {
            self.ask(index, Command::Release { attempt, payer });
        } else {
            self.start(index);
        }
        if self.swarm.races {
            for _ in 0..2 {
                let in_ms = self.dice.ms(3_000, 26_000);
                let command = Command::Query;
                self.plan(in_ms, Happening::Wish { index, command });
            }
        }
    }

    fn start(&mut self, index: usize) {
        let terms = &self.store.rows[index].order.terms;
        let native = terms.mode == CodeMode::Native;
        let offers: Vec<_> = terms.offers.iter().map(|offer| offer.wallet).collect();
        let wallet = self.dice.pick(&offers);
        let id = AttemptId::from_ulid(self.dice.ulid());
        let start = Command::StartAttempt {
            id,
            wallet: native.then_some(wallet),
        };
        if self.dice.chance(80) {
            // A second press of the same button.
            self.ask(index, start.clone());
        }
        self.ask(index, start);
    }

    fn scan(&mut self, index: usize, attempt: AttemptNumber, payer: u8) {
        let terms = &self.store.rows[index].order.terms;
        let offers: Vec<_> = terms.offers.iter().map(|offer| offer.wallet).collect();
        let wallet = self.dice.pick(&offers);
        let product = match (wallet, self.dice.chance(700)) {
            (Wallet::Wechat, true) => Product::WechatJsapi,
            (Wallet::Wechat, false) => Product::WechatH5,
            (Wallet::Alipay, true) => Product::AlipayCreate,
            (Wallet::Alipay, false) => Product::AlipayWap,
        };
        let claim = |payer| Command::Claim {
            attempt,
            payer: payer_hash(payer),
            product,
        };
        self.ask(index, claim(payer));
        match self.dice.below(12) {
            0 => self.ask(index, claim(payer)),
            1 => self.ask(index, claim(3 - payer.min(2))),
            _ => {}
        }
    }

    /// Sends a wish to a node that should own the order.
    pub fn ask(&mut self, index: usize, command: Command) {
        let shard = self.shard_of(index);
        let owner = self.locks.0[shard].map(|(node, _, _)| node);
        let node = match owner {
            Some(owner) if !self.dice.chance(self.swarm.stray) => owner,
            _ => self.dice.index(self.nodes.len()),
        };
        let tell = Tell {
            command,
            from: From::Person,
        };
        let in_ms = self.dice.ms(1, 100);
        self.plan(in_ms, Happening::Request { node, index, tell });
    }

    /// The page shows the order as it is.
    fn look(&mut self, index: usize) {
        let order = std::rc::Rc::clone(&self.store.rows[index].order);
        self.learn(index, &order);
    }

    fn learn(&mut self, index: usize, order: &crate::order::Order) {
        let folk = &mut self.folk[index];
        for attempt in &order.attempts {
            let Some(code) = folk
                .codes
                .iter_mut()
                .find(|code| code.attempt == attempt.number)
            else {
                continue;
            };
            code.ended |= !attempt.is_live();
            if attempt.native.is_some() && attempt.is_open() {
                code.handle |= is_made(attempt);
            }
        }
    }

    pub fn person_hears(&mut self, index: usize, command: &Command, answered: Answered) {
        let was_applied = applied(&answered);
        let (verdict, order) = match answered {
            Ok(answered) => answered,
            // "Try again": some do.
            Err(Trouble::Store | Trouble::NotOwner | Trouble::NodeDown)
                if self.dice.chance(600) && self.now < self.folk[index].until =>
            {
                return self.ask(index, command.clone());
            }
            Err(_) => return,
        };
        self.learn(index, &order);
        match (command, verdict) {
            (Command::StartAttempt { id, .. }, Verdict::Applied | Verdict::Already(_)) => {
                self.shown(index, *id, &order);
            }
            (Command::StartAttempt { .. }, Verdict::Refused(Refusal::DeadlinePassed { .. })) => {
                self.hit(Mark::DeadlineRefused);
            }
            (
                Command::Claim {
                    attempt,
                    payer,
                    product,
                },
                Verdict::Applied | Verdict::Already(_),
            ) => {
                if !was_applied {
                    self.hit(Mark::ScannedTwice);
                }
                let payer = u8::try_from(payer.0).unwrap_or(0);
                self.audit_told(index, *attempt, payer);
                let codes = &mut self.folk[index].codes;
                if let Some(code) = codes.iter_mut().find(|code| code.attempt == *attempt) {
                    code.told = Some(payer);
                    code.product = *product;
                }
            }
            (Command::Claim { .. }, Verdict::Refused(Refusal::AlreadyScanned)) => {
                self.hit(Mark::SecondScanner);
            }
            (Command::Pay { attempt, payer }, Verdict::Applied | Verdict::Already(_)) => {
                let made = order
                    .attempt(*attempt)
                    .is_some_and(|attempt| attempt.is_open() && is_made(attempt));
                let codes = &mut self.folk[index].codes;
                if let Some(code) = codes.iter_mut().find(|code| code.attempt == *attempt) {
                    code.handle |= made;
                }
                if self.dice.chance(self.swarm.impatient) {
                    self.give_up(index, *attempt, *payer);
                }
            }
            (Command::Query, Verdict::Already(Answer::AskedJustNow)) => {
                self.hit(Mark::QuerySpaced);
            }
            (Command::Refund { .. }, Verdict::Already(_)) => self.hit(Mark::RefundTwin),
            (Command::Refund { .. }, Verdict::Refused(refusal)) => match refusal {
                Refusal::NotRefundable => self.hit(Mark::RefundTooEarly),
                Refusal::RefundExceedsCaptured { .. } => self.hit(Mark::RefundExceeds),
                Refusal::RefundNoConflict { .. } => self.hit(Mark::RefundConflict),
                _ => {}
            },
            (Command::SettleMismatch { .. }, Verdict::Refused(Refusal::OtherProposal)) => {
                self.hit(Mark::SettlementRefused);
            }
            _ => {}
        }
    }

    fn shown(&mut self, index: usize, id: AttemptId, order: &crate::order::Order) {
        let Some(attempt) = order.attempts.iter().find(|attempt| attempt.id == id) else {
            return;
        };
        let known = self.folk[index]
            .codes
            .iter()
            .any(|code| code.attempt == attempt.number);
        if known {
            return;
        }
        let product = match attempt.native {
            Some(Wallet::Alipay) => Product::AlipayPrecreate,
            Some(Wallet::Wechat) => Product::WechatNative,
            None => Product::WechatJsapi,
        };
        self.folk[index].codes.push(Code {
            attempt: attempt.number,
            told: None,
            product,
            handle: false,
            ended: false,
        });
    }
}

fn is_made(attempt: &Attempt) -> bool {
    attempt
        .trade
        .as_ref()
        .is_some_and(|trade| matches!(trade.standing, TradeStanding::Made { .. }))
}
