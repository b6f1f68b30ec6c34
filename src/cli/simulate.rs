//! `enrollpay simulate`: the provider simulators alone.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::Failure;
use crate::app;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  enrollpay simulate --listen 127.0.0.1:9083 --folder simulated\n\nThe folder gets demo-keys.json, accounts.toml (for a gateway's --config) and the books."
)]
pub(super) struct Simulate {
    #[arg(long, default_value = "127.0.0.1:8083")]
    listen: SocketAddr,
    /// Where keys, accounts and books are kept.
    #[arg(long, default_value = "data")]
    folder: PathBuf,
    /// The providers' retry schedules divided by this.
    #[arg(long, default_value_t = 1)]
    retry_divisor: u32,
    /// From a payment to its first notice, in milliseconds.
    #[arg(long, default_value_t = 300)]
    notify_delay_ms: u64,
    /// Do not open the wallets' browsers.
    #[arg(long)]
    no_wallets: bool,
    /// Keep the books in memory alone: for load, where writing them out whole would be what binds.
    #[arg(long)]
    no_books: bool,
}

impl Simulate {
    pub(super) fn run(self) -> Result<(), Failure> {
        app::simulate(
            &app::Simulation {
                listen: self.listen,
                folder: self.folder,
                retry_divisor: self.retry_divisor,
                notify_delay_ms: self.notify_delay_ms,
                wallets: !self.no_wallets,
                keep_books: !self.no_books,
            },
            |welcome| super::output::line(format_args!("{welcome}")),
        )
        .map_err(Failure::new)
    }
}
