//! `enrollpay event …`

use clap::Subcommand;

use crate::operations::{Operation, Released};

#[derive(Debug, Subcommand)]
pub(super) enum Event {
    /// Parked events; with --all those still being tried, too.
    List {
        #[arg(long)]
        all: bool,
    },
    /// Send an event again: the same id and the same bytes.
    Resend { event: String },
    /// Stop trying an event for now.
    Park { event: String },
    /// Make parked events pending again: one, or all of a merchant's.
    #[command(
        after_help = "Examples:\n  enrollpay event release evt_01J…\n  enrollpay event release --merchant mch_01J…"
    )]
    Release {
        #[arg(required_unless_present = "merchant", conflicts_with = "merchant")]
        event: Option<String>,
        #[arg(long)]
        merchant: Option<String>,
    },
}

impl Event {
    pub(super) fn operation(self) -> Operation {
        match self {
            Self::List { all } => Operation::EventList { all },
            Self::Resend { event } => Operation::EventResend { event },
            Self::Park { event } => Operation::EventPark { event },
            Self::Release { event, merchant } => Operation::EventRelease {
                released: match merchant {
                    Some(merchant) => Released::Merchant(merchant),
                    None => Released::Event(event.unwrap_or_default()),
                },
            },
        }
    }
}
