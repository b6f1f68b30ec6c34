//! The proxy does to a line what it says, and nothing else.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_postgres::NoTls;

use crate::support::eventually;
use crate::support::postgres::Postgres;
use crate::support::proxy::{Outcome, Proxy, Request, Swallow, Toxic, Way};

/// Sends back whatever comes, and keeps it.
struct Echo {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<u8>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Echo {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heard);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let kept = Arc::clone(&kept);
                connections.spawn(async move {
                    let mut buffer = [0; 1024];
                    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                        kept.lock().unwrap().extend_from_slice(&buffer[..length]);
                        if stream.write_all(&buffer[..length]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self {
            address,
            heard,
            task,
        }
    }

    fn heard(&self) -> Vec<u8> {
        self.heard.lock().unwrap().clone()
    }
}

async fn line() -> (Echo, Proxy, TcpStream) {
    let echo = Echo::start().await;
    let proxy = Proxy::before(&[echo.address]);
    let stream = TcpStream::connect(proxy.address()).await.unwrap();
    (echo, proxy, stream)
}

/// Says something and hears it again.
async fn say(stream: &mut TcpStream, words: &[u8]) -> std::io::Result<()> {
    stream.write_all(words).await?;
    hear(stream, words).await
}

async fn hear(stream: &mut TcpStream, words: &[u8]) -> std::io::Result<()> {
    let mut answer = vec![0; words.len()];
    stream.read_exact(&mut answer).await?;
    assert_eq!(answer, words);
    Ok(())
}

async fn is_silent(stream: &mut TcpStream) -> bool {
    let read = tokio::time::timeout(Duration::from_millis(150), stream.read_u8()).await;
    read.is_err()
}

#[tokio::test]
async fn a_healthy_line_passes_bytes_and_ends() {
    let (echo, _proxy, mut stream) = line().await;
    let much = vec![7; 200_000];
    say(&mut stream, b"hello").await.unwrap();
    let (mut from, mut to) = stream.into_split();
    let mut back = vec![0; much.len()];
    let (sent, read) = tokio::join!(to.write_all(&much), from.read_exact(&mut back));
    sent.unwrap();
    read.unwrap();
    assert_eq!(back, much);
    drop(to);
    let end = from.read(&mut back).await.unwrap();
    assert_eq!(end, 0, "the end of one is the end of the other");
    assert_eq!(echo.heard().len(), 5 + much.len());
}

#[tokio::test]
async fn a_slow_line_is_as_slow_as_it_was_told() {
    let (_echo, proxy, mut stream) = line().await;
    let delay = Duration::from_millis(120);
    proxy.set(
        Way::Down,
        Toxic {
            delay,
            jitter: Duration::from_millis(20),
            ..Toxic::default()
        },
    );
    let from = Instant::now();
    say(&mut stream, b"slow").await.unwrap();
    assert!(from.elapsed() >= delay, "{:?}", from.elapsed());

    let narrow = Toxic {
        bytes_per_second: Some(2_000),
        ..Toxic::default()
    };
    proxy.set(Way::Down, Toxic::default());
    proxy.set(Way::Up, narrow);
    let from = Instant::now();
    say(&mut stream, &[1; 800]).await.unwrap();
    let took = from.elapsed();
    assert!(took >= Duration::from_millis(300), "{took:?}");

    proxy.heal();
    let from = Instant::now();
    say(&mut stream, b"fast").await.unwrap();
    assert!(from.elapsed() < delay, "{:?}", from.elapsed());
}

#[tokio::test]
async fn a_partition_is_silent_and_forgets_nothing() {
    let (echo, proxy, mut stream) = line().await;
    proxy.partition();
    stream.write_all(b"lost?").await.unwrap();
    assert!(is_silent(&mut stream).await);
    assert_eq!(echo.heard(), b"");
    // A new connection opens, and that is all.
    let mut other = TcpStream::connect(proxy.address()).await.unwrap();
    other.write_all(b"too").await.unwrap();
    assert!(is_silent(&mut other).await);
    proxy.heal();
    hear(&mut stream, b"lost?").await.unwrap();
    hear(&mut other, b"too").await.unwrap();
}

#[tokio::test]
async fn one_way_may_be_gone_alone() {
    let (echo, proxy, mut stream) = line().await;
    let gone = Toxic {
        blackhole: true,
        ..Toxic::default()
    };
    proxy.set(Way::Down, gone);
    stream.write_all(b"heard").await.unwrap();
    assert!(is_silent(&mut stream).await);
    assert_eq!(echo.heard(), b"heard");
    proxy.heal();
    hear(&mut stream, b"heard").await.unwrap();
}

#[tokio::test]
async fn a_reset_is_told_to_both_ends() {
    let (_echo, proxy, mut stream) = line().await;
    say(&mut stream, b"open").await.unwrap();
    proxy.refuse();
    let error = say(&mut stream, b"shut").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    // Already then, or with the first word.
    if let Ok(mut other) = TcpStream::connect(proxy.address()).await {
        say(&mut other, b"no").await.unwrap_err();
    }
    proxy.heal();
    let mut other = TcpStream::connect(proxy.address()).await.unwrap();
    say(&mut other, b"yes").await.unwrap();
}

#[tokio::test]
async fn a_line_is_cut_after_so_many_bytes() {
    let (echo, proxy, mut stream) = line().await;
    let short = Toxic {
        cut_after: Some(6),
        ..Toxic::default()
    };
    proxy.set(Way::Up, short);
    say(&mut stream, b"four").await.unwrap();
    let error = say(&mut stream, b"more").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    eventually("the last bytes", Duration::from_secs(5), async || {
        (echo.heard() == b"fourmo").then_some(())
    })
    .await;
}

#[tokio::test]
async fn each_connection_takes_the_next_that_lives() {
    let (one, two) = (Echo::start().await, Echo::start().await);
    let proxy = Proxy::before(&[one.address, two.address]);
    let visit = async || {
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        say(&mut stream, b"x").await.unwrap();
    };
    for _ in 0..4 {
        visit().await;
    }
    assert_eq!((one.heard().len(), two.heard().len()), (2, 2));
    one.task.abort();
    assert!(one.task.await.is_err());
    for _ in 0..4 {
        visit().await;
    }
    assert_eq!(two.heard().len(), 6);
}

#[tokio::test]
async fn an_answer_is_swallowed_after_the_deed_or_before() {
    for outcome in [Outcome::AnswerLost, Outcome::NeverSent] {
        let (echo, proxy, mut stream) = line().await;
        let swallow = Swallow {
            request: Request::Holds(b"pay"),
            outcome,
            times: 1,
        };
        proxy.swallow(swallow);
        say(&mut stream, b"ask").await.unwrap();
        let error = say(&mut stream, b"do pay").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let heard = echo.heard();
        let is_done = outcome == Outcome::AnswerLost;
        assert_eq!(heard.ends_with(b"do pay"), is_done, "{outcome:?}");
        assert_eq!(proxy.swallowed(), 1);
        // Once, and no more.
        let mut again = TcpStream::connect(proxy.address()).await.unwrap();
        say(&mut again, b"do pay").await.unwrap();
        assert_eq!(proxy.swallowed(), 1);
    }
}

/// How a client ends its transaction.
#[derive(Clone, Copy, Debug)]
enum Ends {
    InText,
    ByItself,
    Prepared,
}

#[tokio::test]
async fn an_answer_to_commit_is_swallowed_after_the_deed_or_before() {
    let database = Postgres::shared().database();
    database.sql("CREATE TABLE kept (id bigint)");
    let url: url::Url = database.url().parse().unwrap();
    let server = SocketAddr::from(([127, 0, 0, 1], url.port().unwrap()));
    let proxy = Proxy::before_postgres(server);
    let connect = async || {
        let url = proxy.instead_of(&database.url());
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    };
    let insert = async |client: &tokio_postgres::Client, id: i64, ends: Ends| {
        let text = format!("INSERT INTO kept VALUES ({id})");
        let begin = format!("BEGIN; {text}");
        match ends {
            Ends::InText => {
                let all = format!("{begin}; COMMIT");
                client.batch_execute(&all).await
            }
            Ends::ByItself => {
                client.batch_execute(&begin).await.unwrap();
                client.batch_execute("commit").await
            }
            Ends::Prepared => {
                client.batch_execute(&begin).await.unwrap();
                client.execute("COMMIT", &[]).await.map(drop)
            }
        }
    };
    let mut kept = Vec::new();
    let all = [Ends::InText, Ends::ByItself, Ends::Prepared];
    for (number, ends) in (0..).zip(all) {
        for (outcome, id) in [
            (Outcome::AnswerLost, 10 * number + 1),
            (Outcome::NeverSent, 10 * number + 2),
        ] {
            let client = connect().await;
            let before = proxy.swallowed();
            let swallow = Swallow {
                request: Request::Commit,
                outcome,
                times: 1,
            };
            proxy.swallow(swallow);
            let error = insert(&client, id, ends).await.unwrap_err();
            assert!(error.is_closed() || error.as_db_error().is_none());
            assert_eq!(proxy.swallowed(), before + 1, "{ends:?}");
            if outcome == Outcome::AnswerLost {
                kept.push(id.to_string());
            }
            // Once, and no more.
            let client = connect().await;
            insert(&client, id + 5, ends).await.unwrap();
            kept.push((id + 5).to_string());
        }
    }
    let found = database.sql("SELECT id FROM kept ORDER BY id");
    let mut found: Vec<&str> = found.lines().collect();
    found.sort_unstable();
    kept.sort_unstable();
    assert_eq!(found, kept);
}
