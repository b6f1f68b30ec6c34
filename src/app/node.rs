//! One gateway node, from its first line to its last.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::{App, HttpServer};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::cluster::Part;
use super::demo_mode::DemoMode;
use super::keys::Keys;
use super::locks::Shared;
use super::{AppError, Foundation, accounts, commands, gauges};
use crate::actors;
use crate::config::{Config, LogFormat, Mode, StoreKind};
use crate::http::{self, Deps, Settings, admin};
use crate::reconcile::{self, Nightly, Reconciler, Schedule};
use crate::store::{Store, Transaction, Write};
use crate::view::View;
use crate::webhook;
use crate::{metrics, telemetry};

/// Longer than any head or body of ours may take.
const REQUEST_HEAD: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Listeners wait this long after readiness is off, so that a balancer sees it.
const CONNECTIONS_PER_WORKER: usize = 4096;

/// Runs a node until SIGTERM or SIGINT. `announce` is told the addresses once everything listens.
pub fn serve(config: &Config, announce: impl Fn(&str)) -> Result<(), AppError> {
    let format = match config.log.format {
        LogFormat::Auto => telemetry::Format::of_standard_error(),
        LogFormat::Json => telemetry::Format::Json,
        LogFormat::Text => telemetry::Format::Text,
    };
    telemetry::install(format, &config.log.filter);
    if config.mode == Mode::Production {
        super::memory::keep_private()?;
    }
    actix_web::rt::System::new().block_on(run(config, announce))
}

