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

/// Prints what a command answers.
pub(super) fn print(value: &Value, format: Format) {
    match (format, value) {
        (Format::Json, Value::Array(rows)) => rows.iter().for_each(|row| println!("{row}")),
        (Format::Json, one) => println!("{one}"),
        (Format::Table, Value::Array(rows)) => {
            for (index, row) in rows.iter().enumerate() {
                if index > 0 {
                    println!();
                }
                print_one(row);
            }
        }
        (Format::Table, one) => print_one(one),
    }
}

fn print_one(value: &Value) {
    let Value::Object(members) = value else {
        println!("{value}");
        return;
    };
    let width = members.keys().map(String::len).max().unwrap_or_default();
    for (name, member) in members {
        match member {
            Value::String(text) => println!("{name:width$}  {text}"),
            Value::Null => println!("{name:width$}  -"),
            other => println!("{name:width$}  {other}"),
        }
    }
}
