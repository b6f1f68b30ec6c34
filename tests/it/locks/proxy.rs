//! A wire to Redis that may carry questions and lose the answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Ends with its test's runtime.
pub struct Proxy {
    port: u16,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    connections: AtomicUsize,
    /// The answers on the first so many connections are lost.
    mute: AtomicUsize,
}

impl Proxy {
    pub async fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = shared.connections.fetch_add(1, Ordering::SeqCst);
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
                    continue;
                };
                tokio::spawn(carry(client, server, number, Arc::clone(&shared)));
            }
        });
        Self { port: own, counts }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn connections(&self) -> usize {
        self.counts.connections.load(Ordering::SeqCst)
    }

    /// From now on no answer comes back on the connections there are.
    pub fn mute(&self) {
        self.counts.mute.store(self.connections(), Ordering::SeqCst);
    }

    /// Nor on those to come.
    pub fn mute_all(&self) {
        self.counts.mute.store(usize::MAX, Ordering::SeqCst);
    }
}

async fn carry(client: TcpStream, server: TcpStream, number: usize, counts: Arc<Counts>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let answers = tokio::spawn(async move {
        let mut bytes = vec![0; 4096];
        while let Ok(length @ 1..) = from_server.read(&mut bytes).await {
            let lost = number < counts.mute.load(Ordering::SeqCst);
            if !lost && to_client.write_all(&bytes[..length]).await.is_err() {
                return;
            }
        }
    });
    let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
    answers.abort();
}
