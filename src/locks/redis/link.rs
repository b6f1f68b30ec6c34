//! One connection to Redis for the whole process, made anew when it fails: to a single server, to
//! whichever server the Sentinels name, or to a Cluster.
//!
//! Connections are made, and driven, on the runtime that made the link. A worker thread that ends, or
//! a caller that gives up after its few milliseconds, takes none with it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::{ClusterClient, ClusterConfig};
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, FromRedisValue,
    IntoConnectionInfo as _, Pipeline, ProtocolVersion, RedisConnectionInfo, RedisError,
    RedisFuture, RedisResult, ScriptInvocation, ServerErrorKind, TlsCertificates, TlsMode, Value,
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::runtime::Handle;

use super::{RedisSettings, SettingsError, Topology};

/// To one server, its greeting included.
const CONNECT: Duration = Duration::from_secs(1);
/// Of one command, whatever waits for it.
pub(super) const COMMAND: Duration = Duration::from_secs(1);
/// Sentinels are asked one after another, and a Cluster's nodes too.
const CONNECT_IN_ALL: Duration = Duration::from_secs(3);
/// What was sent and never acknowledged: the kernel gives the connection up.
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);
/// Commands that may wait to be written. More than shards and requests at once.
const QUEUE: usize = 4096;

/// A connection as its callers see it. Cheap to clone.
#[derive(Clone)]
pub(super) enum Connection {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Server(server) => server.req_packed_command(command),
            Self::Cluster(cluster) => cluster.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Server(server) => server.req_packed_commands(commands, offset, count),
            Self::Cluster(cluster) => cluster.req_packed_commands(commands, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Server(server) => server.get_db(),
            Self::Cluster(cluster) => cluster.get_db(),
        }
    }
}

/// What can be asked again as it is.
pub(super) enum Question {
    Script(ScriptInvocation<'static>),
    Command(Cmd),
}

type Connecting = Shared<BoxFuture<'static, RedisResult<Connection>>>;

/// The connection of the moment, and how to make the next.
pub(super) struct Link {
    home: Handle,
    target: Arc<Target>,
    slot: Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    /// Counts connections, so that one that failed is not taken for its successor.
    number: u64,
    connecting: Option<Connecting>,
}

impl fmt::Debug for Link {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Link")
    }
}

impl Link {
    /// Does not connect yet: the first command does.
    pub(super) fn new(settings: &RedisSettings) -> Result<Self, SettingsError> {
        Ok(Self {
            home: Handle::current(),
            target: Arc::new(Target::of(settings)?),
            slot: Mutex::default(),
        })
    }

    /// Asks once, within [`COMMAND`].
    pub(super) async fn ask<T: FromRedisValue>(&self, question: &Question) -> RedisResult<T> {
        let (number, connecting) = self.connection();
        let ran = tokio::time::timeout(COMMAND, async {
            let mut connection = connecting.await?;
            match question {
                // By its hash; where the server does not know it, it is loaded first.
                Question::Script(script) => script.invoke_async(&mut connection).await,
                Question::Command(command) => command.query_async(&mut connection).await,
            }
        })
        .await;
        match ran {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => {
                if is_over(&error) {
                    self.forget(number);
                }
                Err(error)
            }
            Err(_) => {
                self.forget_if_connected(number);
                Err(timed_out())
            }
        }
    }

    /// The connection, or the attempt under way; a new one where the last came to nothing.
    fn connection(&self) -> (u64, Connecting) {
        let mut slot = self.slot();
        if let Some(connecting) = &slot.connecting
            && !matches!(connecting.peek(), Some(Err(_)))
        {
            return (slot.number, connecting.clone());
        }
        let target = Arc::clone(&self.target);
        let made = self.home.spawn(async move {
            tokio::time::timeout(CONNECT_IN_ALL, target.connect())
                .await
                .unwrap_or_else(|_| Err(timed_out()))
        });
        let connecting = async move {
            made.await.unwrap_or_else(|_| {
                Err(RedisError::from((
                    ErrorKind::Client,
                    "the runtime of the connection has ended",
                )))
            })
        }
        .boxed()
        .shared();
        slot.number += 1;
        slot.connecting = Some(connecting.clone());
        (slot.number, connecting)
    }

    fn forget(&self, number: u64) {
        let mut slot = self.slot();
        if slot.number == number {
            slot.connecting = None;
        }
    }

