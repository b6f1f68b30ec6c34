//! `enrollpay personal …`

use std::io::BufRead as _;

use clap::{ArgGroup, Subcommand};

use super::{Failure, Format, ask, output};
use crate::config::Config;
use crate::operations::Operation;

#[derive(Debug, Subcommand)]
pub(super) enum Personal {
    /// How many sealed values stand under which key.
    Status,
    /// Bring everything under the newest key of secrets.field_keys, beside the running payments.
    /// Afterwards the older keys may leave the configuration.
    Reencrypt,
    /// Forget the payers of orders that are over, before their time: because they asked for it. Orders
    /// and money stay.
    #[command(group(ArgGroup::new("whose").required(true)))]
    Erase {
        #[arg(long, group = "whose")]
        order: Option<String>,
        /// All orders of a payer; - reads it from standard input, where no other user sees it.
        #[arg(long, group = "whose", requires = "merchant")]
        payer_ref: Option<String>,
        /// Whose payer.
        #[arg(long)]
        merchant: Option<String>,
    },
}

impl Personal {
    pub(super) fn run(
        self,
        config: &Config,
        operator: Option<&str>,
        format: Format,
    ) -> Result<(), Failure> {
        let operation = match self {
            Self::Status => Operation::PersonalStatus,
            Self::Reencrypt => return reencrypt(config, operator, format),
            Self::Erase {
                order,
                payer_ref,
                merchant,
            } => Operation::PersonalErase {
                order,
                payer_ref: payer_ref.map(given).transpose()?,
                merchant,
            },
        };
        let answer = ask(config, operator.map(str::to_owned), operation)?;
        output::print(&answer, format);
        Ok(())
    }
}

fn given(text: String) -> Result<String, Failure> {
    if text != "-" {
        return Ok(text);
    }
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(Failure::new)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// The node works for a while and answers; asked again, it goes on where it was.
fn reencrypt(config: &Config, operator: Option<&str>, format: Format) -> Result<(), Failure> {
    let mut resealed = 0;
    loop {
        let operator = operator.map(str::to_owned);
        let mut answer = ask(config, operator, Operation::PersonalReencrypt)?;
        let number = |member: &str| answer[member].as_u64().unwrap_or_default();
        resealed += number("resealed");
        let (unreadable, left) = (number("unreadable"), number("left"));
        if answer["finished"] == false {
            eprintln!("{resealed} values done, {left} left");
            continue;
        }
        answer["resealed"] = resealed.into();
        output::print(&answer, format);
        return if left == 0 {
            Ok(())
        } else if unreadable > 0 {
            Err(Failure::new(format!(
                "{unreadable} values open under no configured key: the log names their tables; keep the older keys"
            )))
        } else {
            Err(Failure::later(format!(
                "{left} values are left: run it again"
            )))
        };
    }
}
