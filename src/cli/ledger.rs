//! `enrollpay ledger`

use clap::Args;

use crate::operations::Operation;

#[derive(Debug, Args)]
#[command(
    after_help = "Every movement of money is lines that sum to zero. provider:ACCOUNT is what the school's\naccount there has taken and not given back, before its fees."
)]
pub(super) struct Ledger {
    /// The lines of this order, instead of what each book holds.
    #[arg(long)]
    order: Option<String>,
}

impl Ledger {
    pub(super) fn operation(self) -> Operation {
        Operation::Ledger { order: self.order }
    }
}
