//! The whole public surface on one page.

use std::fmt;

use actix_web::{Resource, Route, middleware, web};

use super::auth::Keys;
use super::limits::Limiters;
use super::merchant::bills::cancel::cancel_bill;
use super::merchant::bills::create::create_bills;
use super::merchant::bills::list::list_bills;
use super::merchant::bills::read::read_bill;
use super::merchant::cancel::cancel_order;
use super::merchant::create_order::create_order;
use super::merchant::create_refund::create_refund;
use super::merchant::fiscal_receipt::issue_fiscal_receipt;
use super::merchant::list_events::list_events;
use super::merchant::list_orders::list_orders;
use super::merchant::list_refunds::list_refunds;
use super::merchant::payer_links::create_payer_link;
use super::merchant::query::query_order;
use super::merchant::read_order::read_order;
use super::merchant::read_refund::read_refund;
use super::merchant::reconciliations::read_reconciliation;
use super::merchant::resend_event::resend_event;
use super::merchant::start_attempt::start_attempt;
use super::merchant::timeline::read_timeline;
use super::{
    Deps, assets, callbacks, cashier, docs, edge, openapi, problem, receipts, scan, well_known,
};

/// One address and what it answers to.
pub struct Address {
    pub path: &'static str,
    /// The `Allow` header of a 405.
    pub allow: &'static str,
    routes: Vec<Route>,
}

impl fmt::Debug for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.allow, self.path)
    }
}

fn address(path: &'static str, allow: &'static str, routes: Vec<Route>) -> Address {
    Address {
        path,
        allow,
        routes,
    }
}

/// What merchants ask, signed; every line of it stands in the OpenAPI description.
pub fn merchant_api() -> Vec<Address> {
    let (get, post) = (web::get, web::post);
    vec![
        address(
            "/v1/orders",
            "GET, POST",
            vec![get().to(list_orders), post().to(create_order)],
        ),
        address("/v1/orders/{id}", "GET", vec![get().to(read_order)]),
        address(
            "/v1/orders/{id}/attempts",
            "POST",
            vec![post().to(start_attempt)],
        ),
        address(
            "/v1/orders/{id}/query",
            "POST",
            vec![post().to(query_order)],
        ),
        address(
            "/v1/orders/{id}/cancel",
            "POST",
            vec![post().to(cancel_order)],
        ),
        address(
            "/v1/orders/{id}/refunds",
            "GET, POST",
            vec![get().to(list_refunds), post().to(create_refund)],
        ),
        address(
            "/v1/orders/{id}/refunds/{refund_id}",
            "GET",
            vec![get().to(read_refund)],
        ),
        address(
            "/v1/orders/{id}/fiscal_receipt",
            "POST",
            vec![post().to(issue_fiscal_receipt)],
        ),
        address(
            "/v1/orders/{id}/timeline",
            "GET",
            vec![get().to(read_timeline)],
        ),
        address(
            "/v1/reconciliations/{account}/{date}",
            "GET",
            vec![get().to(read_reconciliation)],
        ),
        address(
            "/v1/bills",
            "GET, POST",
            vec![get().to(list_bills), post().to(create_bills)],
        ),
        address("/v1/bills/{id}", "GET", vec![get().to(read_bill)]),
        address(
            "/v1/bills/{id}/cancel",
            "POST",
            vec![post().to(cancel_bill)],
        ),
        address(
            "/v1/payer_links",
            "POST",
            vec![post().to(create_payer_link)],
        ),
        address("/v1/events", "GET", vec![get().to(list_events)]),
        address(
            "/v1/events/{id}/resend",
            "POST",
            vec![post().to(resend_event)],
        ),
    ]
}

/// What anybody may read.
fn open_pages() -> Vec<Address> {
    let get = web::get;
    vec![
        address(
            "/openapi.json",
            "GET",
            vec![get().to(openapi::openapi_json)],
        ),
        address("/docs", "GET", vec![get().to(docs::docs)]),
        address("/docs/integrate", "GET", vec![get().to(docs::guide)]),
        address("/docs/docs.css", "GET", vec![get().to(docs::style)]),
        address("/docs/errors", "GET", vec![get().to(docs::errors)]),
        address("/docs/errors/{code}", "GET", vec![get().to(docs::error)]),
    ]
}

/// Everything that merchants, students and providers may ask. Call it once and hand a clone to each
/// worker: limits and caches are shared.
pub fn public(deps: Deps) -> impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static {
    let limiters = Limiters::new(&deps.settings.limits);
    public_with(deps, limiters)
}

/// The same with limits that the caller keeps, to call [`Limiters::upkeep`] now and then.
pub fn public_with(
    deps: Deps,
    limiters: Limiters,
) -> impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static {
    let folder = deps.settings.well_known_files.clone();
    let deps = web::Data::new(deps);
    let limiters = web::Data::new(limiters);
    let keys = web::Data::new(Keys::default());
    move |config| {
        config
            .app_data(deps.clone())
            .app_data(limiters.clone())
            .app_data(keys.clone());
        let mut everything = web::scope("");
        for address in merchant_api().into_iter().chain(open_pages()) {
            everything = everything.service(resource(address));
        }
        config.service(
            everything
                .configure(assets::routes)
                .configure(cashier::routes)
                .configure(scan::routes)
                .configure(receipts::routes)
                .configure(callbacks::configure)
                .configure(|config| well_known::routes(folder.as_deref(), config))
                .default_service(web::route().to(problem::nowhere))
                .wrap(middleware::from_fn(edge::edge)),
        );
    }
}

/// A resource that answers other methods with 405 and `Allow`.
fn resource(address: Address) -> Resource {
    let mut resource = web::resource(address.path);
    for route in address.routes {
        resource = resource.route(route);
    }
    resource.default_service(problem::only(address.allow))
}
