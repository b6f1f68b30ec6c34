//! What this room measures.

use std::time::Duration;

use metrics::{counter, gauge, histogram};

use crate::order::Wallet;
use crate::store::reconciliation::{Run, RunState, Verdict};

pub(super) const fn provider(wallet: Wallet) -> &'static str {
    match wallet {
        Wallet::Wechat => "wechatpay",
        Wallet::Alipay => "alipay",
    }
}

/// A run has ended, one way or another.
pub(super) fn ended(wallet: Wallet, run: &Run, took: Duration) {
    let provider = provider(wallet);
    counter!("enrollpay_reconciliation_runs_total", "provider" => provider, "outcome" => run.state.as_str())
        .increment(1);
    if run.state != RunState::Finished {
        return;
    }
    histogram!("enrollpay_reconciliation_duration_seconds", "provider" => provider).record(took);
    let total = run.total();
    for verdict in Verdict::ALL {
        counter!("enrollpay_reconciliation_rows_total", "provider" => provider, "verdict" => verdict.as_str())
            .increment(total.with_verdict(*verdict));
    }
    counter!("enrollpay_reconciliation_repaired_total", "provider" => provider)
        .increment(total.repaired);
    if let Some(at) = run.finished_at {
        last_success(at.as_seconds());
    }
}

/// Differences in the results of the last days.
pub(super) fn differences(rows: u64) {
    gauge!("enrollpay_reconciliation_differences").set(float(rows));
}

/// Days that should have a result by now, and have none.
pub(super) fn overdue(days: u64) {
    gauge!("enrollpay_reconciliation_overdue").set(float(days));
}

pub(super) fn last_success(seconds: i64) {
    let seconds = u64::try_from(seconds).unwrap_or_default();
    gauge!("enrollpay_reconciliation_last_success_timestamp_seconds").set(float(seconds));
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
const fn float(value: u64) -> f64 {
    value as f64
}
