//! The boards and alerts before a real Prometheus that scrapes a gateway under load: every query finds
//! what it asks for, an alert fires, healthy ones stay quiet, and nothing private is in a metric or a
//! log line.
#![expect(
    clippy::unwrap_used,
    reason = "a test may stop where its own set-up fails"
)]

mod load;
mod processes;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use enrollpay::metrics::{ALL, Kind, Metric};
use serde_json::Value;

use load::Load;
use processes::{Gateway, Prometheus, eventually};

/// Metrics without a series as long as all is well.
const HEALTHY_IS_ABSENT: &[(&str, &str)] = &[
    (
        "enrollpay_invariant_violations_total",
        "no write broke a rule",
    ),
    (
        "enrollpay_mailbox_rejected_total",
        "no queue was full: this load is small",
    ),
    (
        "enrollpay_lock_command_duration_seconds",
        "the locks of one node are in its memory",
    ),
    (
        "enrollpay_shard_handover_seconds",
        "the node runs until the end",
    ),
    ("enrollpay_bill_orders_total", "this load has no bills"),
    ("enrollpay_peer_calls_total", "there is no other node"),
    (
        "enrollpay_peer_call_duration_seconds",
        "there is no other node",
    ),
    ("enrollpay_peer_refused_total", "there is no other node"),
];

/// Metrics that are there and 0 as long as all is well, or at rest.
const HEALTHY_IS_ZERO: &[(&str, &str)] = &[
    ("enrollpay_webhook_altered_total", "no stored event changed"),
    ("enrollpay_orders_erased_total", "nobody is erased so soon"),
    ("enrollpay_bills_erased_total", "nobody is erased so soon"),
    ("enrollpay_bills_created_total", "this load has no bills"),
    ("enrollpay_payer_links_total", "this load has no bills"),
    (
        "enrollpay_console_logins_total",
        "nobody logs in to the console",
    ),
    (
        "enrollpay_values_resealed_total",
        "there is one field key only",
    ),
    (
        "enrollpay_lock_commands_total",
        "the locks of one node are in its memory",
    ),
    ("enrollpay_locks_unanswered", "memory always answers"),
    (
        "enrollpay_ratelimit_fallbacks_total",
        "one node shares its limits with nobody",
    ),
    ("enrollpay_shards_lost_total", "there is no other node"),
    (
        "enrollpay_peer_news_dropped_total",
        "there is no other node",
    ),
    (
        "enrollpay_store_retries_total",
        "the embedded store has one writer",
    ),
    ("enrollpay_payments_late_total", "nobody paid late"),
    ("enrollpay_payments_duplicate_total", "nobody paid twice"),
    ("enrollpay_actor_restarts_total", "nothing panicked"),
    (
        "enrollpay_effects_in_flight",
        "no call lasts until the scrape",
    ),
    ("enrollpay_sweep_due", "every order has its actor"),
    (
        "enrollpay_reconciliation_rows_total",
        "no money moved on the day compared",
    ),
    (
        "enrollpay_reconciliation_repaired_total",
        "nothing was missing",
    ),
    (
        "enrollpay_reconciliation_differences",
        "bill and books agree",
    ),
    ("enrollpay_reconciliation_overdue", "no day is missing"),
    (
        "enrollpay_provider_calls_waiting",
        "no call waits until the scrape",
    ),
    ("enrollpay_provider_orders_waiting", "the accounts keep up"),
    (
        "enrollpay_provider_limited_total",
        "the simulators refuse no load",
    ),
    ("enrollpay_provider_circuits_open", "the simulators answer"),
    (
        "enrollpay_provider_clock_offset_seconds",
        "the simulators have our clock",
    ),
];

/// Values of labels that alerts and panels look for, and that a healthy gateway does not have.
const HEALTHY_VALUES_ABSENT: &[(&str, &str, &str)] = &[(
    "status",
    "5..",
    "no request failed for a reason of the gateway's",
)];

