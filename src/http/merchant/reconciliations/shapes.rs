//! The shapes that the OpenAPI description names; see `openapi` for why nothing reads them.

#![allow(
    dead_code,
    missing_debug_implementations,
    reason = "the shapes are read by the derive that describes them, not by code"
)]

use utoipa::{IntoParams, ToSchema};

/// Whose bill of which day.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct ReconciliationPath {
    /// One of your provider accounts.
    #[param(example = "school-wechat")]
    account: String,
    /// The provider's day, which is Beijing's.
    #[param(format = "date", example = "2026-11-19")]
    date: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ReconciliationQuery {
    /// Only rows with this verdict.
    #[param(required = false, inline)]
    verdict: VerdictName,
    /// next_cursor of an earlier answer; of the same result.
    #[param(required = false)]
    cursor: String,
    #[param(required = false, minimum = 1, maximum = 1000, default = 100)]
    limit: u32,
    /// json (default) or csv.
    #[param(required = false, inline)]
    format: FormatName,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum VerdictName {
    Matched,
    OnlyHere,
    OnlyThere,
    Different,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum FormatName {
    Json,
    Csv,
}

#[derive(ToSchema)]
#[schema(as = Reconciliation)]
pub struct ReconciliationBody {
    #[schema(pattern = "^reconciliation$")]
    object: String,
    account: String,
    #[schema(format = "date")]
    date: String,
    /// finished where there is a result; otherwise how the latest run stands: running, waiting (the provider
    /// has not made the bill yet) or failed. Both are tried again by themselves.
    state: String,
    /// Which run the rows are of; null where there is no result yet.
    run: Option<u32>,
    #[schema(format = "date-time")]
    finished_at: Option<String>,
    summary: ReconciliationSummary,
    latest_run: ReconciliationRun,
    data: Vec<ReconciliationRow>,
    has_more: bool,
    next_cursor: Option<String>,
}

/// The rows you may see, in numbers; sums are in fen.
#[derive(ToSchema)]
pub struct ReconciliationSummary {
    matched: u64,
    only_here: u64,
    only_there: u64,
    different: u64,
    /// Of the matched: those that were missing here until then.
    repaired: u64,
    payments_here: i64,
    payments_there: i64,
    refunds_here: i64,
    refunds_there: i64,
    /// What the provider keeps, less what it gave back with refunds.
    fees_there: i64,
}

#[derive(ToSchema)]
pub struct ReconciliationRun {
    run: u32,
    /// running, waiting, finished or failed.
    state: String,
    #[schema(format = "date-time")]
    started_at: String,
    #[schema(format = "date-time")]
    finished_at: Option<String>,
    /// Why it waits or failed; of a finished one, what could not be compared.
    why: Option<String>,
}

/// One line of the bill, one row of ours, or both.
#[derive(ToSchema)]
pub struct ReconciliationRow {
    number: u32,
    #[schema(inline)]
    verdict: VerdictName,
    /// payment or refund; payment_flow, refund_flow, fee_flow or balance where the movements of the account's
    /// balance do not agree with the trade bill (ours is then the trade bill's line, theirs the movement).
    kind: String,
    /// In what both sides differ: number, transaction, amount, currency, account, application, status, time,
    /// or duplicate (the bill has it more than once).
    field: Option<String>,
    /// It was missing here, and was recorded by this comparison.
    repaired: bool,
    /// null: of no order of this gateway.
    order_id: Option<String>,
    ours: Option<ReconciliationSide>,
    theirs: Option<ReconciliationSide>,
}

#[derive(ToSchema)]
pub struct ReconciliationSide {
    /// The line of the bill.
    line: Option<u32>,
    /// Our number of the trade, as written there.
    out_trade_no: String,
    /// The provider's number of the payment.
    transaction_id: String,
    /// Our number of the refund.
    refund_no: Option<String>,
    /// In fen.
    amount: i64,
    currency: String,
    #[schema(format = "date-time")]
    at: String,
    status: String,
    /// In fen; negative where it was given back.
    fee: Option<i64>,
}
