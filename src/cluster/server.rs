//! `cluster.listen`: what other nodes may ask of this one, and nothing else. Whoever does not prove that
//! it is one of them gets 401 and no word; whoever does and is refused all the same is told so with our
//! proof, and knows that nothing was begun.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes, Payload};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::auth::{PROOF, Refused, Stamp};
use super::messages::{
    Answered, BODY_LIMIT, CHANGED, Made, NEWS, NewsItem, ORDERS, Told, WATCH, Watched,
};
use super::peers::{Inner, Peers};
use crate::actors::{NewOrder, Orders, OrdersError};
use crate::order::OrderId;

/// A request's head must be here within this.
const HEAD: Duration = Duration::from_secs(5);
/// And its body within this.
const BODY: Duration = Duration::from_secs(5);
/// Longer than the others keep an idle connection, so that it is they who close it.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const CONNECTIONS_PER_WORKER: usize = 2_048;

impl Peers {
    /// Serves the other nodes on `listener`.
    pub fn serve(&self, listener: TcpListener, workers: usize) -> std::io::Result<Server> {
        let inner = web::Data::from(Arc::clone(&self.0));
        let app = move || {
            App::new()
                .app_data(inner.clone())
                .route(ORDERS, web::post().to(create))
                .route("/orders/{id}/commands", web::post().to(command))
                .route(WATCH, web::post().to(watch))
                .route(NEWS, web::post().to(news))
                .route(CHANGED, web::post().to(changed))
                .default_service(web::to(HttpResponse::NotFound))
        };
        let server = HttpServer::new(app)
            .workers(workers.max(1))
            .client_request_timeout(HEAD)
            .client_disconnect_timeout(Duration::from_secs(1))
            .keep_alive(KEEP_ALIVE)
            .max_connections(CONNECTIONS_PER_WORKER)
            .shutdown_timeout(2)
            .disable_signals()
            .listen(listener)?;
        Ok(server.run())
    }
}

/// A request of another node.
struct Heard<T> {
    inner: Arc<Inner>,
    orders: Orders,
    stamp: Stamp,
    message: T,
    until: Instant,
}

impl<T: DeserializeOwned> Heard<T> {
    async fn of(request: &HttpRequest, payload: Payload) -> Result<Self, HttpResponse> {
        let began = Instant::now();
        let inner = request.app_data::<web::Data<Inner>>();
        let inner = inner.ok_or_else(|| HttpResponse::Unauthorized().finish())?;
        let inner = Arc::clone(inner);
        let (stamp, body) = match inner.let_in(request, payload, began).await {
            Ok(let_in) => let_in,
            Err((stamp, refused)) => return Err(inner.refuse(stamp, refused)),
        };
        let heard = inner.orders().zip(serde_json::from_slice(&body).ok());
        let Some((orders, message)) = heard else {
            return Err(inner.refuse(Some(stamp), Refused::Unreadable));
        };
        Ok(Self {
            inner,
            orders,
            stamp,
            message,
            until: began + Duration::from_millis(stamp.remaining_ms),
        })
    }

    fn answer(&self, message: &impl Serialize) -> HttpResponse {
        match serde_json::to_vec(message) {
            Ok(body) => self.inner.answer(&self.stamp, StatusCode::OK, body),
            // Without a proof it is no answer, which is what the caller must take it for.
            Err(_) => HttpResponse::InternalServerError().finish(),
        }
    }
}

impl Inner {
    /// The stamp of a refused one is there where it has proven who it is.
    async fn let_in(
        &self,
        request: &HttpRequest,
        payload: Payload,
        began: Instant,
    ) -> Result<(Stamp, Bytes), (Option<Stamp>, Refused)> {
        let nobody = |refused| (None, refused);
        let header = |name: &'static str| request.headers().get(name)?.to_str().ok();
        let stamp = Stamp::read(header).ok_or(nobody(Refused::Malformed))?;
        let proof = header(PROOF).ok_or(nobody(Refused::Malformed))?;
        if !self.door.is_timely(&stamp) {
            return Err(nobody(Refused::Stale));
        }
        let body = payload.to_bytes_limited(BODY_LIMIT);
        let body = match tokio::time::timeout(BODY, body).await {
            Ok(Ok(Ok(body))) => body,
            Ok(Err(_)) => return Err(nobody(Refused::TooLarge)),
            Ok(Ok(Err(_))) | Err(_) => return Err(nobody(Refused::Broken)),
        };
        let (method, path) = (request.method().as_str(), request.path());
        let waited = began.elapsed();
        let let_in = self.door.let_in(method, path, &stamp, &body, proof, waited);
        match let_in {
            Ok(()) => Ok((stamp, body)),
            Err(refused) => {
                let is_known = matches!(
                    refused,
                    Refused::Receiver | Refused::TooLate | Refused::Full
                );
                Err((is_known.then_some(stamp), refused))
            }
        }
    }