async fn run(config: &Config, announce: impl Fn(&str)) -> Result<(), AppError> {
    let metrics =
        metrics::install().map_err(|error| AppError::Start(format!("metrics: {error}")))?;
    let mut config = config.clone();
    let public = listen("server.listen", config.server.listen)?;
    let monitoring = listen("admin.listen", config.admin.listen)?;
    // Port 0 means any: from here on the true one is known.
    config.server.listen = local(&public)?;
    config.admin.listen = local(&monitoring)?;
    let desk = super::console::listen(&config)?;
    config.console.listen = desk.as_ref().map(local).transpose()?;
    let config = config;

    let foundation = Foundation::open(&config).await?;
    check_mode(&config, foundation.store.as_ref()).await?;
    let keys = Keys::of(&config, &foundation)?;
    super::personal::check_keys(foundation.personal.as_ref(), &keys.sealer).await?;
    let mut operations = super::operations(&config, &foundation, &keys);
    let demo = DemoMode::start(&config, &foundation, &keys)?;
    let origin = demo.as_ref().and_then(DemoMode::simulator_origin);
    let providers = accounts::connect(&config, &foundation, &keys, origin)?;

    let settings = Arc::new(settings(&config, demo.as_ref()));
    let view = Arc::new(View {
        public_url: settings.public_url.clone(),
        zone_minutes: settings.zone_minutes,
        sealer: keys.sealer.clone(),
    });
    let console_view = Arc::clone(&view);
    let shared = Shared::open(&config, &foundation.random)?;
    if let Some(redis) = &shared.redis
        && let Err(error) = redis.check().await
    {
        tracing::error!(%error, "the locks cannot be asked: no shard can be taken");
    }
    let locks = Arc::clone(&shared.locks);
    let mut part = Part::join(&config, &foundation, &locks).await?;
    let (ownership, membership) = (part.ownership.clone(), Arc::clone(&part.membership));
    let shards = actors::start(
        actors::Options {
            shards: config.cluster.shards,
            threads: match config.shards.threads {
                0 => cores(),
                threads => threads,
            },
            flushes: match config.store_kind() {
                // One writer, who gathers from all threads.
                StoreKind::Sqlite(_) => 1,
                StoreKind::Postgres(_) => 4,
            },
            mailbox: config.limits.mailbox,
            live_orders: config.limits.live_orders,
            budgets: accounts::budgets(&config, &keys),
            public_url: settings.public_url.clone(),
            ownership: ownership.clone(),
            peers: part
                .peers
                .clone()
                .map(|peers| Arc::new(peers) as Arc<dyn actors::Peers>),
            ..actors::Options::default()
        },
        actors::Parts {
            store: Arc::clone(&foundation.store),
            providers: providers.clone(),
            sealer: keys.sealer.clone(),
            clock: Arc::clone(&foundation.clock),
            random: Arc::clone(&foundation.random),
            webhook_body: view,
        },
    );
    let relay = webhook::start(
        webhook::Options {
            policy: super::webhook_policy(&config),
            schedule: webhook::Schedule::new(
                config
                    .webhooks
                    .retry_seconds
                    .iter()
                    .map(|seconds| Duration::from_secs(*seconds))
                    .collect(),
            ),
            timeout: Duration::from_secs(config.webhooks.timeout_seconds),
            ..webhook::Options::default()
        },
        webhook::Parts {
            store: Arc::clone(&foundation.store),
            sealer: keys.sealer.clone(),
            clock: Arc::clone(&foundation.clock),
            random: Arc::clone(&foundation.random),
            owned: {
                let ownership = ownership.clone();
                Arc::new(move || ownership.owned())
            },
        },
    )
    .map_err(|error| AppError::Start(error.to_string()))?;

    let stop = CancellationToken::new();
    let background = tokio_util::task::TaskTracker::new();
    background.spawn_local(nudge(&shards, &relay, stop.clone()));
    let cluster_server = part.begin(&shards.orders(), &background, &stop)?;
    let cluster = cluster_server.as_ref().map(Server::handle);
    background.spawn_local(accounts::refresh(providers.clone(), stop.clone()));
    let reconciler = Reconciler::new(reconcile::Parts {
        store: Arc::clone(&foundation.store),
        providers: providers.clone(),
        orders: shards.orders(),
        locks: Arc::clone(&locks),
        clock: Arc::clone(&foundation.clock),
        random: Arc::clone(&foundation.random),
        lease: reconcile::LEASE,
    });
    operations.reconciler = Some(reconciler.clone());
    if config.reconciliation.enabled {
        let schedule = Schedule {
            at: config.reconciliation.at,
        };
        background.spawn_local(Nightly::new(reconciler, schedule).watch(stop.clone()));
    }
    if let Some(erasure) = super::personal::daily_erasure(&config, &foundation, &locks) {
        background.spawn_local(stop.clone().run_until_cancelled_owned(erasure));
    }

    let deps = Deps {
        orders: shards.orders(),
        store: Arc::clone(&foundation.store),
        providers,
        sealer: keys.sealer.clone(),
        clock: Arc::clone(&foundation.clock),
        random: Arc::clone(&foundation.random),
        settings: Arc::clone(&settings),
        streams: http::cashier::streams::Streams::default(),
    };
    let limiters = match shared.limits {
        Some(shared) => http::limits::Limiters::shared(&settings.limits, shared),
        None => http::limits::Limiters::new(&settings.limits),
    };
    background.spawn_local(gauges::watch(
        Arc::clone(&foundation.store),
        Arc::clone(&foundation.clock),
        metrics.clone(),
        limiters.clone(),
        stop.clone(),
    ));
    let health = admin::Health {
        store: Arc::clone(&foundation.store),
        clock: Arc::clone(&foundation.clock),
        metrics,
        draining: Arc::new(AtomicBool::new(false)),
        started: Arc::new(AtomicBool::new(false)),
        not_ready: {
            let membership = Arc::clone(&membership);
            Arc::new(move || membership.not_ready())
        },
    };
    let public_server = {
        let configure = http::routes::public_with(deps.clone(), limiters.clone());
        HttpServer::new(move || App::new().configure(configure.clone()))
            .workers(match config.server.workers {
                0 => cores(),
                workers => workers,
            })
            .client_request_timeout(REQUEST_HEAD)
            .client_disconnect_timeout(Duration::from_secs(1))
            .keep_alive(KEEP_ALIVE)
            .max_connections(CONNECTIONS_PER_WORKER)
            .backlog(1024)
            .shutdown_timeout(config.server.drain_seconds.saturating_sub(2).max(1))
            .disable_signals()
            .listen(public)
            .map_err(|error| AppError::Start(format!("server.listen: {error}")))?
            .run()
    };
    let monitoring_server = {
        let configure = admin::configure(health.clone());
        HttpServer::new(move || App::new().configure(configure.clone()))
            .workers(1)
            .client_request_timeout(REQUEST_HEAD)
            .keep_alive(KEEP_ALIVE)
            .shutdown_timeout(1)
            .disable_signals()
            .listen(monitoring)
            .map_err(|error| AppError::Start(format!("admin.listen: {error}")))?
            .run()
    };
    operations.orders = Some(shards.orders());
    let console_server = match desk {
        None => None,
        Some(listener) => Some(super::console::serve(
            &config,
            listener,
            operations.clone(),
            console_view,
            limiters,
        )?),
    };
    let command_server = commands::listen(&config.admin_socket(), operations)?;
    let console = console_server.as_ref().map(Server::handle);
    let handles = [
        public_server.handle(),
        monitoring_server.handle(),
        command_server.handle(),
    ];
    let servers = [public_server, monitoring_server, command_server];
    for server in servers
        .into_iter()
        .chain(console_server)
        .chain(cluster_server)
    {
        background.spawn_local(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "a listener ended");
            }
        });
    }
    let demo = match demo {
        Some(demo) => Some(demo.open(&config, &foundation, &keys).await?),
        None => None,
    };
    health.started.store(true, Ordering::SeqCst);
    announce(&welcome(&config, demo.as_ref()));
    tracing::info!(
        public = %config.server.listen,
        admin = %config.admin.listen,
        mode = config.mode.as_str(),
        version = env!("CARGO_PKG_VERSION"),
        "serving"
    );

    wait_for_signal().await?;
    tracing::info!("draining");
    health.draining.store(true, Ordering::SeqCst);
    let drain = Duration::from_secs(config.server.drain_seconds);
    let finish = async {
        let [public, monitoring, commands] = handles;
        let orders = shards.orders();
        // While others can take over at once, they do: what still comes in is passed on to them, and
        // money is recorded as ever. Alone, we finish first.
        let has_others = membership.has_others();
        if has_others {
            membership.leave(Some(&orders)).await;
        }
        // Live pages would hold the listener for its whole patience: they go first.
        deps.streams.close();
        public.stop(true).await;
        if let Some(console) = console {
            console.stop(true).await;
        }
        commands.stop(true).await;
        shards.stop(drain).await;
        if !has_others {
            membership.leave(Some(&orders)).await;
        }
        relay.stop().await;
        if let Some(demo) = demo {
            demo.stop().await;
        }
        stop.cancel();
        if let Some(cluster) = cluster {
            cluster.stop(true).await;
        }
        if let Some(peers) = &part.peers {
            peers.detach();
        }
        monitoring.stop(false).await;
        background.close();
        background.wait().await;
        foundation.store.close().await;
    };
    // A second signal, or the end of our time, is correct too: every step is safe to cut short.
    tokio::select! {
        () = finish => tracing::info!("stopped"),
        () = tokio::time::sleep(drain) => tracing::warn!("stopped before everything had ended"),
        again = wait_for_signal() => {
            again?;
            tracing::warn!("stopped at once by a second signal");
        }
    }
    let _ = std::fs::remove_file(config.admin_socket());
    Ok(())
}

