//! This node's part among others. Alone on the embedded store it goes the same way, with nobody beside it.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::node::{cores, listen, local};
use super::{AppError, Foundation};
use crate::actors::Orders;
use crate::actors::ownership::Ownership;
use crate::cluster::{self, Directory, Membership, Neighbours, PeerOptions, PeerParts, Peers};
use crate::config::{Config, ConfigError, LocksKind};
use crate::locks::Locks;

/// Who we are, and who the others are.
pub(super) struct Part {
    pub(super) ownership: Ownership,
    pub(super) membership: Arc<Membership>,
    pub(super) peers: Option<Peers>,
    listener: Option<TcpListener>,
}

impl Part {
    /// Joins: what is free and should be ours is ours afterwards.
    pub(super) async fn join(
        config: &Config,
        foundation: &Foundation,
        locks: &Arc<dyn Locks>,
    ) -> Result<Self, AppError> {
        // Only locks that other nodes see, too, let them in.
        let is_shared = matches!(config.locks_kind(), LocksKind::Redis(_));
        let instance = u128::from_be_bytes(foundation.random.bytes());
        let ownership = Ownership::new(instance, config.cluster.shards, is_shared);
        let directory = Directory::default();
        let mut part = Neighbourhood::default();
        if is_shared {
            part = Neighbourhood::open(config, foundation, instance, &directory)?;
        }
        let neighbours = part.peers.clone();
        let membership = Arc::new(Membership::new(
            cluster::Options {
                node: config.node_id(),
                internal_url: part.internal_url,
                shards: config.cluster.shards,
                lease: Duration::from_secs(config.cluster.lease_seconds),
            },
            cluster::Parts {
                store: Arc::clone(&foundation.store),
                locks: Arc::clone(locks),
                clock: Arc::clone(&foundation.clock),
                random: Arc::clone(&foundation.random),
                ownership: ownership.clone(),
                directory,
            },
            neighbours.map(|peers| Arc::new(peers) as Arc<dyn Neighbours>),
        ));
        membership
            .join()
            .await
            .map_err(|error| AppError::Start(error.to_string()))?;
        Ok(Self {
            ownership,
            membership,
            peers: part.peers,
            listener: part.listener,
        })
    }

    /// Takes part from now on, and answers the others. The server is whoever's it is to stop; `None`
    /// where nobody is to be answered.
    pub(super) fn begin(
        &mut self,
        orders: &Orders,
        background: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Option<Server>, AppError> {
        background.spawn_local({
            let membership = Arc::clone(&self.membership);
            let (orders, stop) = (orders.clone(), stop.clone());
            async move { membership.run(Some(orders), stop).await }
        });
        let Some((peers, listener)) = self.peers.as_ref().zip(self.listener.take()) else {
            return Ok(None);
        };
        peers.attach(orders.clone(), &self.membership);
        background.spawn_local({
            let (peers, stop) = (peers.clone(), stop.clone());
            async move { peers.run(stop).await }
        });
        let server = peers.serve(listener, cores());
        let server = server.map_err(|error| AppError::Start(format!("cluster.listen: {error}")))?;
        Ok(Some(server))
    }
}

/// How we and the others reach one another.
#[derive(Default)]
struct Neighbourhood {
    peers: Option<Peers>,
    listener: Option<TcpListener>,
    internal_url: Option<String>,
}

impl Neighbourhood {
    fn open(
        config: &Config,
        foundation: &Foundation,
        instance: u128,
        directory: &Directory,
    ) -> Result<Self, AppError> {
        let missing = |key| AppError::from(ConfigError::one(key, "nothing", "a value"));
        let address = config.cluster.listen;
        let address = address.ok_or_else(|| missing("cluster.listen"))?;
        let secret = config.cluster.secret.clone();
        let secret = secret.ok_or_else(|| missing("cluster.secret"))?;
        let listener = listen("cluster.listen", address)?;
        // Port 0 means any.
        let address = local(&listener)?;
        let internal_url = config.cluster.internal_url.clone();
        let internal_url = internal_url.unwrap_or_else(|| format!("http://{address}"));
        let peers = Peers::new(
            &PeerOptions { instance, secret },
            PeerParts {
                directory: directory.clone(),
                clock: Arc::clone(&foundation.clock),
                random: Arc::clone(&foundation.random),
            },
        )
        .map_err(|error| AppError::Start(error.to_string()))?;
        Ok(Self {
            peers: Some(peers),
            listener: Some(listener),
            internal_url: Some(internal_url),
        })
    }
}