    /// An attempt under way goes on: who waited for it gave up, others still may not.
    fn forget_if_connected(&self, number: u64) {
        let mut slot = self.slot();
        let connected = slot
            .connecting
            .as_ref()
            .is_some_and(|connecting| connecting.peek().is_some());
        if slot.number == number && connected {
            slot.connecting = None;
        }
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn timed_out() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

/// Nothing more will come of this connection. A server that has become a replica says so at the first
/// write: the Sentinels know who took over.
fn is_over(error: &RedisError) -> bool {
    error.is_unrecoverable_error()
        || error.is_io_error()
        || matches!(
            error.kind(),
            ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
        )
}

/// Where to connect to, checked once.
enum Target {
    Server(Client),
    Sentinel(Sentinels),
    Cluster(Box<ClusterClient>),
}

struct Sentinels {
    addresses: Vec<ConnectionAddr>,
    service: String,
    server: RedisConnectionInfo,
    tls: Option<TlsCertificates>,
    username: Option<String>,
    password: Option<SecretString>,
}

impl Target {
    fn of(settings: &RedisSettings) -> Result<Self, SettingsError> {
        let tls = settings.tls.then(|| TlsCertificates {
            client_tls: None,
            root_cert: settings.ca_certificates.clone(),
        });
        let addresses = settings
            .hosts
            .iter()
            .map(|(host, port)| address(host, *port, tls.as_ref()))
            .collect::<RedisResult<Vec<_>>>()?;
        let server = login(settings);
        Ok(match &settings.topology {
            Topology::Single => {
                let first = addresses.into_iter().next().ok_or(SettingsError::NoHost)?;
                Self::Server(Client::open(reach(first, server)?)?)
            }
            Topology::Sentinel {
                service,
                username,
                password,
            } => Self::Sentinel(Sentinels {
                addresses,
                service: service.clone(),
                server,
                tls,
                username: username.clone(),
                password: password.clone(),
            }),
            Topology::Cluster => {
                let nodes = addresses
                    .into_iter()
                    .map(|address| reach(address, server.clone()))
                    .collect::<RedisResult<Vec<_>>>()?;
                let mut builder = ClusterClient::builder(nodes)
                    // Without RESP3 a node that went away is noticed by nobody until it is asked.
                    .use_protocol(ProtocolVersion::RESP3)
                    .tcp_settings(sockets())
                    .retries(2)
                    .min_retry_wait(20)
                    .max_retry_wait(200);
                if let Some(tls) = tls {
                    builder = builder.tls(TlsMode::Secure).certs(tls);
                }
                Self::Cluster(Box::new(builder.build()?))
            }
        })
    }

    async fn connect(&self) -> RedisResult<Connection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            // Each caller has its own patience.
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUE);
        Ok(match self {
            Self::Server(client) => Connection::Server(
                client
                    .get_multiplexed_async_connection_with_config(&config)
                    .await?,
            ),
            Self::Sentinel(sentinels) => {
                let mut client = sentinels.builder()?.build()?;
                Connection::Server(client.get_async_connection_with_config(&config).await?)
            }
            Self::Cluster(client) => Connection::Cluster(
                client
                    .get_async_connection_with_config(
                        ClusterConfig::new()
                            .set_connection_timeout(CONNECT)
                            .set_response_timeout(COMMAND),
                    )
                    .await?,
            ),
        })
    }
}

impl Sentinels {
    /// Asked anew for each connection: after a failover the answer is another.
    fn builder(&self) -> RedisResult<SentinelClientBuilder> {
        let mut builder = SentinelClientBuilder::new(
            self.addresses.iter().cloned(),
            &self.service,
            SentinelServerType::Master,
        )?
        .set_client_to_redis_db(self.server.db())
        .set_client_to_redis_tcp_settings(sockets())
        .set_client_to_sentinel_tcp_settings(sockets());
        if let Some(username) = self.server.username() {
            builder = builder.set_client_to_redis_username(username);
        }
        if let Some(password) = self.server.password() {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(username) = &self.username {
            builder = builder.set_client_to_sentinel_username(username);
        }
        if let Some(password) = &self.password {
            builder = builder.set_client_to_sentinel_password(password.expose_secret());
        }
        if let Some(tls) = &self.tls {
            builder = builder
                .set_client_to_redis_tls_mode(TlsMode::Secure)
                .set_client_to_redis_certificates(tls.clone());
        }
        Ok(builder)
    }
}

fn login(settings: &RedisSettings) -> RedisConnectionInfo {
    let mut login = RedisConnectionInfo::default()
        .set_db(settings.database)
        // One command less for the server's access list.
        .set_skip_set_lib_name();
    if let Some(username) = &settings.username {
        login = login.set_username(username);
    }
    if let Some(password) = &settings.password {
        login = login.set_password(password.expose_secret());
    }
    login
}

fn sockets() -> TcpSettings {
    TcpSettings::default()
        .set_nodelay(true)
        .set_user_timeout(UNACKNOWLEDGED)
}

fn reach(address: ConnectionAddr, login: RedisConnectionInfo) -> RedisResult<ConnectionInfo> {
    Ok(address
        .into_connection_info()?
        .set_tcp_settings(sockets())
        .set_redis_settings(login))
}

fn address(host: &str, port: u16, tls: Option<&TlsCertificates>) -> RedisResult<ConnectionAddr> {
    let Some(tls) = tls else {
        return Ok(ConnectionAddr::Tcp(host.to_owned(), port));
    };
    let secure = ConnectionAddr::TcpTls {
        host: host.to_owned(),
        port,
        insecure: false,
        tls_params: None,
    };
    // The library reads certificates only where it builds a client.
    let client = Client::build_with_tls(secure.into_connection_info()?, tls.clone())?;
    Ok(client.get_connection_info().addr().clone())
}
