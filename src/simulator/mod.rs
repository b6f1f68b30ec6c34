//! The other side of the wire: `WeChat` Pay APIv3 and Alipay's gateway, with OAuth, notices, people with
//! wallets, and faults on demand. Neither provider has a sandbox that can do this, so the demo, the
//! tests and merchants' own continuous integration use it.
//!
//! Nothing here is shared with the connectors: the protocols are written a second time, so that one
//! misreading cannot hide on both sides. Start reading at [`start`]; `books` holds the truth,
//! `wechatpay` and `alipay` speak the protocols, `control` and `wallet` are for whoever plays the payer.

mod alipay;
mod answers;
mod bills;
mod booking;
mod books;
mod browser;
mod control;
mod crypto;
mod faults;
mod handle;
pub mod keys;
mod notices;
mod options;
mod people;
mod times;
mod wallet;
mod wechatpay;
mod world;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpResponse, HttpServer, web};
use secrecy::ExposeSecret as _;
use tokio::sync::{mpsc, oneshot};

pub use bills::{BillFile, Difference, Plant, PlantError, Planted};
pub use booking::{BookedRefund, Booking, ConsoleRefund};
pub use books::{Books, Capture, Product, Refund, Refusal, State, Trade};
pub use crypto::KeyError;
pub use faults::{ALIPAY_NOTICE, Fault, OPERATIONS, Rule};
pub use handle::Handle;
pub use options::{AlipayCertificates, AlipayOptions, Options, Regime, WechatOptions};
pub use people::{FACES, Person, RealName, Wallet};

use crate::clock::Clock;
use crate::random::Random;
use crypto::SigningKey;
use world::{Parts, World};

/// As web servers in front of such APIs commonly have it. Much shorter, and connections would be closed
/// under the requests of a client that keeps them: 502s that no provider caused.
const KEEP_ALIVE: std::time::Duration = std::time::Duration::from_secs(75);

/// Why the simulators did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the simulator cannot listen on {address}: {source}; is another one running?")]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("the simulator's keys: {0}")]
    Key(#[from] KeyError),
    #[error(
        "the simulator's books in {path} cannot be read ({why}); move the file away to begin anew"
    )]
    Books { path: PathBuf, why: String },
    #[error("the simulator's server did not start: {0}")]
    Server(std::io::Error),
    #[error("the simulator's HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// Running simulators. They stop when this is dropped; [`Simulator::stop`] also waits.
#[derive(Debug)]
pub struct Simulator {
    address: SocketAddr,
    handle: Handle,
    servers: Vec<ServerHandle>,
    ended: Option<oneshot::Receiver<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Simulator {
    /// Where the API listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://address`: the `base_url` of the connectors.
    pub fn origin(&self) -> &str {
        self.handle.origin()
    }

    /// For tests in the same process: everything `/control` does, without HTTP.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Stops serving and telling, and returns when the last thread has ended.
    pub async fn stop(mut self) {
        for server in std::mem::take(&mut self.servers) {
            server.stop(false).await;
        }
        if let Some(ended) = self.ended.take() {
            let _ = ended.await;
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        for server in self.servers.drain(..) {
            // The command is sent here; nobody waits for the end.
            drop(server.stop(false));
        }
    }
}

fn read_books(path: &Path) -> Result<Books, StartError> {
    let broken = |why: String| StartError::Books {
        path: path.to_owned(),
        why,
    };
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Books::default()),
        Err(error) => Err(broken(error.to_string())),
    }
}

fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let wrong = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).map_err(wrong)?;
    let bound = listener.local_addr().map_err(wrong)?;
    Ok((listener, bound))
}

/// Binds, reads the books, and serves on threads of its own: any runtime, or none, may call it.
pub fn start(
    options: Options,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
) -> Result<Simulator, StartError> {
    // A forger needs a key that is real but not the signer's: each provider borrows the other's.
    let alipay_key = options.alipay.alipay_private_key_pem.expose_secret();
    let wechat_key = options.wechat.platform_private_key_pem.expose_secret();
    let wechat = wechatpay::WechatPay::new(
        &options.wechat,
        SigningKey::read(alipay_key, "alipay private key")?,
    )?;
    let alipay = alipay::Alipay::new(
        &options.alipay,
        SigningKey::read(wechat_key, "wechat platform private key")?,
    )?;
    let mut books = match &options.state_file {
        Some(path) => read_books(path)?,
        None => Books::default(),
    };
    for (id, wallet, _) in FACES {
        if let Some(person) = Person::new(wallet, id) {
            handle::introduce(&mut books, &options, &person);
        }
    }
    let (listener, address) = listen(options.listen)?;
    let mut browser_listeners = Vec::new();
    let mut browsers = Vec::new();
    if options.wallet_browsers {
        for (id, ..) in FACES {
            let (listener, bound) = self::listen(SocketAddr::new(address.ip(), 0))?;
            browser_listeners.push(listener);
            browsers.push((id.to_owned(), bound.port()));
        }
    }
    let (notices, queue) = mpsc::unbounded_channel();
    let (writer, to_write) = match &options.state_file {
        Some(path) => {
            let (sender, receiver) = mpsc::unbounded_channel();
            (Some(sender), Some((path.clone(), receiver)))
        }
        None => (None, None),
    };
    let workers = options.workers.max(1);
    let world = Arc::new(World::new(Parts {
        browsing: browser::Browsing::new()?,
        origin: format!("http://{address}"),
        options,
        wechat,
        alipay,
        clock,
        random,
        browsers,
        books,
        notices,
        writer,
    }));
    let client = notices::client()?;
    let (started, starting) = std::sync::mpsc::channel();
    let (end, ended) = oneshot::channel();
    let handle = Handle::new(world.clone());
    let thread = std::thread::Builder::new()
        .name("simulator".to_owned())
        .spawn(move || {
            actix_web::rt::System::new().block_on(run(Run {
                world,
                client,
                queue,
                writes: to_write,
                listener,
                browser_listeners,
                workers,
                started,
            }));
            let _ = end.send(());
        })
        .map_err(StartError::Server)?;
    let servers = starting
        .recv()
        .map_err(|_| StartError::Server(std::io::ErrorKind::BrokenPipe.into()))?
        .map_err(StartError::Server)?;
    Ok(Simulator {
        address,
        handle,
        servers,
        ended: Some(ended),
        thread: Some(thread),
    })
}

