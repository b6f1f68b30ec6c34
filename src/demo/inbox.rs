//! What reached a school's webhook: what it believed, once by its id, and what it did not.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::receive::Refused;

const NOTICES_MAX: usize = 500;
const REFUSED_MAX: usize = 50;

/// One delivery that reached the school and was believed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Heard {
    pub id: String,
    pub kind: String,
    /// The order's number at the school.
    pub number: String,
    pub version: u64,
    pub status: String,
    /// When it came first.
    pub at: String,
    /// How often it came.
    pub times: u32,
    pub effect: Effect,
}

/// What a notice did to our books.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It told us something newer.
    Applied,
    /// We had heard of this version or a higher one.
    Known,
    /// Nothing of ours has this number.
    Unknown,
}

impl Effect {
    pub const fn words(self) -> &'static str {
        match self {
            Self::Applied => "已更新 applied",
            Self::Known => "已知，忽略 not newer, ignored",
            Self::Unknown => "非本校订单 not one of ours",
        }
    }
}

/// One delivery that was not believed.
#[derive(Clone, Debug)]
pub struct Disbelieved {
    pub at: String,
    pub why: Refused,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Inbox {
    heard: VecDeque<Heard>,
    /// In memory only, and apart, so that forgeries push out nothing genuine.
    #[serde(skip)]
    refused: VecDeque<Disbelieved>,
}

impl Inbox {
    /// The newest first.
    pub fn heard(&self) -> impl Iterator<Item = &Heard> {
        self.heard.iter().rev()
    }

    pub fn refused(&self) -> impl Iterator<Item = &Disbelieved> {
        self.refused.iter().rev()
    }

    /// Counts a delivery that came before; `false` where this id is new.
    pub fn came_again(&mut self, id: &str) -> bool {
        let known = self.heard.iter_mut().find(|one| one.id == id);
        if let Some(known) = known {
            known.times = known.times.saturating_add(1);
            true
        } else {
            false
        }
    }

    pub fn keep(&mut self, heard: Heard) {
        if self.heard.len() >= NOTICES_MAX {
            self.heard.pop_front();
        }
        self.heard.push_back(heard);
    }

    pub fn disbelieve(&mut self, at: String, why: Refused) {
        if self.refused.len() >= REFUSED_MAX {
            self.refused.pop_front();
        }
        self.refused.push_back(Disbelieved { at, why });
    }
}
