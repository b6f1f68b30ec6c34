//! The shapes of refunds.

use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::WalletName;

/// `{refund_id}` of a refund.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct RefundIdPath {
    /// The refund's id.
    #[param(
        example = "rfd_01KAH8Z6D0W2F4M6P8R0T2V4X6",
        pattern = "^rfd_[0-9A-HJKMNP-TV-Z]{26}$"
    )]
    refund_id: String,
}

/// A refund to be made.
#[derive(ToSchema)]
#[schema(as = NewRefund, example = json!(example_refund()))]
pub struct NewRefundBody {
    /// Your number of it, unique among your refunds for ever: letters, digits and _ - . : /
    #[schema(max_length = 64, min_length = 1, pattern = "^[A-Za-z0-9_.:/-]+$")]
    merchant_refund_no: String,
    /// In fen.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    amount: i64,
    /// What the payer reads beside the money. A number that looks like a bank card's is masked on its
    /// way to the provider.
    #[schema(max_length = 80, min_length = 1)]
    reason: Option<String>,
}

/// pending: accepted here, or by the provider too. abnormal: the payer's account cannot take it, and a
/// person must name another way. succeeded and failed are final.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum RefundStatus {
    Pending,
    Abnormal,
    Succeeded,
    Failed,
}

/// merchant: you asked. surplus: the order did not owe the money. mismatch: two operators decided so
/// about money that did not fit.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum RefundCause {
    Merchant,
    Surplus,
    Mismatch,
}

/// A refund, as its order and its webhook tell it.
#[derive(ToSchema)]
#[schema(as = OrderRefund)]
pub struct OrderRefundBody {
    #[schema(example = "rfd_01KAH8Z6D0W2F4M6P8R0T2V4X6")]
    id: String,
    #[schema(pattern = "^refund$")]
    object: String,
    order_id: String,
    #[schema(inline)]
    cause: RefundCause,
    /// null where you did not ask.
    merchant_refund_no: Option<String>,
    /// Our number of it at the provider (out_refund_no, out_request_no).
    number: String,
    #[schema(nullable, inline)]
    wallet: Option<WalletName>,
    /// The provider's number of the payment that it draws on.
    transaction_id: String,
    /// In fen.
    amount: i64,
    currency: String,
    #[schema(inline)]
    status: RefundStatus,
    /// Why it does not come to its end: underfunded (your balance at the provider is too small; it goes
    /// on by itself once it is not), payer_account (the payer's account cannot take it), refused (the
    /// provider's final no; ask again under another number).
    attention: Option<String>,
    #[schema(format = "date-time")]
    created_at: String,
    /// When it succeeded or failed.
    #[schema(format = "date-time")]
    ended_at: Option<String>,
}

/// A refund, with your reason.
#[derive(ToSchema)]
#[schema(as = Refund)]
pub struct RefundBody {
    #[schema(inline)]
    #[serde(flatten)]
    refund: OrderRefundBody,
    /// As you sent it; null where you gave none, and once it was erased.
    reason: Option<String>,
}

#[derive(ToSchema)]
#[schema(as = RefundList)]
pub struct RefundListBody {
    #[schema(pattern = "^list$")]
    object: String,
    data: Vec<RefundBody>,
}

/// The refund of the documentation.
pub fn example_refund() -> Value {
    json!({
        "merchant_refund_no": "TK202104-000123-1",
        "amount": 3500,
        "reason": "一门课程停考",
    })
}
