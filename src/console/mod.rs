//! The operators' console: pages for the people who answer the phone and settle what no program may
//! decide. `edge` is what every request passes, `visitor` who is there, `page` what every page has; each
//! of the others is one page with its buttons. Whatever changes something goes through
//! [`crate::operations`], like the same command on the command line, and is written down there.

mod audit;
mod edge;
mod events;
mod history;
mod home;
mod login;
mod money;
mod order;
mod page;
mod reconciliations;
mod search;
mod settle;
mod visitor;
mod why;
mod words;

use std::fmt;
use std::sync::Arc;

use actix_web::{HttpResponse, middleware, web};
use ipnet::IpNet;

use crate::http::limits::Limiters;
use crate::operations::Operations;
use crate::view::View;

/// Logins, by what came of them.
const LOGINS: &str = "enrollpay_console_logins_total";

/// What the pages work with.
#[derive(Clone)]
pub struct Console {
    pub operations: Operations,
    pub view: Arc<View>,
    pub limiters: Limiters,
    /// What `Host` may be.
    pub hosts: Vec<String>,
    pub trusted_proxies: Vec<IpNet>,
}

impl fmt::Debug for Console {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Console").finish_non_exhaustive()
    }
}

impl Console {
    const fn zone(&self) -> crate::http::cashier::times::Zone {
        crate::http::cashier::times::Zone::new(self.operations.zone_minutes)
    }
}

/// All of its addresses. Hand a clone to each worker.
pub fn routes(console: Console) -> impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static {
    let console = web::Data::new(console);
    move |config| {
        let (get, post) = (web::get, web::post);
        let pages = web::scope("")
            .route("/", get().to(home::get))
            .route("/login", get().to(login::get))
            .route("/login", post().to(login::post))
            .route("/logout", post().to(login::leave))
            .route("/search", get().to(search::get))
            .route("/search", post().to(search::post))
            .route("/orders/{id}", get().to(order::get))
            .route("/orders/{id}/odd/{number}", get().to(settle::get))
            .route("/orders/{id}/odd/{number}", post().to(settle::post))
            .route("/orders/{id}/events/{event}", post().to(events::post))
            .route("/orders/{id}/refunds/{refund}", post().to(money::retry))
            .route(
                "/evidence/{account}/{reference:.+}",
                get().to(settle::evidence),
            )
            .route(
                "/evidence/{account}/{reference:.+}",
                post().to(settle::settle_evidence),
            )
            .route("/reconciliations", get().to(reconciliations::list))
            .route("/reconciliations", post().to(reconciliations::run))
            .route(
                "/reconciliations/{account}/{date}",
                get().to(reconciliations::day),
            )
            .route("/audit", get().to(audit::get))
            .route("/console.css", get().to(style))
            .route("/icon.svg", get().to(icon))
            .default_service(web::route().to(visitor::nowhere))
            .wrap(middleware::from_fn(edge::edge));
        config.app_data(console.clone()).service(pages);
    }
}

async fn style() -> HttpResponse {
    file(
        "text/css; charset=utf-8",
        include_bytes!("../../static/console.css"),
    )
}

async fn icon() -> HttpResponse {
    file("image/svg+xml", include_bytes!("../../static/icon.svg"))
}

/// The only answers that a browser may keep.
fn file(media_type: &'static str, bytes: &'static [u8]) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(media_type)
        .insert_header(("Cache-Control", "private, max-age=3600"))
        .body(bytes)
}
