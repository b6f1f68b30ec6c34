//! Tables for people, JSON for scripts.

use std::io::IsTerminal as _;

use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Json,
    Table,
}

impl Format {
    pub(super) fn of_standard_output() -> Self {
        if std::io::stdout().is_terminal() {
            Self::Table
        } else {
            Self::Json
        }
    }
}

/// Writes a line of data; a reader that has gone (`| head`) ends the program quietly, as in any tool.
pub(super) fn line(text: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    if writeln!(std::io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}

/// Prints what a command answers.
pub(super) fn print(value: &Value, format: Format) {
    match (format, value) {
        (Format::Json, Value::Array(rows)) => {
            for row in rows {
                line(format_args!("{row}"));
            }
        }
        (Format::Json, one) => line(format_args!("{one}")),
        (Format::Table, Value::Array(rows)) => {
            for (index, row) in rows.iter().enumerate() {
                if index > 0 {
                    line(format_args!(""));
                }
                print_one(row);
            }
        }
        (Format::Table, one) => print_one(one),
    }
}

fn print_one(value: &Value) {
    let Value::Object(members) = value else {
        line(format_args!("{value}"));
        return;
    };
    let width = members.keys().map(String::len).max().unwrap_or_default();
    for (name, member) in members {
        match member {
            Value::String(text) => line(format_args!("{name:width$}  {text}")),
            Value::Null => line(format_args!("{name:width$}  -")),
            other => line(format_args!("{name:width$}  {other}")),
        }
    }
}
