//! Logs: one JSON line per event in production, readable text on a terminal. What may be logged is
//! decided where it is logged: ids of orders yes; names, numbers, tokens, keys, query strings never.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Text,
}

impl Format {
    /// Text for people, JSON for machines.
    pub fn of_standard_error() -> Self {
        if std::io::stderr().is_terminal() {
            Self::Text
        } else {
            Self::Json
        }
    }
}

/// A panic's message may quote what the code choked on: only where it happened is told.
pub fn quiet_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let place = place.as_deref().unwrap_or("an unknown place");
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        let backtrace = std::backtrace::Backtrace::capture();
        if tracing::dispatcher::has_been_set() {
            tracing::error!(place, thread, %backtrace, "panicked");
        } else {
            eprintln!("panicked at {place} in thread {thread}\n{backtrace}");
        }
    }));
}

/// Sends log lines to standard error; data goes to standard output. A second call changes nothing.
pub fn install(format: Format, filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let outcome = match format {
        Format::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init(),
        Format::Text => builder
            .with_ansi(std::env::var_os("NO_COLOR").is_none())
            .with_target(false)
            .try_init(),
    };
    // Already installed: in tests, by another one.
    let _ = outcome;
}
