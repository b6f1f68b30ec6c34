//! Commands beside a running node: over its Unix socket where it runs, in the store itself where it
//! does not. A second process may not open the embedded file, so there is no third way.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use actix_web::{App, HttpResponse, HttpServer, web};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::AppError;
use crate::config::Config;
use crate::operations::{Operation, OperationError, Operations, Operator};

/// What travels over the socket.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instruction {
    /// The person's name, where the login name does not tell.
    pub operator: Option<String>,
    pub operation: Operation,
}

/// Runs one operation, wherever the store can be reached.
pub fn run(config: &Config, instruction: Instruction) -> Result<Value, AppError> {
    actix_web::rt::System::new().block_on(async {
        let socket = config.admin_socket();
        if socket.exists() {
            match send(&socket, &instruction).await {
                Err(AppError::NoNode) => {}
                answered => return answered,
            }
        }
        let operator = Operator::of(own_user(), instruction.operator.as_deref())?;
        let operations = super::open_operations(config).await?;
        let answer = operations.run(&operator, instruction.operation).await;
        operations.store.close().await;
        Ok(answer?)
    })
}

/// Who runs this process.
pub(super) fn own_user() -> u32 {
    rustix::process::getuid().as_raw()
}

async fn send(socket: &Path, instruction: &Instruction) -> Result<Value, AppError> {
    let client = reqwest::Client::builder()
        .unix_socket(socket)
        .timeout(patience(&instruction.operation))
        .build()
        .map_err(|error| AppError::Socket(error.to_string()))?;
    let answer = client
        .post("http://node/operations")
        .json(instruction)
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
    // Bound here: of a listener that it binds itself, actix says nobody's connections.
    let listener = UnixListener::bind(socket).map_err(failed)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
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
    .listen_uds(listener)
    .map_err(failed)?
    .run();
    Ok(server)
}

async fn operate(
    operations: web::Data<Operations>,
    request: actix_web::HttpRequest,
    instruction: web::Json<Instruction>,
) -> HttpResponse {
    let user = request.conn_data::<Peer>().and_then(|peer| peer.user);
    let Instruction {
        operator,
        operation,
    } = instruction.into_inner();
    let name = operation.name();
    let outcome = match user.map(|user| Operator::of(user, operator.as_deref())) {
        Some(Ok(by)) => operations.run(&by, operation).await,
        Some(Err(error)) => Err(error),
        None => Err(OperationError::State(
            "the kernel does not say who is at the other end of the socket",
        )),
    };
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
                OperationError::Store(_) | OperationError::Unanswered(_) => {
                    HttpResponse::ServiceUnavailable().json(body)
                }
                OperationError::Reconcile(error) if error.is_passing() => {
                    HttpResponse::ServiceUnavailable().json(body)
                }
                _ => HttpResponse::BadRequest().json(body),
            }
        }
    }
}
