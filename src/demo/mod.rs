//! The demo enrolment system: a merchant like any other. It knows of the gateway what its published
//! contract says and shares no code with it: it signs its own requests ([`gateway`]), verifies the
//! webhooks it receives ([`receive`]), and shows a candidate's page ([`pages`]) in the words of the
//! 自学考试 manual. [`state`] is what it remembers, over restarts too.

mod gateway;
mod pages;
mod receive;
mod state;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use actix_web::dev::ServerHandle;
use actix_web::middleware::DefaultHeaders;
use actix_web::{App, HttpServer, web};
use secrecy::SecretString;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::random::Random;

use gateway::Gateway;
use state::State;

/// What a school's system is given when it is connected to the gateway.
#[derive(Clone, Debug)]
pub struct Options {
    pub listen: SocketAddr,
    /// Where the merchant API is, such as `http://127.0.0.1:8080`.
    pub gateway_url: String,
    pub key_id: String,
    pub secret: SecretString,
    pub webhook_secret: SecretString,
    /// Keeps registrations and notices over a restart; in memory only where there is none.
    pub state_file: Option<PathBuf>,
}

/// Why the demo does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the demo cannot listen on {listen}: {error}")]
    Listen {
        listen: SocketAddr,
        error: std::io::Error,
    },
    #[error("gateway_url: expected an http(s) address")]
    GatewayUrl,
    #[error("webhook_secret: expected \"whsec_\" and standard Base64")]
    WebhookSecret,
    #[error("the demo's HTTP client cannot be made: {0}")]
    Client(#[from] reqwest::Error),
    #[error("the demo's state file {} cannot be read: {why}; move it away to start anew", path.display())]
    StateFile { path: PathBuf, why: String },
}

/// A running demo.
#[derive(Debug)]
pub struct Demo {
    address: SocketAddr,
    server: ServerHandle,
    task: JoinHandle<std::io::Result<()>>,
}

impl Demo {
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends open connections gracefully.
    pub async fn stop(self) {
        self.server.stop(true).await;
        if let Ok(Err(error)) = self.task.await {
            tracing::warn!(%error, "the demo ended with an error");
        }
    }
}

/// What every page may use.
struct School {
    gateway: Gateway,
    webhook_key: receive::Key,
    state_file: Option<PathBuf>,
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl fmt::Debug for School {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("School")
    }
}

/// Notices carry whole orders of up to 200 items.
const BODY_BYTES_MAX: usize = 512 * 1024;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Starts the demo on the current tokio runtime.
#[expect(
    clippy::unused_async,
    reason = "it needs a running tokio runtime, which a plain function would hide"
)]
pub async fn start(
    options: Options,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
) -> Result<Demo, StartError> {
    let webhook_key =
        receive::Key::parse(&options.webhook_secret).ok_or(StartError::WebhookSecret)?;
    let gateway = Gateway::new(
        &options.gateway_url,
        options.key_id,
        options.secret,
        clock.clone(),
        random.clone(),
    )?;
    let mut state = match &options.state_file {
        Some(path) => State::load(path).map_err(|why| StartError::StateFile {
            path: path.clone(),
            why,
        })?,
        None => State::default(),
    };
    if state.newest().is_none() {
        state.register(clock.now().as_millis(), &*random);
    }
    let school = web::Data::new(School {
        gateway,
        webhook_key,
        state_file: options.state_file,
        state: Mutex::new(state),
        clock,
        random,
    });
    let listen = options.listen;
    let refused = |error| StartError::Listen { listen, error };
    let server = HttpServer::new(move || {
        App::new()
            .app_data(school.clone())
            .app_data(web::PayloadConfig::new(BODY_BYTES_MAX))
            .wrap(
                DefaultHeaders::new()
                    .add(("Content-Security-Policy", POLICY))
                    .add(("X-Content-Type-Options", "nosniff"))
                    .add(("Referrer-Policy", "strict-origin-when-cross-origin"))
                    .add(("Cache-Control", "no-store")),
            )
            .configure(pages::routes)
    })
    .workers(1)
    .disable_signals()
    .shutdown_timeout(2)
    .bind(listen)
    .map_err(refused)?;
    let address = server.addrs().first().copied().unwrap_or(listen);
    let server = server.run();
    let handle = server.handle();
    let task = tokio::spawn(server);
    Ok(Demo {
        address,
        server: handle,
        task,
    })
}
