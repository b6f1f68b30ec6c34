//! The shapes of bills and of the links that lead to them.

use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::{ItemBody, LatePaymentRule, MaskedPayerBody, NewPayer};

/// `{id}` of a bill.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct BillIdPath {
    /// The bill's id.
    #[param(
        example = "bil_01KAH8Z6D0W2F4M6P8R0T2V4X6",
        pattern = "^bil_[0-9A-HJKMNP-TV-Z]{26}$"
    )]
    id: String,
}

/// The filters of `GET /v1/bills`.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct BillsQuery {
    /// Bills of this payer.
    #[param(required = false, max_length = 128)]
    payer_ref: String,
    #[param(required = false, inline)]
    status: BillStanding,
    /// The bill with this number.
    #[param(required = false, max_length = 64)]
    merchant_bill_no: String,
    /// next_cursor of an earlier answer.
    #[param(required = false)]
    cursor: String,
    #[param(required = false, minimum = 1, maximum = 100, default = 20)]
    limit: u32,
}

/// unpaid: may be ticked. paying: an open order holds it. paid and closed are final, but that a bill
/// closed by its deadline may still be paid by an order that was made in time.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum BillStanding {
    Unpaid,
    Paying,
    Paid,
    Closed,
}

/// A new bill.
#[derive(ToSchema)]
#[schema(as = NewBill, example = json!(example_bill()))]
pub struct NewBillBody {
    /// Your number of it, unique among your bills for ever: letters, digits and _ - . : /
    #[schema(max_length = 64, min_length = 1, pattern = "^[A-Za-z0-9_.:/-]+$")]
    merchant_bill_no: String,
    /// What the payer reads.
    #[schema(max_length = 127, min_length = 1)]
    subject: String,
    #[schema(min_items = 1, max_items = 200)]
    items: Vec<ItemBody>,
    /// In fen; the sum of the items.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    amount: i64,
    #[schema(pattern = "^CNY$")]
    currency: Option<String>,
    payer: NewPayer,
    /// The deadline: RFC 3339 with an offset. From then on the bill is closed. A bill without one can be
    /// paid until you cancel it, or until its payer is erased.
    #[schema(format = "date-time")]
    pay_before: Option<String>,
    late_payment: Option<LatePaymentRule>,
    /// With late_payment "accept": how long after pay_before a payment still counts.
    #[schema(minimum = 0, maximum = 2_592_000)]
    late_grace_seconds: Option<i64>,
    /// Up to 20 members; texts up to 500 characters, whole numbers, true, false or null.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
}

#[derive(ToSchema)]
#[schema(as = NewBills)]
pub struct NewBillsBody {
    #[schema(min_items = 1, max_items = 1000)]
    bills: Vec<NewBillBody>,
}

#[derive(ToSchema)]
#[schema(as = BillUpload)]
#[serde(untagged)]
pub enum UploadBody {
    One(Box<NewBillBody>),
    Many(NewBillsBody),
}

/// A bill as it stands.
#[derive(ToSchema)]
#[schema(as = Bill)]
pub struct BillBody {
    #[schema(example = "bil_01KAH8Z6D0W2F4M6P8R0T2V4X6")]
    id: String,
    #[schema(pattern = "^bill$")]
    object: String,
    merchant_bill_no: String,
    #[schema(inline)]
    status: BillStanding,
    subject: String,
    amount: i64,
    currency: String,
    items: Vec<ItemBody>,
    payer: MaskedPayerBody,
    #[schema(format = "date-time")]
    pay_before: Option<String>,
    #[schema(inline)]
    late_payment: LatePaymentRule,
    late_grace_seconds: i64,
    /// The open order that holds it, or the one that paid it.
    order: Option<String>,
    /// The provider's success time.
    #[schema(format = "date-time")]
    paid_at: Option<String>,
    receipt_url: Option<String>,
    #[schema(format = "date-time")]
    created_at: String,
    #[schema(format = "date-time")]
    closed_at: Option<String>,
    /// cancelled or deadline.
    close_reason: Option<String>,
    /// As you sent it; null once erased.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
}

#[derive(ToSchema)]
#[schema(as = UploadedBills)]
pub struct UploadedListBody {
    #[schema(pattern = "^list$")]
    object: String,
    /// In the order of the upload.
    data: Vec<BillBody>,
}

#[derive(ToSchema)]
#[schema(as = Uploaded)]
#[serde(untagged)]
pub enum UploadedBody {
    One(Box<BillBody>),
    Many(UploadedListBody),
}

#[derive(ToSchema)]
#[schema(as = BillList)]
pub struct BillListBody {
    #[schema(pattern = "^list$")]
    object: String,
    data: Vec<BillBody>,
    has_more: bool,
    next_cursor: Option<String>,
}

/// A bill as its order names it.
#[derive(ToSchema)]
#[schema(as = BillRef)]
pub struct BillRefBody {
    id: String,
    merchant_bill_no: String,
}

#[derive(ToSchema)]
#[schema(as = NewPayerLink)]
pub struct NewPayerLinkBody {
    /// Whose bills. What is given beside ref is shown, masked, at the head of the page.
    payer: NewPayer,
    /// Where the payer may go back to: https, on one of your return_hosts where you registered any.
    #[schema(max_length = 2048, format = "uri")]
    return_url: Option<String>,
    #[schema(minimum = 60, maximum = 86_400, default = 7200)]
    expires_in_seconds: Option<i64>,
}

#[derive(ToSchema)]
#[schema(as = PayerLink)]
pub struct PayerLinkBody {
    #[schema(pattern = "^payer_link$")]
    object: String,
    /// Redirect the payer there.
    url: String,
    #[schema(format = "date-time")]
    expires_at: String,
}

/// The bill of the documentation.
pub fn example_bill() -> Value {
    json!({
        "merchant_bill_no": "XF2021-000123-1",
        "subject": "2021年学费",
        "items": [{ "name": "学费", "amount": 480_000 }, { "name": "住宿费", "amount": 120_000 }],
        "amount": 600_000,
        "payer": { "ref": "20210001", "name": "测试考生" },
        "pay_before": "2026-12-31T18:00:00+08:00"
    })
}
