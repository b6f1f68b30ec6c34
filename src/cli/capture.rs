//! `enrollpay capture …`

use clap::{ArgGroup, Subcommand, ValueEnum};

use super::Failure;
use crate::operations::{OddCapture, Operation};
use crate::order::SettleBy;

#[derive(Debug, Subcommand)]
pub(super) enum Capture {
    /// Money that does not fit its order, and notices that fit none.
    List,
    /// Settle one: the first person proposes, another one confirms with the same command. It never
    /// becomes a payment.
    #[command(
        group = ArgGroup::new("which").required(true).args(["order", "evidence"]),
        after_help = "Examples:\n  enrollpay capture settle --order ord_01J… --mismatch 0 --by refund --operator li.wei\n  enrollpay capture settle --evidence school-wechat/4200001 --by outside"
    )]
    Settle {
        /// The order whose money does not fit.
        #[arg(long, requires = "mismatch")]
        order: Option<String>,
        /// Which one of the order, as the list numbers them.
        #[arg(long, requires = "order")]
        mismatch: Option<u16>,
        /// A notice that fits no order, as ACCOUNT/REFERENCE.
        #[arg(long, conflicts_with = "mismatch")]
        evidence: Option<String>,
        /// refund: it goes back whole. outside: the school has dealt with it.
        #[arg(long)]
        by: By,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum By {
    Refund,
    Outside,
}

impl Capture {
    pub(super) fn operation(self) -> Result<Operation, Failure> {
        let Self::Settle {
            order,
            mismatch,
            evidence,
            by,
        } = self
        else {
            return Ok(Operation::CaptureList);
        };
        let odd = match (order, mismatch, evidence) {
            (Some(order), Some(mismatch), _) => OddCapture::Order { order, mismatch },
            (_, _, evidence) => {
                let evidence = evidence.unwrap_or_default();
                let (account, reference) = evidence.split_once('/').ok_or_else(|| {
                    Failure::new(format!(
                        "--evidence: found {evidence:?}, expected ACCOUNT/REFERENCE"
                    ))
                })?;
                OddCapture::Evidence {
                    account: account.to_owned(),
                    reference: reference.to_owned(),
                }
            }
        };
        Ok(Operation::CaptureSettle {
            odd,
            by: match by {
                By::Refund => SettleBy::Refund,
                By::Outside => SettleBy::Outside,
            },
        })
    }
}
