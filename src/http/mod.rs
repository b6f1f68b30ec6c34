//! Everything that is spoken over HTTP. `routes` has the whole surface on one page; each endpoint is
//! one file; status codes and problem texts are in `problem` alone.

pub mod address;
pub mod admin;
pub mod assets;
pub mod attempts;
pub mod auth;
pub mod body;
pub mod callbacks;
pub mod cashier;
pub mod docs;
pub mod edge;
pub mod idempotency;
pub mod json;
pub mod limits;
pub mod making;
pub mod merchant;
pub mod openapi;
pub mod problem;
pub mod queries;
pub mod receipts;
pub mod refusal;
pub mod request_id;
pub mod routes;
pub mod scan;
pub mod well_known;
pub mod words;

use std::sync::Arc;

use crate::actors::Orders;
use crate::clock::Clock;
use crate::provider::Providers;
use crate::random::Random;
use crate::sealing::Sealer;
use crate::store::Store;

/// What every handler may use. Cheap to clone; handed to actix as `web::Data`.
#[derive(Clone, Debug)]
pub struct Deps {
    pub orders: Orders,
    pub store: Arc<dyn Store>,
    pub providers: Providers,
    pub sealer: Sealer,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub settings: Arc<Settings>,
    /// The open event streams: end them before the server stops.
    pub streams: cashier::streams::Streams,
}

/// What the configuration says to this room.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Without a slash at its end.
    pub public_url: String,
    /// Demo mode: plain http to loopback is allowed for return addresses.
    pub demo: bool,
    /// In which zone times are written: minutes east of UTC (480 by default).
    pub zone_minutes: i32,
    pub trusted_proxies: Vec<ipnet::IpNet>,
    pub well_known_files: Option<std::path::PathBuf>,
    /// How long one code lives, in milliseconds.
    pub qr_ms: i64,
    pub limits: Limits,
    /// Demo mode: the page of the simulated wallet, linked to under each code.
    pub demo_wallet_url: Option<String>,
}

/// `limits.*` of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub merchant_body_bytes: usize,
    pub callback_body_bytes: usize,
    pub student_body_bytes: usize,
    /// Requests a second and burst, per merchant and per address.
    pub merchant_per_second: u32,
    pub merchant_burst: u32,
    pub address_per_second: u32,
    pub address_burst: u32,
    /// Attempts of one order within an hour.
    pub attempts_per_hour: u32,
    /// Open event streams of one order, and of one address.
    pub streams_per_order: usize,
    pub streams_per_address: usize,
}

impl Deps {
    /// How orders are written for the outside.
    pub fn view(&self) -> crate::view::View {
        crate::view::View {
            public_url: self.settings.public_url.clone(),
            zone_minutes: self.settings.zone_minutes,
            sealer: self.sealer.clone(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            merchant_body_bytes: 64 * 1024,
            callback_body_bytes: 64 * 1024,
            student_body_bytes: 4 * 1024,
            merchant_per_second: 2_000,
            merchant_burst: 4_000,
            address_per_second: 50,
            address_burst: 200,
            attempts_per_hour: 20,
            streams_per_order: 3,
            streams_per_address: 200,
        }
    }
}

/// The names of what this room measures.
pub mod metric {
    /// Requests answered, by `route` (its template), `method` and `status`.
    pub const REQUESTS: &str = "enrollpay_http_requests_total";
    /// Seconds from a request's head to its answer's head, by `route`.
    pub const DURATION: &str = "enrollpay_http_request_duration_seconds";
    /// Merchants' requests refused for their credentials, by `reason`.
    pub const AUTH_REFUSED: &str = "enrollpay_auth_rejected_total";
    /// Codes started in place of an earlier one.
    pub const REGENERATED: &str = "enrollpay_qr_regenerated_total";
    /// Bills that merchants uploaded.
    pub const BILLS_CREATED: &str = "enrollpay_bills_created_total";
    /// Orders that payers asked for from their bills, by `outcome`: `made` or `taken`.
    pub const BILL_ORDERS: &str = "enrollpay_bill_orders_total";
    /// Links to payers' bills that merchants asked for.
    pub const PAYER_LINKS: &str = "enrollpay_payer_links_total";
    /// Questions to the provider that somebody asked for, by `outcome`.
    pub const MANUAL_QUERIES: &str = "enrollpay_manual_queries_total";
    /// Requests refused by one of our limits, by `limit`.
    pub const RATE_LIMITED: &str = "enrollpay_ratelimit_rejected_total";
    /// Limits decided by this node alone, because the shared ones were silent.
    pub const RATE_FALLBACKS: &str = "enrollpay_ratelimit_fallbacks_total";
}
