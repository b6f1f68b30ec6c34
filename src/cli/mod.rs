//! The command line: one file per command. Data goes to standard output, messages to standard error.
//! Exit codes: 0 done, 1 failed, 2 wrong usage, 3 differences found, 75 try again later, 78 wrong
//! configuration.

mod call;
mod capture;
mod event;
mod ledger;
mod merchant;
mod migrate;
mod operator;
mod output;
mod personal;
mod reconcile;
mod refund;
mod school;
mod serve;
mod simulate;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use serde_json::Value;

use crate::app::{AppError, commands};
use crate::config::{Config, ConfigError};
use crate::operations::Operation;

pub use output::Format;

const OK: u8 = 0;
const FAILED: u8 = 1;
const DIFFERENCES: u8 = 3;
const TRY_LATER: u8 = 75;
const WRONG_CONFIGURATION: u8 = 78;

/// A payment gateway for education enrolment fees.
#[derive(Debug, Parser)]
#[command(
    name = "enrollpay",
    version,
    after_help = "Examples:\n  enrollpay serve\n  enrollpay call GET /v1/orders"
)]
struct Arguments {
    /// The configuration; without it, built-in defaults: a demo that needs nothing else.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How data is printed; json where the output is not a terminal.
    #[arg(long, global = true, value_enum)]
    format: Option<Format>,
    /// Who acts, for the log of what operators did; the login name by default.
    #[arg(long, global = true, value_name = "NAME")]
    operator: Option<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one gateway node (also without a command).
    Serve,
    /// Bring the store's schema up to date.
    Migrate,
    /// Merchants: enrolment systems and their keys.
    #[command(subcommand)]
    Merchant(merchant::Merchant),
    /// Webhook events: what was not delivered, and what shall be once more.
    #[command(subcommand)]
    Event(event::Event),
    /// Who may log in to the operators' console.
    #[command(subcommand)]
    Operator(operator::Operator),
    /// Payers' data: the keys it is sealed under, and its erasure.
    #[command(subcommand)]
    Personal(personal::Personal),
    /// Money that fits no order, settled by two people.
    #[command(subcommand)]
    Capture(capture::Capture),
    /// Refunds that do not come to their end.
    #[command(subcommand)]
    Refund(refund::Refund),
    /// What each book holds, or the lines of one order.
    Ledger(ledger::Ledger),
    /// A signed request to the merchant API.
    Call(call::Call),
    /// The provider simulators alone, for tests and load on another port.
    Simulate(simulate::Simulate),
    /// The demo enrolment system alone, as one merchant of a gateway.
    School(school::School),
    /// Compare a provider's bill of one day with our books, and record what is missing here.
    Reconcile(reconcile::Reconcile),
}

/// Why a command ended without doing what it was asked.
#[derive(Debug)]
struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    fn new(message: impl std::fmt::Display) -> Self {
        Self {
            code: FAILED,
            message: message.to_string(),
        }
    }

    fn later(message: impl std::fmt::Display) -> Self {
        Self {
            code: TRY_LATER,
            message: message.to_string(),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self {
            code: WRONG_CONFIGURATION,
            message: error.to_string(),
        }
    }
}

/// Reads the arguments of this process and does what they say.
pub fn run() -> ExitCode {
    crate::telemetry::quiet_panics();
    let arguments = Arguments::parse();
    let outcome = dispatch(arguments);
    match outcome {
        Ok(()) => ExitCode::from(OK),
        Err(failure) => {
            eprintln!("{}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}

fn dispatch(arguments: Arguments) -> Result<(), Failure> {
    let Arguments {
        config,
        format,
        operator,
        command,
    } = arguments;
    let format = format.unwrap_or_else(Format::of_standard_output);
    let load = || Config::load(config.as_deref(), std::env::vars());
    let operate = |operation| {
        let answer = ask(&load()?, operator.clone(), operation)?;
        output::print(&answer, format);
        Ok(())
    };
    match command.unwrap_or(Command::Serve) {
        Command::Serve => serve::run(&load()?),
        Command::Migrate => migrate::run(&load()?),
        Command::Merchant(merchant) => operate(merchant.operation()),
        Command::Event(event) => operate(event.operation()),
        Command::Operator(operator) => operate(operator.operation()?),
        Command::Capture(capture) => operate(capture.operation()?),
        Command::Refund(refund) => operate(refund.operation()?),
        Command::Ledger(ledger) => operate(ledger.operation()),
        Command::Reconcile(reconcile) => reconcile.run(&load()?, operator, format),
        Command::Personal(personal) => personal.run(&load()?, operator.as_deref(), format),
        Command::Call(call) => call.run(&load()?),
        Command::Simulate(simulate) => simulate.run(),
        Command::School(school) => school.run(&load()?),
    }
}

/// Has an operation done beside a running node, or in the store itself.
fn ask(config: &Config, operator: Option<String>, operation: Operation) -> Result<Value, Failure> {
    let instruction = commands::Instruction {
        operator,
        operation,
    };
    commands::run(config, instruction).map_err(|error| match error {
        AppError::Later(_) => Failure::later(error),
        _ => Failure::new(error),
    })
}
