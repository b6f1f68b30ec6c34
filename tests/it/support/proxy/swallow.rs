//! Requests whose answer is lost: what a client can never tell from a request that was lost itself.

use std::collections::BTreeSet;

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// The end of a transaction, of a proxy before PostgreSQL: as text or as a prepared statement.
    Commit,
    /// A piece, as it was sent, that holds these bytes.
    Holds(&'static [u8]),
}

/// What the two ends will have seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server has done it; the connection breaks before the client hears.
    AnswerLost,
    /// The connection breaks before the server hears.
    NeverSent,
}

#[derive(Clone, Copy, Debug)]
pub struct Swallow {
    pub request: Request,
    pub outcome: Outcome,
    /// How many of them.
    pub times: usize,
}

/// Listens to one way of one connection.
#[derive(Debug)]
pub(super) struct Ear {
    frontend: Option<Frontend>,
    answer: Vec<u8>,
}

impl Ear {
    pub(super) fn new(is_postgres: bool) -> Self {
        Self {
            frontend: is_postgres.then(Frontend::default),
            answer: Vec::new(),
        }
    }

    /// The same bytes, cut so that what is looked for begins a piece; and whether it does.
    pub(super) fn pieces(&mut self, bytes: &[u8], wanted: Option<Request>) -> Vec<(Vec<u8>, bool)> {
        if let Some(frontend) = &mut self.frontend {
            return frontend.messages(bytes);
        }
        let is_wanted = match wanted {
            Some(Request::Holds(part)) => bytes.windows(part.len()).any(|found| found == part),
            _ => false,
        };
        vec![(bytes.to_vec(), is_wanted)]
    }

    /// Has the server, with these bytes, answered what was passed to it?
    pub(super) fn hears_the_answer(&mut self, bytes: &[u8]) -> bool {
        /// How PostgreSQL says that a transaction has ended, either way.
        const ENDS: [&[u8]; 2] = [b"COMMIT\0", b"ROLLBACK\0"];
        self.answer.extend_from_slice(bytes);
        self.frontend.is_none()
            || ENDS
                .iter()
                .any(|end| self.answer.windows(end.len()).any(|found| found == *end))
    }
}

/// The client's side of PostgreSQL's protocol, as far as it takes to see a COMMIT go by.
#[derive(Debug, Default)]
struct Frontend {
    /// Messages have a type from the second one on.
    is_started: bool,
    pending: Vec<u8>,
    /// Prepared statements that commit.
    commits: BTreeSet<Vec<u8>>,
}

impl Frontend {
    const STARTUP: [u8; 4] = 0x0003_0000_u32.to_be_bytes();

    /// The messages that are whole; the last may not be.
    fn messages(&mut self, bytes: &[u8]) -> Vec<(Vec<u8>, bool)> {
        self.pending.extend_from_slice(bytes);
        let mut messages = Vec::new();
        loop {
            let type_length = usize::from(self.is_started);
            let Some(length) = self.pending.get(type_length..type_length + 4) else {
                return messages;
            };
            let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
            if self.pending.len() < type_length + length {
                return messages;
            }
            let rest = self.pending.split_off(type_length + length);
            let message = std::mem::replace(&mut self.pending, rest);
            let commits = self.is_started && self.commits(&message);
            // Before it, TLS may be asked for.
            self.is_started = self.is_started || message[4..].starts_with(&Self::STARTUP);
            messages.push((message, commits));
        }
    }

    /// Does this message end a transaction?
    fn commits(&mut self, message: &[u8]) -> bool {
        let mut texts = message[5..].split(|byte| *byte == 0);
        let mut text = || texts.next().unwrap_or_default();
        match message[0] {
            b'Q' => ends_a_transaction(text()),
            // Prepared: its name and its text.
            b'P' => {
                let name = text().to_vec();
                if ends_a_transaction(text()) {
                    self.commits.insert(name);
                } else {
                    self.commits.remove(&name);
                }
                false
            }
            // Bound, to be run: the portal and the statement.
            b'B' => {
                text();
                self.commits.contains(text())
            }
            _ => false,
        }
    }
}

fn ends_a_transaction(text: &[u8]) -> bool {
    text.split(|byte| *byte == b';')
        .any(|statement| statement.trim_ascii().eq_ignore_ascii_case(b"commit"))
}
