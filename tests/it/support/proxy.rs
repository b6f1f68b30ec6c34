//! A TCP proxy whose lines go wrong when a test says so (reliability §2.1). It stands before a server
//! or before several, of which each new connection takes the next that lives: then it is the load
//! balancer that a school would have.
//!
//! It cuts every link of a cluster without network namespaces or packet filters, for which a test
//! would have to be root: between node and Redis, node and PostgreSQL, node and node. The one
//! difference: where a filter drops the first packet of a connection, here the connection opens and
//! nothing answers on it.

mod pump;
mod swallow;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

pub use swallow::{Outcome, Request, Swallow};

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the server.
    Up,
    /// Back to the client.
    Down,
}

/// What is wrong with one way of every connection; by default nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Toxic {
    /// Each piece waits this long, and up to `jitter` more.
    pub delay: Duration,
    pub jitter: Duration,
    pub bytes_per_second: Option<u32>,
    /// Nothing passes; what was sent arrives once that is over, as it would by retransmission.
    pub blackhole: bool,
    /// A connection is reset when so many bytes have passed since its beginning.
    pub cut_after: Option<u64>,
}

/// What a test has ordered.
#[derive(Debug, Default)]
struct Orders {
    up: Toxic,
    down: Toxic,
    /// Connections are reset as they come.
    refuse: bool,
    swallow: Option<Swallow>,
    servers: Vec<SocketAddr>,
}

impl Orders {
    const fn toxic(&mut self, way: Way) -> &mut Toxic {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }
}

#[derive(Debug)]
struct Shared {
    is_postgres: bool,
    orders: Mutex<Orders>,
    /// Rises with every order; held bytes look again.
    changed: watch::Sender<u64>,
    /// Rises when everything that is open is reset.
    reset: watch::Sender<u64>,
    swallowed: AtomicUsize,
    held: AtomicUsize,
    next: AtomicUsize,
}

impl Shared {
    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A server that lives.
    async fn connect(&self) -> Option<TcpStream> {
        let servers = self.orders().servers.clone();
        let first = self.next.fetch_add(1, Relaxed);
        for turn in 0..servers.len() {
            let server = servers[(first + turn) % servers.len()];
            if let Ok(stream) = TcpStream::connect(server).await {
                return Some(stream);
            }
        }
        None
    }
}

#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// The proxy ends when this is dropped.
    _end: oneshot::Sender<()>,
}

impl Proxy {
    /// Listens on a port of its own.
    pub fn before(servers: &[SocketAddr]) -> Self {
        Self::start(servers, false)
    }

    /// The same, and sees a COMMIT go by.
    pub fn before_postgres(server: SocketAddr) -> Self {
        Self::start(&[server], true)
    }

    /// On a thread of its own: a test may block its own.
    fn start(servers: &[SocketAddr], is_postgres: bool) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let orders = Orders {
            servers: servers.to_vec(),
            ..Orders::default()
        };
        let shared = Arc::new(Shared {
            is_postgres,
            orders: Mutex::new(orders),
            changed: watch::Sender::new(0),
            reset: watch::Sender::new(0),
            swallowed: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
        });
        let (end, ended) = oneshot::channel();
        let kept = Arc::clone(&shared);
        std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, kept) => {}
                    _ = ended => {}
                }
            });
        });
        Self {
            address,
            shared,
            _end: end,
        }
    }

    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same URL by way of this proxy.
    pub fn instead_of(&self, url: &str) -> String {
        let mut url: url::Url = url.parse().unwrap();
        url.set_ip_host(self.address.ip()).unwrap();
        url.set_port(Some(self.address.port())).unwrap();
        url.to_string()
    }

    fn order(&self, change: impl FnOnce(&mut Orders)) {
        change(&mut self.shared.orders());
        self.shared.changed.send_modify(|number| *number += 1);
    }

    /// The only servers from here on, for new connections.
    pub fn lead_to(&self, servers: &[SocketAddr]) {
        self.order(|orders| orders.servers = servers.to_vec());
    }

    pub fn set(&self, way: Way, toxic: Toxic) {
        self.order(|orders| *orders.toxic(way) = toxic);
    }

    pub fn set_both(&self, toxic: Toxic) {
        self.set(Way::Up, toxic);
        self.set(Way::Down, toxic);
    }

    /// A partition: packets are dropped both ways.
    pub fn partition(&self) {
        self.set_both(Toxic {
            blackhole: true,
            ..Toxic::default()
        });
    }

    /// Resets what is open, and whatever comes.
    pub fn refuse(&self) {
        self.order(|orders| orders.refuse = true);
        self.reset();
    }

    /// RST to both ends of everything that is open.
    pub fn reset(&self) {
        self.shared.reset.send_modify(|number| *number += 1);
    }

    /// From here on, as often as it says.
    pub fn swallow(&self, swallow: Swallow) {
        self.order(|orders| orders.swallow = Some(swallow));
    }

    /// How many requests lost their answer, or themselves, to [`Self::swallow`].
    pub fn swallowed(&self) -> usize {
        self.shared.swallowed.load(Relaxed)
    }

    /// How many pieces came to a blackhole.
    pub fn held(&self) -> usize {
        self.shared.held.load(Relaxed)
    }

    /// Everything is well again; what is open stays open.
    pub fn heal(&self) {
        self.order(|orders| {
            let servers = std::mem::take(&mut orders.servers);
            *orders = Orders {
                servers,
                ..Orders::default()
            };
        });
    }
}

async fn accept(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let refuse = shared.orders().refuse;
            let server = if refuse { None } else { shared.connect().await };
            match server {
                Some(server) => pump::connection(client, server, &shared).await,
                // Dropped so, it is reset.
                None => drop(client.set_zero_linger()),
            }
        });
    }
}