type Writes = (PathBuf, mpsc::UnboundedReceiver<oneshot::Sender<()>>);

struct Run {
    world: Arc<World>,
    client: reqwest::Client,
    queue: mpsc::UnboundedReceiver<notices::Dispatch>,
    writes: Option<Writes>,
    listener: TcpListener,
    browser_listeners: Vec<TcpListener>,
    workers: usize,
    started: std::sync::mpsc::Sender<std::io::Result<Vec<ServerHandle>>>,
}

/// The simulator's own thread: servers, notices, the writer of the books.
async fn run(run: Run) {
    let world = run.world;
    let data = web::Data::from(world.clone());
    let api = HttpServer::new(move || App::new().app_data(data.clone()).configure(routes))
        .workers(run.workers)
        .keep_alive(KEEP_ALIVE)
        .disable_signals()
        .shutdown_timeout(1)
        .listen(run.listener);
    let data = web::Data::from(world.clone());
    let mut browsers = HttpServer::new(move || {
        App::new()
            .app_data(data.clone())
            .app_data(web::PayloadConfig::new(1 << 20))
            .default_service(web::to(browser::serve))
    })
    .workers(1)
    .disable_signals()
    .shutdown_timeout(1);
    for listener in run.browser_listeners {
        browsers = match browsers.listen(listener) {
            Ok(server) => server,
            Err(error) => {
                let _ = run.started.send(Err(error));
                return;
            }
        };
    }
    let api = match api {
        Ok(server) => server.run(),
        Err(error) => {
            let _ = run.started.send(Err(error));
            return;
        }
    };
    let mut servers = vec![api.handle()];
    let browsers = world.options.wallet_browsers.then(|| browsers.run());
    servers.extend(browsers.as_ref().map(actix_web::dev::Server::handle));
    if let Some((path, writes)) = run.writes {
        actix_web::rt::spawn(write(world.clone(), path, writes));
    }
    notices::resume(&world);
    actix_web::rt::spawn(notices::run(world, run.client, run.queue));
    let _ = run.started.send(Ok(servers));
    let browsers = async {
        if let Some(server) = browsers {
            let _ = server.await;
        }
    };
    let (served, ()) = futures_util::future::join(api, browsers).await;
    if let Err(error) = served {
        tracing::error!(%error, "the simulator's server failed");
    }
}

/// Writes the whole books, once for everybody who waits; a rename makes each write all or nothing.
async fn write(
    world: Arc<World>,
    path: PathBuf,
    mut writes: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
) {
    let beside = path.with_extension("tmp");
    while let Some(first) = writes.recv().await {
        let mut waiting = vec![first];
        while let Ok(more) = writes.try_recv() {
            waiting.push(more);
        }
        let text = serde_json::to_vec(&*world.books());
        let written = text.map_err(std::io::Error::other).and_then(|bytes| {
            std::fs::write(&beside, bytes)?;
            std::fs::rename(&beside, &path)
        });
        if let Err(error) = written {
            tracing::error!(%error, "the simulator's books could not be written");
        }
        for waiter in waiting {
            let _ = waiter.send(());
        }
    }
}

fn routes(config: &mut web::ServiceConfig) {
    config
        .service(web::resource("/v3/{tail:.*}").to(wechatpay::api::serve))
        .route(
            "/connect/oauth2/authorize",
            web::get().to(wechatpay::oauth::authorize),
        )
        .route(
            "/sns/oauth2/access_token",
            web::get().to(wechatpay::oauth::access_token),
        )
        .route(
            "/cgi-bin/mmpayweb-bin/checkmweb",
            web::get().to(wallet::pages::h5_cashier),
        )
        .service(web::resource("/gateway.do").to(alipay::gateway::serve))
        .route(alipay::BILL_FILE_PATH, web::get().to(alipay::bill_file))
        .route(
            "/oauth2/publicAppAuthorize.htm",
            web::get().to(alipay::oauth::authorize),
        )
        .configure(wallet::routes)
        .configure(control::routes)
        .default_service(web::to(HttpResponse::NotFound));
}
