//! Who is to be told what: subscriptions of other nodes to our orders, ours to theirs, and news on
//! their way. All of it is bounded, and all of it may be lost: whoever shows a page reads the store as
//! well.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use super::messages::NewsItem;
use crate::actors::News;
use crate::order::OrderId;

/// Orders that other nodes watch here, and that we watch elsewhere, at most.
const MOST_WATCHED: usize = 200_000;
/// Orders with news that wait for one receiver.
const MOST_NEWS: usize = 8_192;
/// How long a subscription lasts that is not renewed.
pub(super) const TTL: Duration = Duration::from_secs(15);
/// Another node may not ask for more.
const LONGEST_TTL: Duration = Duration::from_mins(1);
/// When ours is renewed.
const RENEWED_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Post {
    /// Who watches an order here, and until when.
    subscribers: HashMap<OrderId, HashMap<u128, Instant>>,
    /// What is watched here, of other nodes' orders.
    wanted: HashMap<OrderId, Wanted>,
    /// Those of them that no owner knows of yet.
    fresh: HashSet<OrderId>,
    queues: HashMap<u128, HashMap<OrderId, NewsItem>>,
    /// Receivers of news that have not answered yet, and owners of subscriptions.
    under_way: HashSet<(Kind, u128)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    News,
    Watch,
}

#[derive(Clone, Copy, Debug)]
struct Wanted {
    shard: u16,
    /// Who knows of it, since when.
    told: Option<(u128, Instant)>,
}

impl Post {
    /// Nobody elsewhere waits for anything.
    pub(super) fn is_unwatched(&self) -> bool {
        self.subscribers.is_empty()
    }

    /// Another node watches these. Returns those that it did not watch before.
    pub(super) fn subscribe(&mut self, from: u128, ids: &[OrderId], ttl: Duration) -> Vec<OrderId> {
        let now = Instant::now();
        let until = now + ttl.min(LONGEST_TTL);
        let mut new = Vec::new();
        for id in ids {
            if self.subscribers.len() >= MOST_WATCHED && !self.subscribers.contains_key(id) {
                dropped(1);
                continue;
            }
            let before = self.subscribers.entry(*id).or_default();
            if before.insert(from, until).is_none_or(|until| until <= now) {
                new.push(*id);
            }
        }
        new
    }

    /// Who watches an order, but for one who knows.
    pub(super) fn subscribers(&self, id: OrderId, but: u128) -> Vec<u128> {
        let now = Instant::now();
        let Some(subscribers) = self.subscribers.get(&id) else {
            return Vec::new();
        };
        let living = subscribers.iter().filter(|(_, until)| **until > now);
        living
            .map(|(who, _)| *who)
            .filter(|who| *who != but)
            .collect()
    }

    /// Has news wait for their receiver.
    pub(super) fn queue(&mut self, receiver: u128, id: OrderId, news: News, pass_on: bool) {
        let queue = self.queues.entry(receiver).or_default();
        if queue.len() >= MOST_NEWS && !queue.contains_key(&id) {
            return dropped(1);
        }
        let item = queue.entry(id).or_insert_with(|| NewsItem::nothing(id));
        item.add(news, pass_on);
    }

    /// What waits for receivers that have answered the last.
    pub(super) fn take_news(&mut self) -> Vec<(u128, Vec<NewsItem>)> {
        let mut taken = Vec::new();
        for (receiver, queue) in &mut self.queues {
            if !queue.is_empty() && self.under_way.insert((Kind::News, *receiver)) {
                taken.push((*receiver, queue.drain().map(|(_, item)| item).collect()));
            }
        }
        taken
    }

    /// The receiver has answered, or does not.
    pub(super) fn is_through(&mut self, kind: Kind, receiver: u128) {
        self.under_way.remove(&(kind, receiver));
    }

    /// Somebody here watches another node's order.
    pub(super) fn want(&mut self, shard: u16, id: OrderId) {
        if self.wanted.len() >= MOST_WATCHED && !self.wanted.contains_key(&id) {
            return dropped(1);
        }
        let wanted = Wanted { shard, told: None };
        let known = self.wanted.entry(id).or_insert(wanted);
        if known.told.is_none() {
            self.fresh.insert(id);
        }
    }

    /// Goes through all that is watched: what is not any more is forgotten; what its owner does not
    /// know of, or only just still, is fresh again.
    pub(super) fn look_through(
        &mut self,
        is_watched: impl Fn(u16, OrderId) -> bool,
        owner: impl Fn(u16) -> Option<u128>,
    ) {
        let now = Instant::now();
        let owners: HashMap<u16, Option<u128>> = self
            .wanted
            .values()
            .map(|wanted| wanted.shard)
            .collect::<HashSet<_>>()
            .into_iter()
            .map(|shard| (shard, owner(shard)))
            .collect();
        let fresh = &mut self.fresh;
        self.wanted.retain(|id, wanted| {
            if !is_watched(wanted.shard, *id) {
                fresh.remove(id);
                return false;
            }
            let present = owners.get(&wanted.shard).copied().flatten();
            let is_known = wanted.told.is_some_and(|(who, at)| {
                Some(who) == present && now.duration_since(at) < RENEWED_AFTER
            });
            if !is_known {
                wanted.told = None;
                fresh.insert(*id);
            }
            true
        });
        self.subscribers.retain(|_, subscribers| {
            subscribers.retain(|_, until| *until > now);
            !subscribers.is_empty()
        });
    }

