//! Every metric of the gateway: its name, kind, labels, unit and help, and nothing computed. Names
//! are prefixed `enrollpay_`, units are base units, no id is ever a label (contract §7). A test holds
//! the names used in the source and in `dashboards/` against this table.

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// One metric. The labels are bounded sets of words.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind: Kind::Counter,
        labels,
        help,
    }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric {
        name,
        kind: Kind::Gauge,
        labels,
        help,
    }
}

const fn histogram(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind: Kind::Histogram,
        labels,
        help,
    }
}

/// All of them, by room.
pub const ALL: &[Metric] = &[
    // process
    gauge(
        "enrollpay_build_info",
        &["version"],
        "1; the label says which version runs.",
    ),
    gauge(
        "enrollpay_start_time_seconds",
        &[],
        "When this process started, in seconds since the epoch.",
    ),
    gauge(
        "enrollpay_resident_memory_bytes",
        &[],
        "Resident memory of this process.",
    ),
    gauge(
        "enrollpay_open_descriptors",
        &[],
        "Open file descriptors of this process.",
    ),
    gauge("enrollpay_ready", &[], "1 while /readyz answers 200."),
    // http
    counter(
        "enrollpay_http_requests_total",
        &["route", "method", "status"],
        "Requests answered, by route template.",
    ),
    histogram(
        "enrollpay_http_request_duration_seconds",
        &["route"],
        "Time to answer a request, by route template.",
    ),
    counter(
        "enrollpay_auth_rejected_total",
        &["reason"],
        "Merchants' requests refused for their credentials, by reason.",
    ),
    counter(
        "enrollpay_console_logins_total",
        &["outcome"],
        "Logins to the operators' console: done, refused, limited.",
    ),
    counter(
        "enrollpay_ratelimit_rejected_total",
        &["limit"],
        "Requests refused by a rate limit.",
    ),
    counter(
        "enrollpay_ratelimit_fallbacks_total",
        &[],
        "Rate limits that this node decided alone, because Redis did not answer.",
    ),
    gauge("enrollpay_sse_streams", &[], "Open live pages."),
    counter(
        "enrollpay_manual_queries_total",
        &["outcome"],
        "Presses of 查询缴费结果 and merchants' queries; outcome found: of a payment nobody had told us of.",
    ),
    counter(
        "enrollpay_qr_regenerated_total",
        &[],
        "Codes started in place of an earlier one.",
    ),
    counter(
        "enrollpay_scans_total",
        &["outcome"],
        "Claims of a code, by outcome.",
    ),
    counter(
        "enrollpay_bridge_timeouts_total",
        &["wallet"],
        "Payment pages whose wallet offered no bridge within 5 s.",
    ),
    // orders
    counter("enrollpay_orders_created_total", &[], "Orders created."),
    counter(
        "enrollpay_order_transitions_total",
        &["from", "to"],
        "Changes of an order's status.",
    ),
    gauge(
        "enrollpay_orders_in_state",
        &["state"],
        "Orders by status, counted now and then.",
    ),
    histogram(
        "enrollpay_order_time_to_pay_seconds",
        &["wallet"],
        "From an order's creation to the success of its payment.",
    ),
    counter(
        "enrollpay_attempts_total",
        &["end"],
        "Attempts that ended, by how.",
    ),
    counter(
        "enrollpay_captures_total",
        &["standing"],
        "Captures recorded, by what the order made of them.",
    ),
    counter(
        "enrollpay_captured_fen_total",
        &["standing"],
        "Money captured, in fen, by what the order made of it.",
    ),
    counter(
        "enrollpay_payments_late_total",
        &[],
        "Captures that were heard of after their attempt had ended.",
    ),
    counter(
        "enrollpay_payments_duplicate_total",
        &[],
        "Captures of orders that another capture had paid.",
    ),
    counter(
        "enrollpay_card_like_texts_total",
        &[],
        "Texts sent to providers in which a card-like number was masked.",
    ),
    counter(
        "enrollpay_attention_total",
        &["why"],
        "Orders that a person must look at.",
    ),
    counter(
        "enrollpay_bills_created_total",
        &[],
        "Bills that merchants uploaded.",
    ),
    counter(
        "enrollpay_bill_orders_total",
        &["outcome"],
        "Orders that payers asked for from their bills; outcome taken: a bill was in another one.",
    ),
    counter(
        "enrollpay_payer_links_total",
        &[],
        "Links to payers' bills that merchants asked for.",
    ),
    // actors
    gauge("enrollpay_actors_live", &[], "Order actors alive."),
    counter(
        "enrollpay_actor_restarts_total",
        &["cause"],
        "Order actors that ended before their time.",
    ),
    counter(
        "enrollpay_mailbox_rejected_total",
        &["kind"],
        "Commands shed because a queue was full.",
    ),
    histogram(
        "enrollpay_command_duration_seconds",
        &["command", "verdict"],
        "From a command's arrival at its order to its answer.",
    ),
    gauge(
        "enrollpay_effects_in_flight",
        &[],
        "Provider calls under way.",
    ),
    counter(
        "enrollpay_invariant_violations_total",
        &["invariant"],
        "Writes refused because an invariant would not hold: always 0.",
    ),
    gauge(
        "enrollpay_sweep_due",
        &[],
        "Orders that the last sweep found due.",
    ),
    // store
    // cluster
    gauge(
        "enrollpay_shards",
        &[],
        "Shards that there are, whoever owns them.",
    ),
    gauge(
        "enrollpay_shards_owned",
        &[],
        "Shards that this node writes for.",
    ),
    gauge(
        "enrollpay_nodes_alive",
        &[],
        "Instances whose heartbeat stands, this one among them.",
    ),
    counter(
        "enrollpay_shards_claimed_total",
        &[],
        "Shards that this node has taken.",
    ),
    counter(
        "enrollpay_shards_lost_total",
        &[],
        "Shards that another node took while this one believed that it had them.",
    ),
    histogram(
        "enrollpay_shard_handover_seconds",
        &[],
        "Time from letting shards go until others may claim them.",
    ),
    counter(
        "enrollpay_peer_calls_total",
        &["kind", "outcome"],
        "Calls to other nodes; lost: without a proven answer, the node may have heard.",
    ),
    histogram(
        "enrollpay_peer_call_duration_seconds",
        &["kind"],
        "Time of a call to another node.",
    ),
    counter(
        "enrollpay_peer_refused_total",
        &["reason"],
        "Requests to the cluster's listener that were not let in.",
    ),
    counter(
        "enrollpay_peer_news_dropped_total",
        &[],
        "News and subscriptions for other nodes that were not delivered: they read the store.",
    ),
    gauge(
        "enrollpay_locks_unanswered",
        &[],
        "1 while the locks leave a question about leases open.",
    ),
    counter(
        "enrollpay_store_retries_total",
        &[],
        "Commits tried again after a deadlock or on a connection that turned out dead; nothing of them was written.",
    ),
    histogram(
        "enrollpay_store_commit_duration_seconds",
        &[],
        "One group commit, flush included.",
    ),
    histogram(
        "enrollpay_store_group_size",
        &[],
        "Transactions in one group commit.",
    ),
    counter(
        "enrollpay_store_rejections_total",
        &["reason"],
        "Transactions that the store refused.",
    ),
    // locks
    histogram(
        "enrollpay_lock_command_duration_seconds",
        &["operation"],
        "From a lock command to its answer, its repetitions included.",
    ),
    counter(
        "enrollpay_lock_commands_total",
        &["operation", "outcome"],
        "Lock commands to Redis, by what was answered; unknown: nothing.",
    ),
    // personal data
    counter(
        "enrollpay_orders_erased_total",
        &[],
        "Orders whose payer was erased.",
    ),
    counter(
        "enrollpay_bills_erased_total",
        &[],
        "Bills that nobody paid and whose payer was erased.",
    ),
    counter(
        "enrollpay_values_resealed_total",
        &[],
        "Values sealed anew under the newest field key.",
    ),
    // providers
    histogram(
        "enrollpay_provider_request_duration_seconds",
        &["provider", "operation", "outcome"],
        "Calls to providers.",
    ),
    histogram(
        "enrollpay_provider_wait_seconds",
        &["provider", "operation"],
        "How long calls waited for their turn at their account.",
    ),
    gauge(
        "enrollpay_provider_calls_waiting",
        &["provider", "urgency"],
        "Calls that wait for their turn, by who waits for them.",
    ),
    gauge(
        "enrollpay_provider_orders_waiting",
        &["provider"],
        "Due orders that wait until their account can be asked.",
    ),
    counter(
        "enrollpay_provider_limited_total",
        &["provider", "operation"],
        "Calls that a provider refused because they were too many.",
    ),
    gauge(
        "enrollpay_provider_circuits_open",
        &["provider"],
        "Accounts that are asked by one call at a time, because nothing was answered.",
    ),
    gauge(
        "enrollpay_provider_clock_offset_seconds",
        &["provider"],
        "A provider's clock less ours.",
    ),
    // callbacks
    counter(
        "enrollpay_callbacks_total",
        &["provider", "outcome"],
        "Provider notices, by what became of them.",
    ),
    counter(
        "enrollpay_callbacks_rejected_total",
        &["provider", "reason"],
        "Provider notices that were not believed, by reason.",
    ),
    histogram(
        "enrollpay_callback_lag_seconds",
        &["provider"],
        "From a provider's success to the notice of it being on disk.",
    ),
    // webhooks
    counter(
        "enrollpay_webhook_deliveries_total",
        &["outcome"],
        "Deliveries to merchants, by outcome.",
    ),
    histogram(
        "enrollpay_webhook_delivery_duration_seconds",
        &[],
        "One delivery to a merchant.",
    ),
    counter(
        "enrollpay_webhook_altered_total",
        &[],
        "Deliveries refused because the stored bytes were not those once written: always 0.",
    ),
    gauge(
        "enrollpay_webhook_pending",
        &[],
        "Events not yet delivered.",
    ),
    gauge(
        "enrollpay_webhook_parked",
        &[],
        "Events given up for now: a person may resend them.",
    ),
    gauge(
        "enrollpay_webhook_oldest_pending_seconds",
        &[],
        "Age of the oldest event not yet delivered.",
    ),
    // reconciliation
    counter(
        "enrollpay_reconciliation_runs_total",
        &["provider", "outcome"],
        "Comparisons of a provider's bill with our books, by how they ended.",
    ),
    counter(
        "enrollpay_reconciliation_rows_total",
        &["provider", "verdict"],
        "Lines of bills and rows of ours that were compared, by verdict.",
    ),
    counter(
        "enrollpay_reconciliation_repaired_total",
        &["provider"],
        "Payments and refunds' ends that only the bill told us of.",
    ),
    histogram(
        "enrollpay_reconciliation_duration_seconds",
        &["provider"],
        "One comparison with a result, from asking for the bill.",
    ),
    gauge(
        "enrollpay_reconciliation_differences",
        &[],
        "Rows that do not agree in the results of the last seven days.",
    ),
    gauge(
        "enrollpay_reconciliation_overdue",
        &[],
        "Accounts' days of the last seven without a result; yesterday's counts from 14:00 Beijing time.",
    ),
    gauge(
        "enrollpay_reconciliation_last_success_timestamp_seconds",
        &[],
        "When the last comparison with a result ended, in seconds since the epoch.",
    ),
];