/// A store remembers which mode made it: production never runs on what a demo made.
async fn check_mode(config: &Config, store: &dyn Store) -> Result<(), AppError> {
    let refuse = |key: &str, found: String, expected: &str| {
        Err(AppError::from(crate::config::ConfigError::one(
            key, found, expected,
        )))
    };
    match store.setting("mode").await? {
        Some(mode) if mode != config.mode.as_str() => {
            return refuse(
                "store.url",
                format!("a store that {mode} mode made"),
                &format!(
                    "a store of {} mode: name another file",
                    config.mode.as_str()
                ),
            );
        }
        Some(_) => {}
        None => remember(store, "mode", config.mode.as_str()).await?,
    }
    let shards = config.cluster.shards.to_string();
    match store.setting("shards").await? {
        Some(made_with) if made_with != shards => refuse(
            "cluster.shards",
            shards,
            &format!("{made_with}, with which the store was made"),
        ),
        Some(_) => Ok(()),
        None => remember(store, "shards", &shards).await,
    }
}

pub(super) async fn remember(store: &dyn Store, name: &str, value: &str) -> Result<(), AppError> {
    let transaction = Transaction {
        order: None,
        writes: vec![Write::Setting {
            name: name.to_owned(),
            value: value.to_owned(),
        }],
    };
    for outcome in store.commit(vec![transaction]).await? {
        outcome.map_err(|rejection| AppError::Start(rejection.to_string()))?;
    }
    Ok(())
}