    /// News for those who are not there any more.
    pub(super) fn forget_receivers(&mut self, lives: impl Fn(u128) -> bool) {
        self.queues.retain(|receiver, queue| {
            let stays = lives(*receiver);
            if !stays {
                dropped(queue.len());
            }
            stays
        });
    }

    /// What owners are to be told that we watch. Those without one wait.
    pub(super) fn take_fresh(
        &mut self,
        owner: impl Fn(u16) -> Option<u128>,
    ) -> Vec<(u128, Vec<OrderId>)> {
        let mut by_owner: HashMap<u128, Vec<OrderId>> = HashMap::new();
        for id in &self.fresh {
            let shard = self.wanted.get(id).map(|wanted| wanted.shard);
            if let Some(owner) = shard.and_then(&owner)
                && !self.under_way.contains(&(Kind::Watch, owner))
            {
                by_owner.entry(owner).or_default().push(*id);
            }
        }
        let now = Instant::now();
        for (owner, ids) in &by_owner {
            self.under_way.insert((Kind::Watch, *owner));
            for id in ids {
                self.fresh.remove(id);
                if let Some(wanted) = self.wanted.get_mut(id) {
                    wanted.told = Some((*owner, now));
                }
            }
        }
        by_owner.into_iter().collect()
    }

    /// The owner was not reached: it does not know of these.
    pub(super) fn untold(&mut self, ids: &[OrderId]) {
        for id in ids {
            if let Some(wanted) = self.wanted.get_mut(id) {
                wanted.told = None;
            }
        }
    }
}

pub(super) fn dropped(news: usize) {
    let news = u64::try_from(news).unwrap_or(u64::MAX);
    metrics::counter!("enrollpay_peer_news_dropped_total").increment(news);
}

#[cfg(test)]
mod tests {
    use super::*;
    use ulid::Ulid;

    const ID: OrderId = OrderId::from_ulid(Ulid(7));

    fn version(item: &NewsItem) -> Option<u64> {
        item.version
    }

    #[tokio::test(start_paused = true)]
    async fn news_go_to_those_who_watch_for_as_long_as_they_do() {
        let mut post = Post::default();
        assert_eq!(post.subscribe(2, &[ID], TTL), [ID]);
        assert_eq!(post.subscribe(2, &[ID], TTL), [], "it is known already");
        post.subscribe(3, &[ID], TTL / 3);
        let mut both = post.subscribers(ID, 9);
        both.sort_unstable();
        assert_eq!(both, [2, 3]);
        assert_eq!(post.subscribers(ID, 2), [3], "whoever tells it knows it");
        tokio::time::advance(TTL / 2).await;
        assert_eq!(post.subscribers(ID, 9), [2]);
        tokio::time::advance(TTL).await;
        assert_eq!(post.subscribe(2, &[ID], TTL), [ID], "it was forgotten");
    }

    #[test]
    fn news_of_one_order_become_one_and_wait_for_their_receiver() {
        let mut post = Post::default();
        post.queue(2, ID, News::Version(5), false);
        post.queue(2, ID, News::Version(4), true);
        let taken = post.take_news();
        assert_eq!(taken.len(), 1);
        assert_eq!(
            taken[0].1.iter().map(version).collect::<Vec<_>>(),
            [Some(5)]
        );
        assert!(taken[0].1[0].pass_on);
        post.queue(2, ID, News::Version(6), false);
        assert!(post.take_news().is_empty(), "one at a time");
        post.is_through(Kind::News, 2);
        assert_eq!(post.take_news().len(), 1);
    }

    #[test]
    fn more_news_than_a_receiver_takes_are_dropped() {
        let mut post = Post::default();
        for number in 0..=MOST_NEWS {
            let id = OrderId::from_ulid(Ulid(number as u128));
            post.queue(2, id, News::Version(1), false);
        }
        assert_eq!(post.take_news()[0].1.len(), MOST_NEWS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_owner_and_a_long_while_make_a_subscription_fresh() {
        let mut post = Post::default();
        post.want(4, ID);
        assert!(post.take_fresh(|_| None).is_empty(), "nobody owns it");
        assert_eq!(post.take_fresh(|_| Some(2)), [(2, vec![ID])]);
        post.is_through(Kind::Watch, 2);
        post.look_through(|_, _| true, |_| Some(2));
        assert!(post.take_fresh(|_| Some(2)).is_empty());
        post.look_through(|_, _| true, |_| Some(3));
        assert_eq!(post.take_fresh(|_| Some(3)), [(3, vec![ID])]);
        post.is_through(Kind::Watch, 3);
        tokio::time::advance(RENEWED_AFTER).await;
        post.look_through(|_, _| true, |_| Some(3));
        assert_eq!(post.take_fresh(|_| Some(3)), [(3, vec![ID])]);
        post.is_through(Kind::Watch, 3);
        post.untold(&[ID]);
        post.look_through(|_, _| true, |_| Some(3));
        assert_eq!(post.take_fresh(|_| Some(3)), [(3, vec![ID])]);
        post.is_through(Kind::Watch, 3);
        post.look_through(|_, _| false, |_| Some(2));
        assert!(post.take_fresh(|_| Some(2)).is_empty(), "nobody watches it");
    }
}
