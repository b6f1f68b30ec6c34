//! How many event streams are open, and for whom: caps per order and address, and one switch that
//! ends all of them, because a single open stream would hold the server's graceful stop to its end.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::order::OrderId;

/// Open event streams of the student's side.
pub const STREAMS: &str = "enrollpay_sse_streams";

/// The registry. Cheap to clone; one for all workers.
#[derive(Clone, Debug, Default)]
pub struct Streams {
    books: Arc<Mutex<Books>>,
    closing: CancellationToken,
}

#[derive(Debug, Default)]
struct Books {
    orders: HashMap<OrderId, VecDeque<(u64, CancellationToken)>>,
    addresses: HashMap<IpAddr, usize>,
    next: u64,
    open: usize,
}

impl Streams {
    /// Ends every stream, now and from now on. Call it before the server stops.
    pub fn close(&self) {
        self.closing.cancel();
    }

    /// A place for one more stream. `None` where the address has too many, or the gateway stops.
    /// Where the order has too many, its oldest stream is told to ask now and then instead.
    pub fn open(
        &self,
        order: OrderId,
        address: Option<IpAddr>,
        per_order: usize,
        per_address: usize,
    ) -> Option<Open> {
        if self.closing.is_cancelled() {
            return None;
        }
        let mut books = self.books();
        if let Some(address) = address {
            let held = books.addresses.entry(address).or_default();
            if *held >= per_address {
                return None;
            }
            *held += 1;
        }
        books.next += 1;
        books.open += 1;
        let id = books.next;
        let evicted = CancellationToken::new();
        let streams = books.orders.entry(order).or_default();
        while streams.len() >= per_order.max(1) {
            if let Some((_, oldest)) = streams.pop_front() {
                oldest.cancel();
            }
        }
        streams.push_back((id, evicted.clone()));
        publish(books.open);
        drop(books);
        Some(Open {
            streams: self.clone(),
            order,
            address,
            id,
            evicted,
            closing: self.closing.clone(),
        })
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.books().open
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Nothing panics under the lock.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One open stream: its place is free again when this is dropped.
#[derive(Debug)]
pub struct Open {
    streams: Streams,
    order: OrderId,
    address: Option<IpAddr>,
    id: u64,
    /// A newer stream took its place.
    pub evicted: CancellationToken,
    /// The gateway stops.
    pub closing: CancellationToken,
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut books = self.streams.books();
        books.open = books.open.saturating_sub(1);
        if let Some(streams) = books.orders.get_mut(&self.order) {
            streams.retain(|(id, _)| *id != self.id);
            if streams.is_empty() {
                books.orders.remove(&self.order);
            }
        }
        if let Some(address) = self.address
            && let Some(held) = books.addresses.get_mut(&address)
        {
            *held = held.saturating_sub(1);
            if *held == 0 {
                books.addresses.remove(&address);
            }
        }
        publish(books.open);
    }
}

fn publish(open: usize) {
    metrics::gauge!(STREAMS).set(f64::from(u32::try_from(open).unwrap_or(u32::MAX)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use ulid::Ulid;

    #[test]
    fn the_oldest_makes_room_and_places_come_back() {
        let streams = Streams::default();
        let order = OrderId::from_ulid(Ulid(1));
        let first = streams.open(order, None, 2, 9).unwrap();
        let second = streams.open(order, None, 2, 9).unwrap();
        assert!(!first.evicted.is_cancelled());
        let third = streams.open(order, None, 2, 9).unwrap();
        assert!(first.evicted.is_cancelled() && !second.evicted.is_cancelled());
        assert_eq!(streams.count(), 3);
        drop((first, second, third));
        assert_eq!(streams.count(), 0);
        assert!(streams.books().orders.is_empty());
    }

    #[test]
    fn an_address_has_its_limit_and_the_end_ends_all() {
        let streams = Streams::default();
        let address = Some("203.0.113.9".parse().unwrap());
        let order = |number| OrderId::from_ulid(Ulid(number));
        let first = streams.open(order(1), address, 3, 1).unwrap();
        assert!(streams.open(order(2), address, 3, 1).is_none());
        drop(first);
        let second = streams.open(order(2), address, 3, 1).unwrap();
        streams.close();
        assert!(second.closing.is_cancelled());
        assert!(streams.open(order(3), None, 3, 1).is_none());
    }
}
