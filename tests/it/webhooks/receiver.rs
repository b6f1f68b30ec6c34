//! A merchant's endpoint that behaves as badly as it is told to.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Clone, Debug)]
pub struct Received {
    pub path: String,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
    /// How many requests were under way when this one came, itself included.
    pub open: usize,
}

impl Received {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }
}

#[derive(Clone, Debug)]
pub enum Answer {
    Status(u16),
    /// A status and one more header line.
    With(u16, String),
    /// Reads and says nothing.
    Hang,
    /// A status, then bytes for ever.
    Endless(u16),
    /// A status that promises a body, then a reset.
    Reset(u16),
    /// Resets before any answer.
    Drop,
    Late(Duration, u16),
}

type Script = Arc<dyn Fn(&Received, usize) -> Answer + Send + Sync>;

pub struct Receiver {
    pub address: SocketAddr,
    log: watch::Sender<Vec<Received>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    /// `script` sees each request and how many came before it.
    pub async fn start(
        script: impl Fn(&Received, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::start_at("127.0.0.1:0", script).await
    }

    pub async fn start_at(
        listen: &str,
        script: impl Fn(&Received, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = watch::channel(Vec::new()).0;
        let script: Script = Arc::new(script);
        let task = tokio::spawn(accept(listener, log.clone(), script));
        Self { address, log, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook?token=do-not-log", self.address)
    }

    pub fn seen(&self) -> Vec<Received> {
        self.log.borrow().clone()
    }

    pub async fn wait(&self, count: usize) -> Vec<Received> {
        let mut log = self.log.subscribe();
        let enough = log.wait_for(|log| log.len() >= count);
        let outcome = tokio::time::timeout(Duration::from_secs(20), enough).await;
        let seen = self.seen();
        assert!(outcome.is_ok(), "{} of {count} requests came", seen.len());
        seen
    }
}

async fn accept(listener: TcpListener, log: watch::Sender<Vec<Received>>, script: Script) {
    let open = Arc::new(AtomicUsize::new(0));
    while let Ok((stream, _)) = listener.accept().await {
        let (log, script, open) = (log.clone(), script.clone(), open.clone());
        tokio::spawn(async move {
            let now_open = open.fetch_add(1, Ordering::SeqCst) + 1;
            serve(stream, log, script, now_open).await;
            open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

async fn serve(
    mut stream: TcpStream,
    log: watch::Sender<Vec<Received>>,
    script: Script,
    open: usize,
) {
    let Some(received) = read(&mut stream, open).await else {
        return;
    };
    let mut before = 0;
    log.send_modify(|log| {
        before = log.len();
        log.push(received.clone());
    });
    let plain = |status: u16| {
        format!("HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok")
    };
    match script(&received, before) {
        Answer::Status(status) => {
            let _ = stream.write_all(plain(status).as_bytes()).await;
        }
        Answer::With(status, line) => {
            let head = format!(
                "HTTP/1.1 {status} x\r\nconnection: close\r\n{line}\r\ncontent-length: 0\r\n\r\n"
            );
            let _ = stream.write_all(head.as_bytes()).await;
        }
        Answer::Hang => std::future::pending().await,
        Answer::Endless(status) => {
            let head = format!("HTTP/1.1 {status} x\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).await;
            while stream.write_all(&[b'x'; 4096]).await.is_ok() {
                tokio::task::yield_now().await;
            }
        }
        Answer::Reset(status) => {
            let head = format!("HTTP/1.1 {status} x\r\ncontent-length: 999\r\n\r\nabc");
            let _ = stream.write_all(head.as_bytes()).await;
            reset(&stream);
        }
        Answer::Drop => reset(&stream),
        Answer::Late(wait, status) => {
            tokio::time::sleep(wait).await;
            let _ = stream.write_all(plain(status).as_bytes()).await;
        }
    }
}

/// RST instead of FIN.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

async fn read(stream: &mut TcpStream, open: usize) -> Option<Received> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        let mut chunk = [0; 4096];
        let count = stream
            .read(&mut chunk)
            .await
            .ok()
            .filter(|count| *count > 0)?;
        bytes.extend_from_slice(&chunk[..count]);
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).ok()?;
    let mut lines = head.lines();
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers.get("content-length")?.parse().ok()?;
    let mut body = bytes[head_end + 4..].to_vec();
    while body.len() < length {
        let mut chunk = [0; 4096];
        let count = stream
            .read(&mut chunk)
            .await
            .ok()
            .filter(|count| *count > 0)?;
        body.extend_from_slice(&chunk[..count]);
    }
    Some(Received {
        path,
        headers,
        body,
        open,
    })
}
