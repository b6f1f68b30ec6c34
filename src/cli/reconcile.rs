//! `enrollpay reconcile`

use clap::Args;
use serde_json::Value;

use super::{DIFFERENCES, Failure, Format, output};
use crate::app::{AppError, commands};
use crate::config::Config;
use crate::operations::Operation;

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  enrollpay reconcile --account school-wechat --date 2026-11-19\n\nSpeaks to the running node. Exit code 3 where bill and books differ, 75 where the bill is not made yet\nor another run is under way. The rows: GET /v1/reconciliations/{account}/{date}."
)]
pub(super) struct Reconcile {
    /// As configured.
    #[arg(long)]
    account: String,
    /// The provider's day, which is Beijing's.
    #[arg(long, value_name = "YYYY-MM-DD")]
    date: String,
}

impl Reconcile {
    pub(super) fn run(self, config: &Config, format: Format) -> Result<(), Failure> {
        let operation = Operation::Reconcile {
            account: self.account,
            date: self.date,
        };
        let answer = commands::run(config, operation).map_err(|error| match error {
            AppError::Later(_) => Failure::later(error),
            _ => Failure::new(error),
        })?;
        output::print(&answer, format);
        verdict(&answer)
    }
}

/// What a script is told by the exit code.
fn verdict(answer: &Value) -> Result<(), Failure> {
    let why = answer["why"].as_str().unwrap_or_default();
    match answer["state"].as_str() {
        Some("finished") => {}
        Some("waiting") => return Err(Failure::later(why)),
        _ => return Err(Failure::new(why)),
    }
    let differences: u64 = ["only_here", "only_there", "different"]
        .iter()
        .filter_map(|verdict| answer[*verdict].as_u64())
        .sum();
    if differences == 0 {
        return Ok(());
    }
    Err(Failure {
        code: DIFFERENCES,
        message: format!(
            "{differences} rows differ: see GET /v1/reconciliations/{{account}}/{{date}}"
        ),
    })
}
