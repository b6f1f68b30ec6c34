//! One connection: two ways, each with what is wrong with it at the moment.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rand::RngExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;

use super::swallow::{Ear, Outcome, Swallow};
use super::{Shared, Toxic, Way};

/// Passes bytes until both ends are done, or one of them or a toxic cuts it.
pub(super) async fn connection(mut client: TcpStream, mut server: TcpStream, shared: &Shared) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let mut reset = shared.reset.subscribe();
    let line = Line {
        shared,
        muted: AtomicBool::new(false),
    };
    let ended = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        tokio::select! {
            done = async {
                tokio::try_join!(
                    line.pump(Way::Up, from_client, to_server),
                    line.pump(Way::Down, from_server, to_client),
                )
            } => done.map(drop),
            _ = reset.changed() => Err(io::ErrorKind::ConnectionReset.into()),
        }
    };
    if ended.is_err() {
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

struct Line<'a> {
    shared: &'a Shared,
    /// The answer of the request that passed last reaches nobody.
    muted: AtomicBool,
}

impl Line<'_> {
    /// `Err`: both ends are to be reset.
    async fn pump(
        &self,
        way: Way,
        mut from: ReadHalf<'_>,
        mut to: WriteHalf<'_>,
    ) -> io::Result<()> {
        let mut changed = self.shared.changed.subscribe();
        let mut buffer = vec![0; 16 * 1024];
        let mut passed = 0;
        let mut ear = Ear::new(self.shared.is_postgres);
        loop {
            let length = from.read(&mut buffer).await?;
            let toxic = self.wait(way, &mut changed).await;
            if length == 0 {
                return to.shutdown().await;
            }
            let mut bytes = &buffer[..length];
            if way == Way::Down && self.muted.load(Relaxed) {
                // Once the answer is there, the request has had its effect.
                if ear.hears_the_answer(bytes) {
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
                continue;
            }
            if let Some(most) = toxic.cut_after {
                let left = usize::try_from(most.saturating_sub(passed)).unwrap_or(usize::MAX);
                bytes = &bytes[..left.min(length)];
            }
            passed += bytes.len() as u64;
            if way == Way::Up {
                let wanted = self.shared.orders().swallow.map(|swallow| swallow.request);
                for (piece, is_wanted) in ear.pieces(bytes, wanted) {
                    if is_wanted && let Some(outcome) = self.takes() {
                        match outcome {
                            Outcome::NeverSent => {
                                return Err(io::ErrorKind::ConnectionReset.into());
                            }
                            Outcome::AnswerLost => self.muted.store(true, Relaxed),
                        }
                    }
                    write(&mut to, &piece, toxic).await?;
                }
            } else {
                write(&mut to, bytes, toxic).await?;
            }
            if toxic.cut_after.is_some_and(|most| passed >= most) {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
        }
    }

    /// One of the requests that are to be swallowed, if there is one left.
    fn takes(&self) -> Option<Outcome> {
        let mut orders = self.shared.orders();
        let Swallow { times, outcome, .. } = orders.swallow.as_mut()?;
        *times = times.checked_sub(1)?;
        self.shared.swallowed.fetch_add(1, Relaxed);
        Some(*outcome)
    }

    /// Until something may pass, and not at once; and what is wrong then.
    async fn wait(&self, way: Way, changed: &mut watch::Receiver<u64>) -> Toxic {
        let mut is_new = true;
        let toxic = loop {
            changed.mark_unchanged();
            let toxic = *self.shared.orders().toxic(way);
            if !toxic.blackhole {
                break toxic;
            }
            if std::mem::take(&mut is_new) {
                self.shared.held.fetch_add(1, Relaxed);
            }
            // The sender lives as long as we do.
            let _ = changed.changed().await;
        };
        if !toxic.delay.is_zero() || !toxic.jitter.is_zero() {
            let jitter = rand::rng().random_range(Duration::ZERO..=toxic.jitter);
            tokio::time::sleep(toxic.delay + jitter).await;
        }
        toxic
    }
}

async fn write(to: &mut WriteHalf<'_>, bytes: &[u8], toxic: Toxic) -> io::Result<()> {
    const STEPS_PER_SECOND: u32 = 20;
    let Some(rate) = toxic.bytes_per_second else {
        return to.write_all(bytes).await;
    };
    let step = rate.div_ceil(STEPS_PER_SECOND).max(1) as usize;
    for piece in bytes.chunks(step) {
        to.write_all(piece).await?;
        tokio::time::sleep(Duration::from_secs(1) / STEPS_PER_SECOND).await;
    }
    Ok(())
}
