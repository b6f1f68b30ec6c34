//! `enrollpay event …`

use clap::Subcommand;

use super::{Failure, Format, output};
use crate::app::commands;
use crate::config::Config;
use crate::operations::Operation;

#[derive(Debug, Subcommand)]
pub(super) enum Event {
    /// Parked events; with --all those still being tried, too.
    List {
        #[arg(long)]
        all: bool,
    },
    /// Send an event again: the same id and the same bytes.
    Resend { event: String },
}

impl Event {
    pub(super) fn run(self, config: &Config, format: Format) -> Result<(), Failure> {
        let operation = match self {
            Self::List { all } => Operation::EventList { all },
            Self::Resend { event } => Operation::EventResend { event },
        };
        let answer = commands::run(config, operation).map_err(Failure::new)?;
        output::print(&answer, format);
        Ok(())
    }
}
