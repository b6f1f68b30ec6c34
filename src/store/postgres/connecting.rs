//! Reaching the one server that takes writes among those that the URL names, and keeping its
//! connections until a store is closed. Nothing else here opens a connection: a standby is never read
//! from, for what it says may be old, or may never come to be.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use deadpool_postgres::Connect;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, Error, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::context::TokioContext;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::address::Address;
use super::opening::told;

/// How long a server may be silent before the next is tried beside it: one whose machine is gone or
/// stands still must not keep us from its successor.
const NEXT: Duration = Duration::from_millis(300);
/// For all of them together.
pub(super) const CONNECTING: Duration = Duration::from_secs(2);
/// For connections to say goodbye.
const ENDING: Duration = Duration::from_secs(1);

type Stream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

/// A connection of our own to the server that takes writes; where nobody answers in time, `None`.
pub(super) async fn one(
    address: &Address,
    config: &Config,
) -> Option<Result<(Client, Connection<Socket, Stream>), Error>> {
    let first = AtomicUsize::new(0);
    timeout(CONNECTING, connect(address, config, &first))
        .await
        .ok()
}

/// Did the server refuse because it takes no writes?
pub(super) fn takes_no_writes(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        // The client's word for a session that came up read-only.
        if let Some(inner) = cause.downcast_ref::<io::Error>()
            && inner.kind() == io::ErrorKind::PermissionDenied
        {
            return true;
        }
        next = cause.source();
    }
    false
}

/// Asks the server that was right last (`last`), and the others once it has failed or kept silent for a
/// moment. The first that takes writes is it.
async fn connect(
    address: &Address,
    config: &Config,
    last: &AtomicUsize,
) -> Result<(Client, Connection<Socket, Stream>), Error> {
    let servers = Address::servers(config);
    let count = servers.len();
    let first = last.load(Ordering::Relaxed);
    let mut waiting = (0..count).map(|turn| (first + turn) % count);
    let mut tried = FuturesUnordered::new();
    let mut failure: Option<Error> = None;
    loop {
        if let Some(index) = waiting.next() {
            let server = &servers[index];
            tried.push(async move { (index, server.connect(address.tls.clone()).await) });
        }
        let more = waiting.len() > 0;
        tokio::select! {
            Some((index, outcome)) = tried.next() => match outcome {
                Ok(connected) => {
                    last.store(index, Ordering::Relaxed);
                    return Ok(connected);
                }
                Err(error) => {
                    // That somebody answers, and takes no writes, says more than that another is silent.
                    if !failure.as_ref().is_some_and(|earlier| takes_no_writes(earlier)) {
                        failure = Some(error);
                    }
                    if let Some(failure) = failure.take_if(|_| !more && tried.is_empty()) {
                        return Err(failure);
                    }
                }
            },
            () = sleep(NEXT), if more => {}
        }
    }
}

/// The connections of a store's pools. All belong to the runtime that opened the store: those of the
/// HTTP workers end before it, and with them whatever was opened in them.
#[derive(Clone, Debug)]
pub(super) struct Connections {
    address: Address,
    runtime: Handle,
    last: Arc<AtomicUsize>,
    open: TaskTracker,
    /// From here on an end is meant.
    ending: CancellationToken,
}

impl Connections {
    pub fn new(address: Address) -> Self {
        Self {
            address,
            runtime: Handle::current(),
            last: Arc::default(),
            open: TaskTracker::new(),
            ending: CancellationToken::new(),
        }
    }

    /// Whatever ends now ends because we want it to.
    pub fn ending(&self) {
        self.ending.cancel();
    }

    /// Waits a moment for those that nobody holds any more: a runtime that ends first would cut them
    /// off in the middle of their goodbye.
    pub async fn ended(&self) {
        self.open.close();
        let _ = timeout(ENDING, self.open.wait()).await;
    }
}

impl Connect for Connections {
    fn connect(
        &self,
        config: &Config,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + '_>>
    {
        let config = config.clone();
        Box::pin(async move {
            let connecting = connect(&self.address, &config, &self.last);
            // A socket hangs on the runtime in which it was opened, whoever drives it.
            let (client, connection) = TokioContext::new(connecting, self.runtime.clone()).await?;
            let place = self.address.place.clone();
            let ending = self.ending.clone();
            let driving = async move {
                if let Err(error) = connection.await
                    && !ending.is_cancelled()
                {
                    tracing::warn!(
                        place,
                        why = told(&error),
                        "a connection to the store was lost"
                    );
                }
            };
            Ok((client, self.open.spawn_on(driving, &self.runtime)))
        })
    }
}
