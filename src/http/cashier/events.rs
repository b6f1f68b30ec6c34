//! `GET /pay/{token}/events`: the state as it changes. Each `state` event carries the order's version
//! as its id; a `beat` every ten seconds carries the remaining time, and is how a client that left is
//! noticed at all.

use std::time::Duration;

use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, Responder as _, web};
use actix_web_lab::sse::{Data, Event, Sse};
use futures_util::stream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::page::{find, panel_for};
use super::panel::Panel;
use super::streams::Open;
use super::visitor::Visitor;
use crate::http::Deps;
use crate::http::edge::ClientAddress;
use crate::http::problem::Problem;
use crate::order::OrderId;

const BEAT: Duration = Duration::from_secs(10);
/// A page that was thrown out comes back after three to five seconds, not all at once.
const RETRY_MS: (u64, u64) = (3_000, 2_000);

struct Listener {
    deps: web::Data<Deps>,
    visitor: Visitor,
    order: OrderId,
    watch: watch::Receiver<u64>,
    open: Open,
    /// What the client knows.
    sent: Option<Panel>,
    next_beat: Instant,
    over: bool,
}

/// The handler.
pub async fn get(
    request: HttpRequest,
    path: web::Path<String>,
    deps: web::Data<Deps>,
) -> Result<HttpResponse, Problem> {
    let visitor = Visitor::of(&request, &deps);
    let stored = find(&deps, &path).await?;
    let order = stored.order.id;
    let address = request
        .extensions()
        .get::<ClientAddress>()
        .map(|client| client.0);
    let limits = &deps.settings.limits;
    let Some(open) = deps.streams.open(
        order,
        address,
        limits.streams_per_order,
        limits.streams_per_address,
    ) else {
        // 204 ends an EventSource for good: the page asks now and then instead.
        return Ok(HttpResponse::NoContent().finish());
    };
    let retry = Duration::from_millis(RETRY_MS.0 + deps.random.below(RETRY_MS.1));
    let listener = Listener {
        watch: deps.orders.watch(order),
        visitor,
        order,
        open,
        sent: None,
        next_beat: Instant::now(),
        over: false,
        deps,
    };
    let events = stream::unfold(listener, |mut listener| async move {
        let event = listener.next().await?;
        Some((event, listener))
    });
    let mut response = Sse::from_infallible_stream(events)
        .with_retry_duration(retry)
        .respond_to(&request)
        .map_into_boxed_body();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
    Ok(response)
}

enum Woken {
    Stopping,
    Evicted,
    Changed,
    /// Nobody announces any more: listen anew.
    Deaf,
    Beat,
}

impl Listener {
    async fn next(&mut self) -> Option<Event> {
        if self.over {
            return None;
        }
        if self.sent.is_none() {
            self.watch.borrow_and_update();
            return self.look(true).await;
        }
        loop {
            let woken = tokio::select! {
                biased;
                () = self.open.closing.cancelled() => Woken::Stopping,
                () = self.open.evicted.cancelled() => Woken::Evicted,
                changed = self.watch.changed() => {
                    if changed.is_ok() { Woken::Changed } else { Woken::Deaf }
                }
                () = sleep_until(self.next_beat) => Woken::Beat,
            };
            match woken {
                Woken::Stopping => return None,
                Woken::Evicted => {
                    self.over = true;
                    return Some(Data::new("{}").event("poll").into());
                }
                Woken::Changed => {
                    self.watch.borrow_and_update();
                    if let Some(event) = self.look(false).await {
                        return Some(event);
                    }
                }
                Woken::Deaf => {
                    sleep(Duration::from_millis(200)).await;
                    self.watch = self.deps.orders.watch(self.order);
                }
                Woken::Beat => return self.look(true).await,
            }
        }
    }

    /// The state where it differs from what was sent, else a beat where one is due.
    async fn look(&mut self, beat: bool) -> Option<Event> {
        // What cannot be read now may be readable at the next beat.
        let stored = self.deps.orders.read(self.order).await.ok().flatten();
        self.next_beat = Instant::now() + BEAT;
        let Some(stored) = stored else {
            return beat.then(|| Event::Comment("waiting".into()));
        };
        let panel = panel_for(&self.deps, &self.visitor, &stored);
        if let Some(again) = panel.again_ms.and_then(|again| u64::try_from(again).ok()) {
            let again = Instant::now() + Duration::from_millis(again + 20);
            self.next_beat = self.next_beat.min(again);
        }
        let remaining_ms = panel.remaining_ms;
        let is_news = self
            .sent
            .as_ref()
            .is_none_or(|sent| !sent.says_the_same(&panel));
        let older = self
            .sent
            .as_ref()
            .is_some_and(|sent| sent.version > panel.version);
        if is_news && !older {
            let id = panel.version.to_string();
            let data = serde_json::to_string(&panel).unwrap_or_default();
            self.sent = Some(panel);
            return Some(Data::new(data).event("state").id(id).into());
        }
        beat.then(|| {
            let data = serde_json::json!({ "remaining_ms": remaining_ms }).to_string();
            Data::new(data).event("beat").into()
        })
    }
}
