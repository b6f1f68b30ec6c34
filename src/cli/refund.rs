//! `enrollpay refund …`

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};

use super::Failure;
use crate::operations::{Destination, Hidden, Operation};

#[derive(Debug, Subcommand)]
pub(super) enum Refund {
    /// Refunds that are not over, and those of surplus and odd captures that failed.
    List,
    /// Try it now: one that failed begins anew under another number; one that is pending is asked for.
    Retry { order: String, refund: String },
    /// Say where the money goes that the payer's account cannot take (status abnormal).
    #[command(
        after_help = "Examples:\n  enrollpay refund repair ord_01J… rfd_01J… --to merchant-card\n  enrollpay refund repair ord_01J… rfd_01J… --to payer-card --bank-type ICBC_DEBIT \\\n    --bank-account-file account.txt --real-name-file name.txt\n\nAccount and name are read from files, so that no list of processes shows them."
    )]
    Repair {
        order: String,
        refund: String,
        #[arg(long)]
        to: To,
        /// The provider's word for the payer's bank.
        #[arg(long, required_if_eq("to", "payer-card"))]
        bank_type: Option<String>,
        #[arg(long, value_name = "FILE", required_if_eq("to", "payer-card"))]
        bank_account_file: Option<PathBuf>,
        #[arg(long, value_name = "FILE", required_if_eq("to", "payer-card"))]
        real_name_file: Option<PathBuf>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum To {
    /// The school's own bank card: it pays the payer by other means.
    MerchantCard,
    /// A bank card of the payer's.
    PayerCard,
}

impl Refund {
    pub(super) fn operation(self) -> Result<Operation, Failure> {
        Ok(match self {
            Self::List => Operation::RefundList,
            Self::Retry { order, refund } => Operation::RefundRetry { order, refund },
            Self::Repair {
                order,
                refund,
                to,
                bank_type,
                bank_account_file,
                real_name_file,
            } => Operation::RefundRepair {
                order,
                refund,
                to: match (to, bank_type, bank_account_file, real_name_file) {
                    (To::PayerCard, Some(bank_type), Some(account), Some(name)) => {
                        Destination::PayerCard {
                            bank_type,
                            bank_account: read(&account)?,
                            real_name: read(&name)?,
                        }
                    }
                    (To::MerchantCard, None, None, None) => Destination::MerchantCard,
                    _ => {
                        return Err(Failure::new(
                            "--bank-type, --bank-account-file and --real-name-file belong to --to payer-card",
                        ));
                    }
                },
            },
        })
    }
}

fn read(path: &Path) -> Result<Hidden, Failure> {
    let text = std::fs::read_to_string(path);
    text.map(|text| Hidden(text.trim().to_owned()))
        .map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}
