//! Commands beside a running node: over its Unix socket where it runs, in the store itself where it
//! does not. A second process may not open the embedded file, so there is no third way.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use actix_web::{App, HttpResponse, HttpServer, web};
use serde_json::{Value, json};

use super::AppError;
use crate::config::Config;
use crate::operations::{Operation, OperationError, Operations};

/// Runs one operation, wherever the store can be reached.
pub fn run(config: &Config, operation: Operation) -> Result<Value, AppError> {
    actix_web::rt::System::new().block_on(async {
        let socket = config.admin_socket();
        if socket.exists() {
            match send(&socket, &operation).await {
                Err(AppError::NoNode) => {}
                answered => return answered,
            }
        }
        let operations = super::open_operations(config)?;
        let answer = operations.run(operation).await;
        operations.store.close().await;
        Ok(answer?)
    })
}

async fn send(socket: &Path, operation: &Operation) -> Result<Value, AppError> {
    let client = reqwest::Client::builder()
        .unix_socket(socket)
        .timeout(patience(operation))
        .build()
        .map_err(|error| AppError::Socket(error.to_string()))?;
    let answer = client
        .post("http://node/operations")
        .json(operation)
        .send()
        .await
        .map_err(|error| {
            if error.is_connect() {
                // Left behind by a node that was killed: the store is free.
                AppError::NoNode
            } else {
                AppError::Socket(error.to_string())
            }
        })?;
    let status = answer.status();
    let body: Value = answer
        .json()
        .await
        .map_err(|error| AppError::Socket(error.to_string()))?;
    let error = || body["error"].as_str().unwrap_or_default().to_owned();
    match status.as_u16() {
        200..=299 => Ok(body),
        503 => Err(AppError::Later(error())),
        _ => Err(AppError::Node(error())),
    }
}

/// How long the node may take.
const fn patience(operation: &Operation) -> std::time::Duration {
    match operation {
        // A provider sends a large day's bill in minutes.
        Operation::Reconcile { .. } => std::time::Duration::from_mins(15),
        _ => std::time::Duration::from_secs(30),
    }
}

/// Who speaks on a connection.
#[derive(Clone, Copy, Debug)]
struct Peer {
    user: Option<u32>,
}

/// Listens on the socket of this node; only its own user may speak to it.
pub(super) fn listen(
    socket: &Path,
    operations: Operations,
) -> Result<actix_web::dev::Server, AppError> {
    let failed = |error: std::io::Error| AppError::Listen {
        key: "admin.socket",
        address: socket.display().to_string(),
        why: error.to_string(),
    };
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let operations = Arc::new(operations);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::from(Arc::clone(&operations)))
            .app_data(web::JsonConfig::default().limit(64 * 1024))
            .route("/operations", web::post().to(operate))
    })
    .on_connect(|connection, extensions| {
        let user = connection
            .downcast_ref::<actix_web::rt::net::UnixStream>()
            .and_then(|stream| stream.peer_cred().ok())
            .map(|peer| peer.uid());
        extensions.insert(Peer { user });
    })
    .workers(1)
    .disable_signals()
    .bind_uds(socket)
    .map_err(failed)?
    .run();
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(server)
}

async fn operate(
    operations: web::Data<Operations>,
    request: actix_web::HttpRequest,
    operation: web::Json<Operation>,
) -> HttpResponse {
    let user = request.conn_data::<Peer>().and_then(|peer| peer.user);
    let operation = operation.into_inner();
    let name = operation_name(&operation);
    let outcome = operations.run(operation).await;
    tracing::info!(
        operation = name,
        user,
        done = outcome.is_ok(),
        "an operator's command"
    );
    match outcome {
        Ok(answer) => HttpResponse::Ok().json(answer),
        Err(error) => {
            let body = json!({ "error": error.to_string() });
            match error {
                OperationError::Store(_) => HttpResponse::ServiceUnavailable().json(body),
                OperationError::Reconcile(error) if error.is_passing() => {
                    HttpResponse::ServiceUnavailable().json(body)
                }
                _ => HttpResponse::BadRequest().json(body),
            }
        }
    }
}

const fn operation_name(operation: &Operation) -> &'static str {
    match operation {
        Operation::MerchantCreate { .. } => "merchant create",
        Operation::MerchantSet { .. } => "merchant set",
        Operation::MerchantList => "merchant list",
        Operation::MerchantRotateKey { .. } => "merchant rotate-key",
        Operation::EventList { .. } => "event list",
        Operation::EventResend { .. } => "event resend",
        Operation::Reconcile { .. } => "reconcile",
    }
}
