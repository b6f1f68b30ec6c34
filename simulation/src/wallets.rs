//! Payers in their wallets: now or much later, alone or in twos.

use crate::happening::Happening;
use crate::marks::Mark;
use crate::order::{AttemptNumber, Fen, Phase, Product, Timestamp};
use crate::provider::{Number, Payment, Standing};
use crate::swarm::application;
use crate::world::World;

impl World {
    /// From the page to the wallet, now or much later; for a code or link perhaps a second person too.
    pub fn take_up_wallet(&mut self, index: usize, attempt: AttemptNumber, product: Product) {
        let number = (index, attempt.get());
        let late = self.dice.chance(self.swarm.late_wallet);
        let in_ms = if late {
            self.dice.ms(60_000, 400_000)
        } else {
            self.dice.ms(200, 20_000)
        };
        self.plan(in_ms, Happening::WalletOpens { number, payer: 1 });
        let shared = product.is_native() || product == Product::AlipayWap;
        if shared && self.dice.chance(150) {
            let in_ms = self.dice.ms(200, 30_000);
            self.plan(in_ms, Happening::WalletOpens { number, payer: 2 });
        }
    }

    pub fn wallet_opens(&mut self, number: Number, payer: u8) {
        let (now, extra) = (self.now, self.swarm.link_extra_ms);
        let Some(trade) = self.trade(number) else {
            return;
        };
        let was_handed = trade.standing == Standing::Handed;
        let past_end = now >= trade.request.time_expire;
        let opened = trade.open(now, extra);
        let together = opened && trade.paying > 1;
        self.note(|| format!("payer {payer} opens {number:?}: {opened}"));
        if !opened {
            return;
        }
        if together {
            self.hit(Mark::TwoPayersOneCode);
        }
        if was_handed && past_end {
            self.hit(Mark::LinkOutlived);
        }
        let attempt = AttemptNumber::new(number.1);
        if was_handed
            && attempt
                .and_then(|attempt| self.store.rows[number.0].order.attempt(attempt))
                .is_some_and(|attempt| matches!(attempt.phase, Phase::Closing(_)))
        {
            self.hit(Mark::LinkOpenedLate);
        }
        let in_ms = if self.dice.chance(self.swarm.late_wallet) {
            self.dice.ms(60_000, 300_000)
        } else {
            self.dice.ms(1_000, 40_000)
        };
        let pays = self.dice.chance(820);
        self.plan(in_ms, Happening::WalletDone { number, pays });
    }

    pub fn wallet_done(&mut self, number: Number, pays: bool) {
        let payment = pays.then(|| self.payment(number)).flatten();
        let now = self.now;
        let Some(trade) = self.trade(number) else {
            return;
        };
        let was_closed = trade.standing == Standing::Closed;
        let past_end = now >= trade.request.time_expire;
        let paid = trade.leave(payment);
        self.note(|| format!("the payer leaves {number:?}: paid {paid}"));
        if !paid {
            return;
        }
        if was_closed {
            self.hit(Mark::CloseLied);
        } else if past_end {
            self.hit(Mark::PaidPastExpiry);
        }
        self.plan_notice(number, None);
    }

    /// What a payer pays: what was asked for, but for a mistake at the provider.
    fn payment(&mut self, number: Number) -> Option<Payment> {
        let wallet = self.wallet_of(number)?;
        let amount = self.trade(number)?.request.amount;
        let mut payment = Payment {
            transaction_id: self.new_transaction_id(),
            application: application(wallet).into(),
            amount,
            currency: "CNY",
            // Providers tell whole seconds.
            at: Timestamp::from_seconds(self.now.as_seconds()),
        };
        if self.dice.chance(self.swarm.mismatch) {
            match self.dice.below(3) {
                0 => payment.amount = Fen::new(amount.get() + 1),
                1 => payment.application = "another".into(),
                _ => payment.currency = "USD",
            }
        }
        Some(payment)
    }
}
