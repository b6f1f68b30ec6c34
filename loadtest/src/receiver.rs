//! Where the gateway's webhooks come, checked as a merchant has to check them (Standard Webhooks); and,
//! where the run asks for it, where the providers' notices come first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::sync::oneshot;

/// A provider's notice as it came.
#[derive(Clone, Debug)]
pub struct Notice {
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

#[derive(Default)]
struct Shared {
    key: OnceLock<hmac::Key>,
    /// Orders whose payment somebody waits for.
    waiting: Mutex<HashMap<String, oneshot::Sender<()>>>,
    notice: Mutex<Option<oneshot::Sender<Notice>>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Shared")
    }
}

/// A listening receiver; it ends with this process.
#[derive(Clone, Debug)]
pub struct Receiver {
    origin: Arc<str>,
    shared: Arc<Shared>,
}

impl Receiver {
    /// Listens on a free port, on a thread of its own.
    pub fn start() -> std::io::Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let origin = format!("http://{}", listener.local_addr()?).into();
        let shared = Arc::new(Shared::default());
        let data = web::Data::from(Arc::clone(&shared));
        std::thread::Builder::new()
            .name("receiver".to_owned())
            .spawn(move || serve(listener, &data))?;
        Ok(Self { origin, shared })
    }

    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// What signatures are checked with from now on: `whsec_…`, as it was printed.
    pub fn believe(&self, secret: &str) -> Result<(), &'static str> {
        let bytes = secret
            .strip_prefix("whsec_")
            .and_then(|encoded| STANDARD.decode(encoded).ok())
            .ok_or("webhook_secret: expected whsec_ and Base64")?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
        self.shared
            .key
            .set(key)
            .map_err(|_| "one receiver serves one merchant")
    }

    /// Resolves once a signed `order.paid` names this order. Ask before it can be paid.
    pub fn paid(&self, order: &str) -> oneshot::Receiver<()> {
        let (sender, paid) = oneshot::channel();
        lock(&self.shared.waiting).insert(order.to_owned(), sender);
        paid
    }

    /// The next provider notice. It is not acknowledged here.
    pub fn notice(&self) -> oneshot::Receiver<Notice> {
        let (sender, notice) = oneshot::channel();
        *lock(&self.shared.notice) = Some(sender);
        notice
    }
}

fn serve(listener: std::net::TcpListener, data: &web::Data<Shared>) -> std::io::Result<()> {
    let data = data.clone();
    actix_web::rt::System::new().block_on(async {
        HttpServer::new(move || {
            App::new()
                .app_data(data.clone())
                .route("/webhooks", web::post().to(webhook))
                .route("/callbacks/{tail:.*}", web::post().to(callback))
        })
        .workers(1)
        .disable_signals()
        .listen(listener)?
        .run()
        .await
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn webhook(
    request: HttpRequest,
    body: web::Bytes,
    shared: web::Data<Shared>,
) -> HttpResponse {
    if !genuine(&request, &body, &shared) {
        return HttpResponse::Unauthorized().finish();
    }
    let Ok(event) = serde_json::from_slice::<Value>(&body) else {
        return HttpResponse::BadRequest().finish();
    };
    if event["type"] == "order.paid"
        && let Some(order) = event["data"]["order"]["id"].as_str()
        && let Some(waiting) = lock(&shared.waiting).remove(order)
    {
        let _ = waiting.send(());
    }
    HttpResponse::NoContent().finish()
}

fn genuine(request: &HttpRequest, body: &[u8], shared: &Shared) -> bool {
    let header = |name: &str| request.headers().get(name)?.to_str().ok();
    let (Some(key), Some(id), Some(timestamp), Some(signatures)) = (
        shared.key.get(),
        header("webhook-id"),
        header("webhook-timestamp"),
        header("webhook-signature"),
    ) else {
        return false;
    };
    let mut signed = format!("{id}.{timestamp}.").into_bytes();
    signed.extend_from_slice(body);
    signatures
        .split(' ')
        .filter_map(|signature| STANDARD.decode(signature.strip_prefix("v1,")?).ok())
        .any(|tag| hmac::verify(key, &signed, &tag).is_ok())
}

async fn callback(
    request: HttpRequest,
    body: web::Bytes,
    shared: web::Data<Shared>,
) -> HttpResponse {
    if let Some(asked) = lock(&shared.notice).take() {
        let headers = request
            .headers()
            .iter()
            .filter(|(name, _)| !["host", "connection", "content-length"].contains(&name.as_str()))
            .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
            .collect();
        let _ = asked.send(Notice {
            path: request.path().to_owned(),
            headers,
            body: body.to_vec(),
        });
    }
    // Its provider comes again; the run delivers it to the gateway itself.
    HttpResponse::ServiceUnavailable().finish()
}
