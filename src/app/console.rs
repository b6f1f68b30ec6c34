//! The operators' console of this node.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::{App, HttpServer};

use super::AppError;
use super::demo_mode::free_or_any;
use super::node;
use crate::config::{Config, Mode};
use crate::console::{Console, routes};
use crate::http::limits::Limiters;
use crate::operations::{Operations, prepare_logins};
use crate::view::View;

const REQUEST_HEAD: Duration = Duration::from_secs(5);
const CONNECTIONS: usize = 256;

/// `console.listen`, where there is one. Two demos may run beside each other.
pub(super) fn listen(config: &Config) -> Result<Option<TcpListener>, AppError> {
    let Some(address) = config.console.listen else {
        return Ok(None);
    };
    let address = match config.mode {
        Mode::Demo => free_or_any(address),
        Mode::Production => address,
    };
    node::listen("console.listen", address).map(Some)
}

pub(super) fn serve(
    config: &Config,
    listener: TcpListener,
    operations: Operations,
    view: Arc<View>,
    limiters: Limiters,
) -> Result<Server, AppError> {
    // Takes a moment: not one of the first who gets a name wrong.
    std::thread::spawn(prepare_logins);
    let console = Console {
        operations,
        view,
        limiters,
        hosts: hosts(&config.console.hosts, node::local(&listener)?),
        trusted_proxies: config.server.trusted_proxies.clone(),
    };
    let configure = routes(console);
    let server = HttpServer::new(move || App::new().configure(configure.clone()))
        .workers(1)
        .client_request_timeout(REQUEST_HEAD)
        .max_connections(CONNECTIONS)
        .shutdown_timeout(1)
        .disable_signals()
        .listen(listener)
        .map_err(|error| AppError::Start(format!("console.listen: {error}")))?
        .run();
    Ok(server)
}

/// What is configured, and the address itself; one that stands for all is no name.
fn hosts(configured: &[String], address: SocketAddr) -> Vec<String> {
    let itself = (!address.ip().is_unspecified()).then(|| address.to_string());
    configured.iter().cloned().chain(itself).collect()
}
