//! The last hour before the deadline, replayed: open-loop load against an enrollpay gateway, beside
//! what this machine can do at best, measured in the same run.
//!
//! Start reading at [`scenario`]; `arrivals` is the load, `floor` the machine, `gateway` what is
//! measured, `merchant`, `student` and `receiver` the people around it, `report` what is printed.

mod arrivals;
mod floor;
mod gateway;
mod merchant;
mod processes;
mod ramp;
mod receiver;
mod report;
mod scenario;
mod student;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Parser, Subcommand, ValueEnum};

use report::Report;
use tokio::signal::unix::{SignalKind, signal};

// As the gateway's own binary: it is this program that serves in `serve-gateway`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error>;

/// Open-loop load against an enrollpay gateway: its own, started for the run, or one that runs.
#[derive(Debug, Parser)]
#[command(
    name = "loadtest",
    version,
    after_help = "Examples:\n  cargo run --release -p loadtest -- all --find-knee --runs 3\n  cargo run --release -p loadtest -- lifecycles --rate 50 --seconds 30"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Signed POST /v1/orders.
    Creates(Load),
    /// Create, code, scan, claim, trade, payment, notice, webhook: counted when the webhook is here.
    Lifecycles(Load),
    /// One signed notice of a paid order, again and again.
    Callbacks(Load),
    /// Orders with a live code, for the memory that each of them costs.
    Live(Load),
    /// All of these, one after the other, each against a fresh gateway.
    All(Load),
    /// The gateway of a run, in its own process.
    #[command(hide = true)]
    ServeGateway { config: PathBuf },
    /// The simulated providers of a run, in their own process.
    #[command(hide = true)]
    ServeSimulator {
        listen: std::net::SocketAddr,
        folder: PathBuf,
    },
}

/// How the load arrives, and where it goes.
#[derive(Clone, Debug, Args)]
pub struct Load {
    /// Arrivals a second.
    #[arg(long, conflicts_with = "find_knee")]
    rate: Option<u32>,
    /// Look for the highest rate that is kept up with (the default without --rate).
    #[arg(long)]
    find_knee: bool,
    /// How long each rate is offered.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Fresh gateways to measure one after the other; the report has minimum, median and maximum.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=99))]
    runs: u32,
    /// A gateway that runs already, such as http://127.0.0.1:8080.
    #[arg(long, requires = "credentials")]
    url: Option<String>,
    /// Its monitoring address, for its memory.
    #[arg(long, requires = "url")]
    admin_url: Option<String>,
    /// The simulators that it asks.
    #[arg(long, requires = "url", default_value = "http://127.0.0.1:8083")]
    simulator_url: String,
    /// A file with what `enrollpay merchant create` printed.
    #[arg(long, requires = "url")]
    credentials: Option<PathBuf>,
    /// Where stores and floors lie: a real disk, not memory.
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::ServeGateway { config } => gateway::serve(&config),
        Command::ServeSimulator { listen, folder } => gateway::simulate(listen, folder),
        Command::Creates(load) => run(&load, &[scenario::Kind::Creates]),
        Command::Lifecycles(load) => run(&load, &[scenario::Kind::Lifecycles]),
        Command::Callbacks(load) => run(&load, &[scenario::Kind::Callbacks]),
        Command::Live(load) => run(&load, &[scenario::Kind::Live]),
        Command::All(load) => run(&load, &scenario::Kind::ALL),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Failed arrivals are a failure of the whole, so that a script notices.
fn run(load: &Load, kinds: &[scenario::Kind]) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let mut report = Report::default();
    for turn in 1..=load.runs {
        eprintln!("run {turn} of {}", load.runs);
        // Who is told to stop ends the processes that were started: they go with the run's future.
        let figures = runtime.block_on(async {
            tokio::select! {
                figures = scenario::run(load, kinds) => figures,
                stopped = told_to_stop() => Err(stopped),
            }
        })?;
        report.add(figures);
    }
    match load.format {
        Format::Table => print!("{}", report.table()),
        Format::Json => println!("{:#}", report.json()),
    }
    Ok(if report.failed() == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn told_to_stop() -> Failure {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => terminate.recv().await.map(drop),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = terminated => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    "stopped by a signal".into()
}

/// The word of an error class: never an address, never a body.
fn kind_of(error: &reqwest::Error) -> String {
    let kind = if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "no connection"
    } else if error.is_decode() {
        "an answer that cannot be read"
    } else {
        "a broken exchange"
    };
    kind.to_owned()
}

/// What merchants sign as their time.
#[expect(clippy::disallowed_methods, reason = "signs with real time")]
fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
