//! The demo enrolment systems: three schools, merchants like any other, each in the steps of its own
//! manual: [`selfstudy`] (an examination office, one three-minute code), [`tuition`] (a university that
//! uploads bills) and [`language`] (an examination paid on the phone it was registered with). They know of
//! the gateway what its published contract says and share no code with it: they sign their own requests
//! ([`gateway`]), verify the webhooks they receive ([`receive`]), and remember over restarts ([`desk`]).

mod desk;
mod gateway;
mod inbox;
mod language;
mod page;
mod receive;
mod selfstudy;
mod tuition;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use actix_web::dev::ServerHandle;
use actix_web::middleware::{DefaultHeaders, from_fn};
use actix_web::{App, HttpResponse, HttpServer, web};
use askama::Template;
use secrecy::SecretString;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::random::Random;

use desk::{Books, Desk};

/// What a school's system is given when it is connected to the gateway.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub key_id: String,
    pub secret: SecretString,
    pub webhook_secret: SecretString,
}

/// One of the schools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum School {
    /// 自学考试: one payment for a registration.
    SelfStudy,
    /// 学费: bills that are ticked and paid together.
    Tuition,
    /// 学位外语考试: registered and paid on one phone, by the candidate alone.
    Language,
}

impl School {
    pub const ALL: [Self; 3] = [Self::SelfStudy, Self::Tuition, Self::Language];

    /// The path of its webhook.
    pub const fn webhook(self) -> &'static str {
        match self {
            Self::SelfStudy => "/webhook",
            Self::Tuition => "/tuition/webhook",
            Self::Language => "/language/webhook",
        }
    }

    const fn file(self) -> &'static str {
        match self {
            Self::SelfStudy => "demo-school.json",
            Self::Tuition => "demo-tuition.json",
            Self::Language => "demo-language.json",
        }
    }
}

/// How the demo is started.
#[derive(Clone, Debug)]
pub struct Options {
    pub listen: SocketAddr,
    /// Where the merchant API is, such as `http://127.0.0.1:8080`.
    pub gateway_url: String,
    /// The schools that are open, each at most once.
    pub schools: Vec<(School, Credentials)>,
    /// Keeps what the schools know over a restart; in memory only where there is none.
    pub folder: Option<PathBuf>,
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

/// Notices carry whole orders of up to 200 items.
const BODY_BYTES_MAX: usize = 512 * 1024;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The schools that are open, as their pages share them.
#[derive(Clone, Default)]
struct Desks {
    selfstudy: Option<web::Data<Desk<selfstudy::Registrations>>>,
    tuition: Option<web::Data<Desk<tuition::Ledger>>>,
    language: Option<web::Data<Desk<language::Applications>>>,
}

impl Desks {
    fn routes(&self, config: &mut web::ServiceConfig) {
        if let Some(desk) = &self.selfstudy {
            config.app_data(desk.clone()).configure(selfstudy::routes);
        }
        if let Some(desk) = &self.tuition {
            config.app_data(desk.clone()).configure(tuition::routes);
        }
        if let Some(desk) = &self.language {
            config.app_data(desk.clone()).configure(language::routes);
        }
        let open = Open {
            selfstudy: self.selfstudy.is_some(),
            tuition: self.tuition.is_some(),
            language: self.language.is_some(),
        };
        config
            .app_data(web::Data::new(open))
            .route("/", web::get().to(hub))
            .configure(page::routes)
            .default_service(web::to(async || missing()));
    }
}

/// Which doors the first page has.
#[derive(Clone, Copy)]
struct Open {
    selfstudy: bool,
    tuition: bool,
    language: bool,
}

#[derive(Template)]
#[template(path = "demo/hub.html")]
struct Hub {
    open: Open,
}

async fn hub(open: web::Data<Open>) -> HttpResponse {
    page::page(200, &Hub { open: **open })
}

#[derive(Template)]
#[template(path = "demo/missing.html")]
struct Missing;

fn missing() -> HttpResponse {
    page::page(404, &Missing)
}

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
    let mut desks = Desks::default();
    for (school, credentials) in &options.schools {
        let opening = Opening {
            options: &options,
            school: *school,
            credentials,
            clock: &clock,
            random: &random,
        };
        match school {
            School::SelfStudy => desks.selfstudy = Some(opening.desk()?),
            School::Tuition => desks.tuition = Some(opening.desk()?),
            School::Language => desks.language = Some(opening.desk()?),
        }
    }
    let listen = options.listen;
    let refused = |error| StartError::Listen { listen, error };
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::PayloadConfig::new(BODY_BYTES_MAX))
            .wrap(from_fn(page::own_buttons))
            .wrap(
                DefaultHeaders::new()
                    .add(("Content-Security-Policy", POLICY))
                    .add(("X-Content-Type-Options", "nosniff"))
                    .add(("Referrer-Policy", "strict-origin-when-cross-origin"))
                    .add(("Cache-Control", "no-store")),
            )
            .configure(|config| desks.routes(config))
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

struct Opening<'a> {
    options: &'a Options,
    school: School,
    credentials: &'a Credentials,
    clock: &'a Arc<dyn Clock>,
    random: &'a Arc<dyn Random>,
}

impl Opening<'_> {
    fn desk<B: Books>(&self) -> Result<web::Data<Desk<B>>, StartError> {
        let folder = self.options.folder.as_ref();
        let desk = Desk::open(
            &self.options.gateway_url,
            self.credentials,
            folder.map(|folder| folder.join(self.school.file())),
            self.clock,
            self.random,
        )?;
        Ok(web::Data::new(desk))
    }
}