/// Series that are there from the first scrape, at 0: a rate does not see the step with which a series
/// is born, and the first payment after a start must count on the boards and in the alerts.
pub const FROM_ZERO: &[(&str, &[(&str, &str)])] = &[
    (
        "enrollpay_order_transitions_total",
        &[("from", "unpaid"), ("to", "paying")],
    ),
    (
        "enrollpay_order_transitions_total",
        &[("from", "paying"), ("to", "paid")],
    ),
    ("enrollpay_console_logins_total", &[("outcome", "refused")]),
    ("enrollpay_attempts_total", &[("end", "succeeded")]),
    ("enrollpay_attempts_total", &[("end", "expired")]),
    ("enrollpay_attempts_total", &[("end", "failed")]),
    ("enrollpay_captures_total", &[("standing", "kept")]),
    ("enrollpay_captures_total", &[("standing", "surplus")]),
    ("enrollpay_captures_total", &[("standing", "mismatched")]),
    ("enrollpay_captured_fen_total", &[("standing", "kept")]),
    ("enrollpay_captured_fen_total", &[("standing", "surplus")]),
    (
        "enrollpay_captured_fen_total",
        &[("standing", "mismatched")],
    ),
    (
        "enrollpay_attention_total",
        &[("why", "mismatched_capture")],
    ),
    (
        "enrollpay_attention_total",
        &[("why", "in_time_after_closing")],
    ),
    (
        "enrollpay_attention_total",
        &[("why", "surplus_refund_failed")],
    ),
    ("enrollpay_attention_total", &[("why", "closing_stuck")]),
    ("enrollpay_scans_total", &[("outcome", "claimed")]),
    ("enrollpay_manual_queries_total", &[("outcome", "found")]),
    (
        "enrollpay_lock_commands_total",
        &[("operation", "acquire"), ("outcome", "unknown")],
    ),
    (
        "enrollpay_callbacks_total",
        &[("provider", "wechatpay"), ("outcome", "recorded")],
    ),
    (
        "enrollpay_callbacks_total",
        &[("provider", "wechatpay"), ("outcome", "duplicate")],
    ),
    (
        "enrollpay_callbacks_total",
        &[("provider", "alipay"), ("outcome", "recorded")],
    ),
    (
        "enrollpay_callbacks_total",
        &[("provider", "alipay"), ("outcome", "duplicate")],
    ),
    (
        "enrollpay_webhook_deliveries_total",
        &[("outcome", "delivered")],
    ),
    ("enrollpay_actor_restarts_total", &[("cause", "panic")]),
    (
        "enrollpay_actor_restarts_total",
        &[("cause", "webhook_relay")],
    ),
];

const SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
const LONG_SECONDS: &[f64] = &[
    1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 180.0, 300.0, 600.0, 3600.0, 86400.0,
];
const SIZES: &[f64] = &[
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0,
];

/// Installs the recorder of this process; its handle renders `/metrics`.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let mut builder = PrometheusBuilder::new()
        .set_buckets(SECONDS)?
        .with_recommended_naming(true);
    for (name, buckets) in [
        ("enrollpay_order_time_to_pay_seconds", LONG_SECONDS),
        ("enrollpay_callback_lag_seconds", LONG_SECONDS),
        ("enrollpay_store_group_size", SIZES),
        ("enrollpay_reconciliation_duration_seconds", LONG_SECONDS),
    ] {
        builder = builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), buckets)?;
    }
    let handle = builder.install_recorder()?;
    for metric in ALL {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.help),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
            Kind::Histogram => metrics::describe_histogram!(metric.name, metric.help),
        }
        // Present from the first scrape, so that an alert can tell zero from absent.
        if metric.labels.is_empty() {
            match metric.kind {
                Kind::Counter => metrics::counter!(metric.name).absolute(0),
                Kind::Gauge => metrics::gauge!(metric.name).set(0.0),
                Kind::Histogram => {}
            }
        }
    }
    for (name, labels) in FROM_ZERO {
        let labels: Vec<_> = labels.iter().map(metrics::Label::from).collect();
        metrics::counter!(*name, labels).absolute(0);
    }
    metrics::gauge!("enrollpay_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(handle)
}
