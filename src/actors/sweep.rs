//! The sweep: wakes every order whose time has come, whether it is in memory or not. Timers only make
//! it prompt; this makes it certain, and it is all there is to recovery (reliability, decision 6).

use std::collections::HashSet;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::MissedTickBehavior;

use super::house::House;
use super::{Orders, Request, Verdict};
use crate::order::{Command, OrderId};
use crate::store::Actor;

/// Runs until the calls are stopped. The first sweep is at once.
pub(super) async fn run(house: Arc<House>) {
    let mut interval = tokio::time::interval(Duration::from_millis(house.options.sweep_ms.max(1)));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let stop = house.stop_calls.clone();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = interval.tick() => {}
            () = house.look.notified() => {}
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sweep(&house) => {}
        }
        house.board.prune();
    }
}

fn parked(house: &House) -> MutexGuard<'_, HashSet<OrderId>> {
    house.parked.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn sweep(house: &Arc<House>) {
    let owned = house.options.ownership.owned();
    if owned.is_none() {
        return;
    }
    let orders = Orders::of(Arc::clone(house));
    let page = house.options.sweep_page.max(1);
    loop {
        let now = house.parts.clock.now();
        // Those that wait for room are due as well, and must not hide the others.
        let waiting = parked(house).len();
        let mut due = match house.parts.store.due(now, &owned, page + waiting).await {
            Ok(due) => due,
            Err(error) => {
                tracing::error!(%error, "the store does not say what is due");
                return;
            }
        };
        {
            let parked = parked(house);
            due.retain(|id| !parked.contains(id));
        }
        metrics::gauge!("enrollpay_sweep_due").set(u32::try_from(due.len()).unwrap_or(u32::MAX));
        let full = due.len() >= page;
        let moved = futures_util::stream::iter(due)
            .map(|id| {
                let orders = &orders;
                async move {
                    let tick = Request {
                        command: Command::Tick,
                        actor: Actor::Gateway,
                        request_id: None,
                        writes: Vec::new(),
                    };
                    // One that failed, or did not move, is still due at the next sweep.
                    let reply = orders.tell(id, tick).await;
                    reply.is_ok_and(|reply| reply.verdict == Verdict::Applied)
                }
            })
            .buffer_unordered(house.options.sweep_wakes.max(1))
            .filter(|moved| std::future::ready(*moved))
            .count()
            .await;
        // A full page that moved may hide another; one that did not waits for the next sweep.
        if !full || moved == 0 {
            return;
        }
    }
}