/// Alerts that this load raises; every other one must stay quiet.
const RAISED: &[(&str, &str)] = &[
    ("CallbacksNotBelieved", "forged notices"),
    ("WebhookParked", "a merchant without a webhook address"),
    ("NeedsPerson", "a notice of another amount"),
];

/// Alerts about the machine below, which a test cannot promise to be quick.
const OF_THE_MACHINE: &[&str] = &["StoreCommitSlow"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards")
}

/// A question of a board or an alert, and where it stands.
struct Query {
    place: String,
    text: String,
}

/// What the boards ask, for all nodes and providers.
fn asked_by_boards() -> Vec<Query> {
    let mut queries = Vec::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "json") {
            continue;
        }
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let board: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let mut keep = |place: &Value, text: &Value| {
            let text = text
                .as_str()
                .unwrap()
                .replace("$__rate_interval", "1m")
                .replace("$__range", "5m")
                .replace("$instance", ".*")
                .replace("$provider", ".*");
            assert!(!text.contains('$'), "{file}: an unknown variable in {text}");
            queries.push(Query {
                place: format!("{file}: {}", place.as_str().unwrap()),
                text,
            });
        };
        for annotation in board["annotations"]["list"].as_array().unwrap() {
            keep(&annotation["name"], &annotation["expr"]);
        }
        for panel in board["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                keep(&panel["title"], &target["expr"]);
            }
        }
    }
    assert!(queries.len() > 30, "{} queries", queries.len());
    queries
}

/// The lists from which a board's viewer chooses: label and metric.
fn lists_of_boards() -> BTreeSet<(String, String)> {
    let boards = ["1-overview.json", "2-funnel.json"];
    let texts = boards.map(|file| std::fs::read_to_string(folder().join(file)).unwrap());
    texts
        .iter()
        .flat_map(|text| text.split("label_values(").skip(1))
        .map(|rest| {
            let (metric, label) = rest.split(')').next().unwrap().split_once(", ").unwrap();
            (label.to_owned(), metric.to_owned())
        })
        .collect()
}

/// The metrics that a query names, each with the selectors in its braces.
fn selections(query: &str) -> Vec<(String, Vec<(String, String)>)> {
    query
        .match_indices("enrollpay_")
        .map(|(at, _)| {
            let rest = &query[at..];
            let end = rest
                .find(|letter: char| !letter.is_ascii_lowercase() && letter != '_')
                .unwrap_or(rest.len());
            let (name, rest) = rest.split_at(end);
            let inside = rest
                .strip_prefix('{')
                .map_or("", |rest| rest.split('}').next().unwrap());
            let selectors = inside
                .split(',')
                .filter_map(|selector| {
                    let (label, value) = selector.split_once('=')?;
                    let value = value.trim_start_matches('~').trim_matches('"');
                    Some((label.trim().to_owned(), value.to_owned()))
                })
                .collect();
            (name.to_owned(), selectors)
        })
        .collect()
}

/// Without what a histogram's series add to its name.
fn metric_of(series: &str) -> &'static Metric {
    let base = ["_bucket", "_sum", "_count"]
        .iter()
        .find_map(|suffix| series.strip_suffix(suffix))
        .filter(|base| ALL.iter().any(|metric| metric.name == *base))
        .unwrap_or(series);
    ALL.iter()
        .find(|metric| metric.name == base)
        .unwrap_or_else(|| panic!("{series} is not in src/metrics.rs"))
}

fn is_absent_in_health(metric: &str) -> bool {
    HEALTHY_IS_ABSENT.iter().any(|(name, _)| *name == metric)
}

/// Prometheus' own tool has nothing against the page.
fn lint(page: &str) {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("promtool: {error}; Debian package prometheus, tests/run installs it")
        });
    let mut input = promtool.stdin.take().unwrap();
    input.write_all(page.as_bytes()).unwrap();
    drop(input);
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success() && said.is_empty(),
        "promtool check metrics: {}",
        String::from_utf8_lossy(&said)
    );
}