fn settings(config: &Config, demo: Option<&DemoMode>) -> Settings {
    let limits = &config.limits;
    Settings {
        public_url: config.public_url(),
        demo: config.mode == Mode::Demo,
        zone_minutes: config.zone,
        trusted_proxies: config.server.trusted_proxies.clone(),
        well_known_files: config.server.well_known_files.clone(),
        qr_ms: config.order.qr_seconds * 1000,
        limits: http::Limits {
            merchant_body_bytes: limits.merchant_body_bytes,
            callback_body_bytes: limits.callback_body_bytes,
            student_body_bytes: limits.student_body_bytes,
            merchant_per_second: limits.merchant_per_second,
            merchant_burst: limits.merchant_burst,
            address_per_second: limits.address_per_second,
            address_burst: limits.address_burst,
            attempts_per_hour: limits.attempts_per_hour,
            streams_per_order: limits.streams_per_order,
            streams_per_address: limits.streams_per_address,
        },
        demo_wallet_url: demo.and_then(DemoMode::wallet_url),
    }
}

/// Wakes the relay whenever something was written to the outbox.
fn nudge(
    shards: &actors::Shards,
    relay: &webhook::Relay,
    stop: CancellationToken,
) -> impl Future<Output = ()> + 'static {
    let mut written = shards.orders().outbox_written();
    let nudge = relay.nudge();
    async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = written.changed() => match changed {
                    Ok(()) => nudge.nudge(),
                    Err(_) => return,
                }
            }
        }
    }
}

fn welcome(config: &Config, demo: Option<&super::demo_mode::Open>) -> String {
    use std::fmt::Write as _;
    let mut text = format!(
        "enrollpay {} ({} mode)\n\n",
        env!("CARGO_PKG_VERSION"),
        config.mode.as_str()
    );
    let mut line = |what: &str, address: &str| {
        let _ = writeln!(text, "  {what:<28} {address}");
    };
    if let Some(demo) = demo {
        if let Some(school) = demo.school_url() {
            line("open this first: demo school", &school);
        }
        if let Some(wallet) = demo.wallet_url() {
            line("simulated wallets", &wallet);
        }
    }
    let public = config.public_url();
    line("merchant API, documentation", &format!("{public}/docs"));
    line(
        "metrics and health",
        &format!("http://{}/metrics", config.admin.listen),
    );
    if let Some(console) = config.console.listen {
        line("operators' console", &format!("http://{console}/"));
    }
    if let Some(passwords) = demo.and_then(super::demo_mode::Open::operators_file) {
        line("its operators' passwords", &passwords.display().to_string());
    }
    if demo.is_some_and(|demo| demo.school_url().is_some()) {
        text.push_str(
            "\nChoose a school there (at the first, press 点击缴费), then the wallet link under the code: scan, confirm, pay.\nStop with Ctrl-C.\n",
        );
    }
    text
}

pub(super) async fn wait_for_signal() -> Result<(), AppError> {
    let failed = |error: std::io::Error| AppError::Start(format!("signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

pub(super) fn listen(key: &'static str, address: SocketAddr) -> Result<TcpListener, AppError> {
    TcpListener::bind(address)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|error| AppError::Listen {
            key,
            address: address.to_string(),
            why: error.to_string(),
        })
}

pub(super) fn local(listener: &TcpListener) -> Result<SocketAddr, AppError> {
    listener
        .local_addr()
        .map_err(|error| AppError::Start(error.to_string()))
}

pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