    fn refuse(&self, stamp: Option<Stamp>, refused: Refused) -> HttpResponse {
        let reason = refused.reason();
        metrics::counter!("enrollpay_peer_refused_total", "reason" => reason).increment(1);
        tracing::warn!(reason, "a request to the cluster's listener was refused");
        let Some(stamp) = stamp else {
            return HttpResponse::Unauthorized().force_close().finish();
        };
        let status = match refused {
            Refused::Receiver => StatusCode::MISDIRECTED_REQUEST,
            Refused::TooLate => StatusCode::GATEWAY_TIMEOUT,
            Refused::Full => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        };
        self.answer(&stamp, status, Vec::new())
    }

    fn answer(&self, stamp: &Stamp, status: StatusCode, body: Vec<u8>) -> HttpResponse {
        let proof = self.key.prove_answer(stamp, status.as_u16(), &body);
        HttpResponse::build(status)
            .insert_header((PROOF, proof))
            .content_type("application/json")
            .body(body)
    }
}

/// Decides a command as the owner of its order. The one hop is taken: it goes no further.
async fn command(request: HttpRequest, payload: Payload) -> HttpResponse {
    let heard = match Heard::<Told>::of(&request, payload).await {
        Ok(heard) => heard,
        Err(refused) => return refused,
    };
    let id = request
        .match_info()
        .get("id")
        .and_then(|id| id.parse::<OrderId>().ok());
    let Some(id) = id else {
        return heard.inner.refuse(Some(heard.stamp), Refused::Unreadable);
    };
    let Told { asking, request } = heard.message.clone();
    let told = heard.orders.tell_as_owner(id, request, asking);
    let answered: Answered = match tokio::time::timeout_at(heard.until, told).await {
        Ok(answered) => answered,
        Err(_) => Err(OrdersError::ActorLost),
    };
    heard.answer(&answered)
}

/// Makes an order as its owner.
async fn create(request: HttpRequest, payload: Payload) -> HttpResponse {
    let heard = match Heard::<NewOrder>::of(&request, payload).await {
        Ok(heard) => heard,
        Err(refused) => return refused,
    };
    let made = heard.orders.create_as_owner(heard.message.clone());
    let made: Made = match tokio::time::timeout_at(heard.until, made).await {
        Ok(made) => made.map(Arc::unwrap_or_clone),
        Err(_) => Err(OrdersError::ActorLost),
    };
    heard.answer(&made)
}

async fn watch(request: HttpRequest, payload: Payload) -> HttpResponse {
    match Heard::<Watched>::of(&request, payload).await {
        Ok(heard) => {
            let (inner, from) = (&heard.inner, heard.stamp.from);
            inner.subscribe(&heard.orders, from, &heard.message);
            heard.answer(&())
        }
        Err(refused) => refused,
    }
}

async fn news(request: HttpRequest, payload: Payload) -> HttpResponse {
    match Heard::<Vec<NewsItem>>::of(&request, payload).await {
        Ok(heard) => {
            let (inner, from) = (&heard.inner, heard.stamp.from);
            inner.hear_news(&heard.orders, from, &heard.message);
            heard.answer(&())
        }
        Err(refused) => refused,
    }
}

async fn changed(request: HttpRequest, payload: Payload) -> HttpResponse {
    match Heard::<()>::of(&request, payload).await {
        Ok(heard) => {
            heard.inner.nudge();
            heard.answer(&())
        }
        Err(refused) => refused,
    }
}