/// Every declared metric is on the page with exactly its labels, and has counted something; no other
/// is there.
fn hold_against_the_table(page: &str) -> Result<(), String> {
    let mut seen: BTreeMap<&str, bool> = BTreeMap::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let Some(end) = line.find(['{', ' ']) else {
            continue;
        };
        let metric = metric_of(&line[..end]);
        let inside = line[end..]
            .strip_prefix('{')
            .map_or("", |rest| rest.rsplit_once('}').unwrap().0);
        let labels: BTreeSet<&str> = inside
            .split("\",")
            .filter_map(|label| Some(label.split_once("=\"")?.0))
            .filter(|label| metric.kind != Kind::Histogram || *label != "le")
            .collect();
        let declared: BTreeSet<&str> = metric.labels.iter().copied().collect();
        assert_eq!(labels, declared, "{line}");
        let value = line.rsplit_once(' ').unwrap().1;
        let moved = seen.entry(metric.name).or_default();
        *moved |= value != "0";
    }
    let missing: Vec<_> = ALL
        .iter()
        .map(|metric| metric.name)
        .filter(|name| !seen.contains_key(name) && !is_absent_in_health(name))
        .collect();
    let still: Vec<_> = seen
        .iter()
        .filter(|(name, moved)| {
            !**moved && !HEALTHY_IS_ZERO.iter().any(|(healthy, _)| healthy == *name)
        })
        .map(|(name, _)| *name)
        .collect();
    if missing.is_empty() && still.is_empty() {
        Ok(())
    } else {
        Err(format!("never emitted: {missing:?}; always 0: {still:?}"))
    }
}

