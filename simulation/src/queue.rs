//! What happens next: by time, and at one instant in the order in which it was planned.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::order::Timestamp;

#[derive(Debug)]
struct Planned<T> {
    at: Timestamp,
    turn: u64,
    what: T,
}

impl<T> PartialEq for Planned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Planned<T> {}

impl<T> PartialOrd for Planned<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Planned<T> {
    /// The earliest is the greatest: the heap gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.turn).cmp(&(self.at, self.turn))
    }
}

#[derive(Debug)]
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Planned<T>>,
    turns: u64,
}

impl<T> Queue<T> {
    pub const fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            turns: 0,
        }
    }

    pub fn plan(&mut self, at: Timestamp, what: T) {
        self.turns += 1;
        let turn = self.turns;
        self.heap.push(Planned { at, turn, what });
    }

    pub fn next(&mut self) -> Option<(Timestamp, T)> {
        self.heap.pop().map(|planned| (planned.at, planned.what))
    }
}
