//! `enrollpay operator …`

use std::io::Read as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Failure;
use crate::operations::{Hidden, Operation};

#[derive(Debug, Subcommand)]
pub(super) enum Operator {
    /// Let somebody log in to the console; prints a password, once, unless one is given.
    #[command(
        after_help = "Examples:\n  enrollpay operator create li.wei\n  enrollpay operator create li.wei --password-file -"
    )]
    Create {
        name: String,
        #[command(flatten)]
        password: Password,
    },
    /// All of them; no passwords.
    List,
    /// End somebody's sessions and let them in no more.
    Disable { name: String },
    /// Another password, also for who was disabled; ends every session of theirs.
    SetPassword {
        name: String,
        #[command(flatten)]
        password: Password,
    },
}

#[derive(Debug, Args)]
pub(super) struct Password {
    /// A file with the password in its first line; - is standard input. Without it one is made.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl Password {
    fn read(self) -> Result<Option<Hidden>, Failure> {
        let Some(path) = self.password_file else {
            return Ok(None);
        };
        let mut text = String::new();
        let read = if path.as_os_str() == "-" {
            std::io::stdin().read_to_string(&mut text)
        } else {
            std::fs::File::open(&path).and_then(|mut file| file.read_to_string(&mut text))
        };
        read.map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
        let line = text.lines().next().unwrap_or_default();
        Ok(Some(Hidden(line.to_owned())))
    }
}

impl Operator {
    pub(super) fn operation(self) -> Result<Operation, Failure> {
        Ok(match self {
            Self::Create { name, password } => Operation::OperatorCreate {
                name,
                password: password.read()?,
            },
            Self::List => Operation::OperatorList,
            Self::Disable { name } => Operation::OperatorDisable { name },
            Self::SetPassword { name, password } => Operation::OperatorSetPassword {
                name,
                password: password.read()?,
            },
        })
    }
}