/// Every metric that a query names has a series, and so has every value it picks of a label.
async fn hold_against_the_series(prometheus: &Prometheus, query: &Query) -> Result<(), String> {
    for (series, selectors) in selections(&query.text) {
        let metric = metric_of(&series);
        for (label, wanted) in selectors {
            assert!(
                label == "instance" || metric.labels.contains(&&*label),
                "{}: {series} has no label {label}",
                query.place
            );
            let values = prometheus.label_values(&label, &series).await;
            for value in wanted.split('|').filter(|value| *value != ".*") {
                let healthy = HEALTHY_VALUES_ABSENT
                    .iter()
                    .any(|(name, absent, _)| (*name, *absent) == (&*label, value));
                let fits = |found: &String| {
                    found.len() == value.len()
                        && found
                            .chars()
                            .zip(value.chars())
                            .all(|(found, wanted)| wanted == '.' || found == wanted)
                };
                if !healthy && !is_absent_in_health(metric.name) && !values.iter().any(fits) {
                    return Err(format!(
                        "{}: no {series} has {label}={value}, only {values:?}",
                        query.place
                    ));
                }
            }
        }
        let counted = prometheus.query(&format!("count({series})")).await?;
        if counted.is_empty() && !is_absent_in_health(metric.name) {
            return Err(format!("{}: no series of {series}", query.place));
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_query_finds_what_it_asks_for_and_nothing_private_is_told() {
    let scratch = tempfile::tempdir().unwrap();
    let rules = std::fs::read_to_string(folder().join("alerts.yml")).unwrap();
    let gateway = Gateway::start(scratch.path()).await;
    let prometheus = Prometheus::start(scratch.path(), &gateway, &rules).await;
    let mut load = Load::new(&gateway);

    // A rate needs a step between two scrapes: every series is born in the first round, and moves in
    // the second.
    load.round().await;
    let patience = Duration::from_secs(20);
    let created = "enrollpay_orders_created_total";
    let scraped = |text: &str| {
        let line = text.lines().find(|line| line.starts_with(created)).unwrap();
        line.rsplit_once(' ').unwrap().1.to_owned()
    };
    let before = scraped(&gateway.metrics().await);
    eventually("the first round to be scraped", patience, async || {
        let found = prometheus.query(created).await?;
        (found == [&*before])
            .then_some(())
            .ok_or(format!("{found:?}"))
    })
    .await;
    let trade = load.round().await;
    load.forge(&trade).await;

    // The page itself.
    let page = eventually("every metric", patience, async || {
        let page = gateway.metrics().await;
        hold_against_the_table(&page).map(|()| page)
    })
    .await;
    lint(&page);

    // The boards.
    for query in asked_by_boards() {
        let names = selections(&query.text);
        let healthy = names
            .iter()
            .any(|(series, _)| is_absent_in_health(metric_of(series).name));
        eventually(&query.place, patience, async || {
            hold_against_the_series(&prometheus, &query).await?;
            let found = prometheus.query(&query.text).await?;
            if found.is_empty() && !healthy {
                return Err(format!("{} finds nothing", query.text));
            }
            Ok(())
        })
        .await;
    }
    for (label, metric) in lists_of_boards() {
        let values = prometheus.label_values(&label, &metric).await;
        assert!(!values.is_empty(), "label_values({metric}, {label})");
    }

    // The alerts.
    eventually("the alerts", patience, async || {
        let firing = prometheus.firing().await;
        for (alert, why) in RAISED {
            if !firing
                .iter()
                .any(|one| one["labels"]["alertname"] == *alert)
            {
                return Err(format!("{alert} does not fire over {why}: {firing:?}"));
            }
        }
        Ok(())
    })
    .await;
    let rules = prometheus.rules().await;
    assert!(rules.len() >= 15, "{} rules", rules.len());
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
        let query = Query {
            place: rule["name"].as_str().unwrap().to_owned(),
            text: rule["query"].as_str().unwrap().to_owned(),
        };
        let held = hold_against_the_series(&prometheus, &query).await;
        held.unwrap_or_else(|error| panic!("{error}"));
        prometheus.query(&query.text).await.unwrap();
    }
    for alert in prometheus.firing().await {
        let name = alert["labels"]["alertname"].as_str().unwrap();
        if OF_THE_MACHINE.contains(&name) {
            continue;
        }
        assert!(
            RAISED.iter().any(|(raised, _)| *raised == name),
            "{name} fires over a healthy gateway: {alert}"
        );
        let forged = name != "CallbacksNotBelieved"
            || (alert["labels"]["provider"] == "wechatpay"
                && alert["labels"]["reason"] == "bad_signature"
                && alert["labels"]["severity"] == "page");
        assert!(forged, "{alert}");
    }

    // Nothing private, in the metrics or in the log.
    let (page, log) = (gateway.metrics().await, gateway.log());
    // It does tell of what happened, by the orders' ids.
    assert!(log.contains(&trade[..26]), "a log that is not the load's");
    assert!(load.private.len() > 40, "much to look for");
    let commands: String = [
        &["event", "list", "--all"][..],
        &["merchant", "list"],
        &["personal", "status"],
        &["personal", "erase", "--order", "ord_none"],
    ]
    .map(|arguments| gateway.said(arguments))
    .concat();
    assert!(
        commands.contains("evt_") && commands.contains("mch_"),
        "{commands}"
    );
    let store = gateway.store();
    for (what, text) in &load.private {
        assert!(
            !commands.contains(text.as_str()),
            "a command tells {what}: {text}"
        );
        // What is paid for stands in the order in clear: a merchant writes no people there.
        let in_clear = ["an item", "a card's number"].contains(&what.as_str());
        let found = store
            .windows(text.len())
            .any(|part| part == text.as_bytes());
        assert!(
            in_clear || !found,
            "the store holds {what} in clear: {text}"
        );
        assert!(
            !page.contains(text.as_str()),
            "/metrics tells {what}: {text}"
        );
        let line = log.lines().find(|line| line.contains(text.as_str()));
        assert!(line.is_none(), "the log tells {what}: {}", line.unwrap());
    }
    for secret in ["auth_code=", "?code=", "&state=", "sign="] {
        let line = log.lines().find(|line| line.contains(secret));
        assert!(
            line.is_none(),
            "a query string in the log: {}",
            line.unwrap()
        );
    }
}
