//! Where several nodes write, another's commit may not be heard of: what somebody watches is read again
//! from the store every moment (architecture §2, "Live pages").

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::house::House;

/// Orders in one question.
const PAGE: usize = 1_000;

/// Runs until the calls are stopped.
pub(super) async fn run(house: Arc<House>) {
    let every = Duration::from_millis(house.options.reread_ms.max(1));
    let mut interval = tokio::time::interval(every);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let stop = house.stop_calls.clone();
    let work = async {
        loop {
            interval.tick().await;
            reread(&house).await;
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = work => {}
    }
}

async fn reread(house: &House) {
    for page in house.board.watched_orders().chunks(PAGE) {
        match house.parts.store.versions(page).await {
            Ok(versions) => {
                for (id, version) in versions {
                    house.board.announce(house.shard_of(id), id, version);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the versions of watched orders could not be read");
                return;
            }
        }
    }
}
