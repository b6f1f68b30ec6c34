//! The OpenAPI 3.1 description, gathered from the handlers, and the shapes it names. The types here
//! exist to be described: `view` and the handlers write the JSON, and a test holds both together.

#![allow(
    dead_code,
    missing_debug_implementations,
    reason = "the shapes are read by the derive that describes them, not by code"
)]

mod bills;
mod events;
mod refunds;

use std::sync::LazyLock;

use actix_web::HttpResponse;
use serde_json::{Value, json};
use utoipa::{IntoParams, OpenApi, ToSchema};

use super::merchant::{
    bills as bills_api, cancel, create_order, create_refund, fiscal_receipt, list_events,
    list_orders, list_refunds, payer_links, query, read_order, read_refund, reconciliations,
    resend_event, start_attempt, timeline,
};
use super::problem::{CATALOGUE, FieldError};

pub use bills::{
    BillBody, BillIdPath, BillListBody, BillRefBody, BillsQuery, NewPayerLinkBody, PayerLinkBody,
    UploadBody, UploadedBody, example_bill,
};
pub use events::{EventIdPath, EventListBody, EventsQuery, ResentBody, WebhookBody};
pub use refunds::{
    NewRefundBody, OrderRefundBody, RefundBody, RefundIdPath, RefundListBody, example_refund,
};

/// Gathers the endpoints of the merchant API.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "enrollpay merchant API",
        description = "Payment orders for education enrolment fees, paid by WeChat Pay or Alipay. \
            JSON in and out, UTF-8. Money is a whole number of fen (14000 is ¥140.00). Times are \
            RFC 3339 with an offset. Every response carries X-Request-Id. Errors are RFC 9457 problem \
            documents; decide by their code. See /docs for signing, webhooks and a quickstart.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        create_order::create_order,
        list_orders::list_orders,
        read_order::read_order,
        start_attempt::start_attempt,
        query::query_order,
        cancel::cancel_order,
        create_refund::create_refund,
        list_refunds::list_refunds,
        read_refund::read_refund,
        fiscal_receipt::issue_fiscal_receipt,
        timeline::read_timeline,
        bills_api::create::create_bills,
        bills_api::list::list_bills,
        bills_api::read::read_bill,
        bills_api::cancel::cancel_bill,
        payer_links::create_payer_link,
        reconciliations::read_reconciliation,
        list_events::list_events,
        resend_event::resend_event,
    ),
    components(schemas(ProblemBody, FieldError, WebhookBody)),
    tags(
        (name = "Orders", description = "One payment asked for by a merchant"),
        (name = "Bills", description = "What payers owe, to be ticked and paid together"),
        (name = "Reconciliations", description = "The providers' bills against the books"),
        (name = "Refunds", description = "A paid order's money on its way back"),
        (name = "Events", description = "What webhooks carry, for those who poll"),
    ),
)]
struct Described;

/// The refusals that any signed request may get: status and codes.
const EVERYWHERE: [(&str, &str); 9] = [
    (
        "400",
        "malformed_json, validation_failed, amount_invalid or pay_before_invalid",
    ),
    (
        "401",
        "credentials_missing, signature_invalid, timestamp_stale or nonce_replayed",
    ),
    ("405", "method_not_allowed"),
    ("408", "body_too_slow"),
    ("413", "body_too_large"),
    ("415", "unsupported_media_type"),
    ("429", "rate_limited"),
    ("500", "internal_error"),
    ("503", "overloaded or store_unavailable"),
];

/// The document as served.
pub static DOCUMENT: LazyLock<Value> = LazyLock::new(document);

fn document() -> Value {
    let mut document =
        serde_json::to_value(Described::openapi()).expect("the description serialises");
    let problem = |description: &str| {
        json!({
            "description": description,
            "content": { "application/problem+json": {
                "schema": { "$ref": "#/components/schemas/Problem" },
            } },
        })
    };
    let request_id = json!({
        "description": "The number of this request in our log",
        "schema": { "type": "string" },
    });
    document["security"] = json!([{ "signature": [] }]);
    document["components"]["securitySchemes"]["signature"] = json!({
        "type": "http",
        "scheme": super::auth::SCHEME,
        "description": "Authorization: ENROLLPAY-HMAC-SHA256 key_id=\"key_…\",timestamp=\"seconds\",\
            nonce=\"16 to 64 characters\",signature=\"Base64\": HMAC-SHA256 by the secret's \
            characters as printed, over METHOD, PATH?QUERY, TIMESTAMP, NONCE and BODY, each followed \
            by a line feed.",
    });
    // Unknown members are refused in what merchants send.
    for name in [
        "NewOrder",
        "Item",
        "NewPayer",
        "DisplayField",
        "StartAttempt",
        "NewRefund",
        "NewFiscalReceipt",
        "NewBill",
        "NewBills",
        "NewPayerLink",
    ] {
        document["components"]["schemas"][name]["additionalProperties"] = json!(false);
    }
    let paths = document["paths"].as_object_mut().expect("an object");
    let operations = paths
        .values_mut()
        .filter_map(Value::as_object_mut)
        .flat_map(|item| item.values_mut());
    for operation in operations {
        let Some(responses) = operation["responses"].as_object_mut() else {
            continue;
        };
        for (status, codes) in EVERYWHERE {
            let mut response = problem(codes);
            if matches!(status, "429" | "503") {
                response["headers"]["Retry-After"] = json!({
                    "description": "Seconds to wait", "schema": { "type": "integer" },
                });
            }
            if status == "405" {
                response["headers"]["Allow"] = json!({
                    "description": "The methods that exist", "schema": { "type": "string" },
                });
            }
            if status == "401" {
                response["headers"]["WWW-Authenticate"] = json!({
                    "description": "The scheme, where credentials are missing",
                    "schema": { "type": "string" },
                });
            }
            responses.entry(status).or_insert(response);
        }
        responses.sort_keys();
        for response in responses.values_mut() {
            response["headers"]["X-Request-Id"] = request_id.clone();
        }
    }
    document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"] =
        CATALOGUE.iter().map(|entry| entry.name).collect();
    document
}

/// `GET /openapi.json`.
pub async fn openapi_json() -> HttpResponse {
    HttpResponse::Ok().json(&*DOCUMENT)
}

/// `Idempotency-Key`, on every POST.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub struct IdempotencyKey {
    /// Repeats with the same key, method, address and body get the first answer, for at least 30
    /// days. Kept are 2xx (never 202) and refusals by state (409, 410, 422).
    #[param(
        rename = "Idempotency-Key",
        required = false,
        min_length = 1,
        max_length = 255,
        example = "5f0c6e1a-create-ZK202104-000123"
    )]
    idempotency_key: String,
}

/// `{id}` of an order.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct OrderIdPath {
    /// The order's id.
    #[param(
        example = "ord_01KAH8Z6D0W2F4M6P8R0T2V4X6",
        pattern = "^ord_[0-9A-HJKMNP-TV-Z]{26}$"
    )]
    id: String,
}

/// The filters of `GET /v1/orders`.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// The order with this number.
    #[param(required = false, max_length = 64)]
    merchant_order_no: String,
    /// Orders of this payer.
    #[param(required = false, max_length = 128)]
    payer_ref: String,
    #[param(required = false, inline)]
    status: OrderStatus,
    /// Orders made after this instant (RFC 3339; write + as %2B).
    #[param(required = false, format = "date-time")]
    created_after: String,
    /// next_cursor of an earlier answer.
    #[param(required = false)]
    cursor: String,
    #[param(required = false, minimum = 1, maximum = 100, default = 20)]
    limit: u32,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum OrderStatus {
    Unpaid,
    Paying,
    Paid,
    Closed,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum WalletName {
    Wechat,
    Alipay,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum LatePaymentRule {
    Refund,
    Accept,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum PayerIdentityRule {
    None,
    Confirm,
    Provider,
}

/// A new order.
#[derive(ToSchema)]
#[schema(as = NewOrder, example = json!(example_order()))]
pub struct NewOrderBody {
    /// Your number of it, unique among your orders for ever: letters, digits and _ - . : /
    #[schema(max_length = 64, min_length = 1, pattern = "^[A-Za-z0-9_.:/-]+$")]
    merchant_order_no: String,
    /// What the payer reads.
    #[schema(max_length = 127, min_length = 1)]
    subject: String,
    #[schema(min_items = 1, max_items = 200)]
    items: Vec<ItemBody>,
    /// In fen; the sum of the items.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    amount: i64,
    #[schema(pattern = "^CNY$")]
    currency: String,
    payer: NewPayer,
    /// The person registered, where you want the cashier to show them if they are not the payer. Needed
    /// where the merchant is set so that payers must be who is registered.
    registrant: Option<NewRegistrant>,
    /// Without it: whatever your accounts offer.
    #[schema(min_items = 1, max_items = 2)]
    wallets: Option<Vec<WalletName>>,
    /// What the fee is for: a second order of a payer who has paid the same purpose is marked
    /// possible_duplicate.
    #[schema(max_length = 64)]
    purpose: Option<String>,
    /// With late_payment "accept": how long after pay_before a payment still counts.
    #[schema(minimum = 0, maximum = 2_592_000)]
    late_grace_seconds: Option<i64>,
    #[schema(max_length = 254, format = "email")]
    receipt_email: Option<String>,
    /// confirm: the payer ticks that they pay for this person. provider: WeChat Pay or Alipay refuses the
    /// wallet of anybody but payer.name with payer.id_number, a resident identity card's; both are needed
    /// then.
    payer_identity: Option<PayerIdentityRule>,
    #[schema(max_items = 20)]
    display_fields: Option<Vec<DisplayFieldBody>>,
    /// The deadline, judged by the provider's success time. RFC 3339 with an offset.
    #[schema(format = "date-time")]
    pay_before: Option<String>,
    late_payment: Option<LatePaymentRule>,
    /// Where the payer may go back to: https, on one of your return_hosts where you registered any.
    #[schema(max_length = 2048, format = "uri")]
    return_url: Option<String>,
    /// Up to 20 members; texts up to 500 characters, whole numbers, true, false or null.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
}

#[derive(ToSchema)]
#[schema(as = Item)]
pub struct ItemBody {
    #[schema(max_length = 64)]
    code: Option<String>,
    #[schema(max_length = 128, min_length = 1)]
    name: String,
    #[schema(max_length = 256)]
    note: Option<String>,
    /// In fen.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    amount: i64,
}

#[derive(ToSchema)]
pub struct NewPayer {
    /// Your number of the payer. Visible ASCII without blanks.
    #[schema(max_length = 128, min_length = 1)]
    r#ref: String,
    #[schema(max_length = 64)]
    name: Option<String>,
    #[schema(max_length = 32)]
    id_number: Option<String>,
    #[schema(max_length = 20)]
    phone: Option<String>,
}

/// At least one member.
#[derive(ToSchema)]
pub struct NewRegistrant {
    #[schema(max_length = 64)]
    name: Option<String>,
    #[schema(max_length = 32)]
    id_number: Option<String>,
    #[schema(max_length = 20)]
    phone: Option<String>,
}

#[derive(ToSchema)]
#[schema(as = DisplayField)]
pub struct DisplayFieldBody {
    #[schema(max_length = 32, min_length = 1)]
    label: String,
    #[schema(max_length = 128, min_length = 1)]
    value: String,
}

/// An order, as of its version.
#[derive(ToSchema)]
#[schema(as = Order)]
pub struct OrderBody {
    #[schema(example = "ord_01KAH8Z6D0W2F4M6P8R0T2V4X6")]
    id: String,
    #[schema(pattern = "^order$")]
    object: String,
    merchant_order_no: String,
    #[schema(inline)]
    status: OrderStatus,
    /// none, partial or full: of the capture that pays the order.
    refund_status: String,
    amount: i64,
    amount_paid: i64,
    amount_refunded: i64,
    currency: String,
    subject: String,
    items: Vec<ItemBody>,
    payer: MaskedPayerBody,
    /// null where none was named, or once erased.
    registrant: Option<MaskedRegistrantBody>,
    wallets: Vec<WalletName>,
    purpose: Option<String>,
    #[schema(inline)]
    payer_identity: PayerIdentityRule,
    #[schema(format = "date-time")]
    pay_before: Option<String>,
    #[schema(inline)]
    late_payment: LatePaymentRule,
    late_grace_seconds: i64,
    return_url: Option<String>,
    /// true: one code for both wallets, and only who scanned it first can pay it.
    single_scan: bool,
    #[schema(format = "date-time")]
    created_at: String,
    /// The provider's success time.
    #[schema(format = "date-time")]
    paid_at: Option<String>,
    #[schema(format = "date-time")]
    closed_at: Option<String>,
    /// cancelled or deadline.
    close_reason: Option<String>,
    /// A cancel was accepted then; the end comes as order.closed or order.paid.
    #[schema(format = "date-time")]
    cancel_requested_at: Option<String>,
    /// The page to send the payer to.
    cashier_url: String,
    /// The newest attempt.
    attempt: Option<AttemptBody>,
    payment: Option<PaymentBody>,
    /// The payment voucher's page, to show and to print, from the payment on.
    receipt_url: Option<String>,
    /// The last one that you sent.
    fiscal_receipt: Option<FiscalReceiptBody>,
    /// Money that the order did not owe, and its way back.
    surplus: Vec<SurplusBody>,
    /// What you gave back of the payment, in the order you asked for it.
    refunds: Vec<OrderRefundBody>,
    /// A paid order of the same payer and purpose.
    possible_duplicate: Option<String>,
    /// The bills that it pays; only where it was made of bills.
    #[schema(required = false)]
    bills: Vec<BillRefBody>,
    /// As you sent it; null once erased.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
    /// A keyed hash over everything asked for but what is personal.
    snapshot_hash: String,
    /// Grows with every change. Keep the highest one you saw.
    version: u64,
}

#[derive(ToSchema)]
#[schema(as = MaskedPayer)]
pub struct MaskedPayerBody {
    /// null once erased.
    r#ref: Option<String>,
    #[schema(example = "测*")]
    name: Option<String>,
    #[schema(example = "6501**********0011")]
    id_number: Option<String>,
    #[schema(example = "138****0000")]
    phone: Option<String>,
}

#[derive(ToSchema)]
#[schema(as = MaskedRegistrant)]
pub struct MaskedRegistrantBody {
    name: Option<String>,
    id_number: Option<String>,
    phone: Option<String>,
}

/// One QR code of an order.
#[derive(ToSchema)]
#[schema(as = Attempt)]
pub struct AttemptBody {
    id: String,
    #[schema(pattern = "^attempt$")]
    object: String,
    number: u16,
    /// shown, scanned, closing, succeeded, expired, cancelled or failed.
    status: String,
    /// cancelled, superseded or released.
    end_reason: Option<String>,
    #[schema(nullable, inline)]
    wallet: Option<WalletName>,
    qr_svg_url: Option<String>,
    qr_png_url: Option<String>,
    /// What the code holds; null once nobody may scan it any more.
    qr_content: Option<String>,
    #[schema(format = "date-time")]
    started_at: String,
    #[schema(format = "date-time")]
    expires_at: String,
}

/// An attempt that was just started.
#[derive(ToSchema)]
#[schema(as = StartedAttempt)]
pub struct StartedBody {
    #[schema(inline)]
    #[serde(flatten)]
    attempt: AttemptBody,
    order_id: String,
    /// Until expires_at, by the server's clock at server_time. Count down from this, not by your clock.
    remaining_ms: i64,
    #[schema(format = "date-time")]
    server_time: String,
}

#[derive(ToSchema)]
#[schema(as = StartAttempt)]
pub struct StartAttemptBody {
    /// Required where the order has single_scan: false.
    #[schema(nullable, inline)]
    wallet: Option<WalletName>,
}

#[derive(ToSchema)]
#[schema(as = Payment)]
pub struct PaymentBody {
    #[schema(inline)]
    wallet: WalletName,
    transaction_id: String,
    amount: i64,
    #[schema(format = "date-time")]
    paid_at: String,
}

#[derive(ToSchema)]
#[schema(as = Surplus)]
pub struct SurplusBody {
    amount: i64,
    #[schema(inline)]
    wallet: WalletName,
    transaction_id: String,
    /// The refund that gives it back.
    refund: String,
    #[schema(inline)]
    status: refunds::RefundStatus,
}

/// A fiscal e-receipt (财政电子票据) of your own system.
#[derive(ToSchema)]
#[schema(as = FiscalReceipt)]
pub struct FiscalReceiptBody {
    number: String,
    #[schema(format = "uri")]
    url: String,
    #[schema(format = "date-time")]
    issued_at: String,
}

#[derive(ToSchema)]
#[schema(as = NewFiscalReceipt)]
pub struct NewFiscalReceiptBody {
    /// Letters, digits and _ - . : /
    #[schema(
        max_length = 64,
        min_length = 1,
        pattern = "^[A-Za-z0-9_.:/-]+$",
        example = "6501012600000123"
    )]
    number: String,
    /// Where the payer can see it: https.
    #[schema(
        max_length = 2048,
        format = "uri",
        example = "https://czpj.example.gov.cn/check?number=6501012600000123"
    )]
    url: String,
    /// RFC 3339 with an offset; without it, when you first sent it.
    #[schema(format = "date-time")]
    issued_at: Option<String>,
}

#[derive(ToSchema)]
#[schema(as = OrderList)]
pub struct OrderListBody {
    #[schema(pattern = "^list$")]
    object: String,
    data: Vec<OrderBody>,
    has_more: bool,
    next_cursor: Option<String>,
}

#[derive(ToSchema)]
#[schema(as = OrderQuery)]
pub struct QueriedBody {
    #[schema(pattern = "^order_query$")]
    object: String,
    /// What asking came to.
    #[schema(pattern = "^(paid|unpaid|nothing_to_ask|provider_unreachable)$")]
    outcome: String,
    /// When the provider was last asked; null where there is nothing to ask about.
    #[schema(format = "date-time")]
    as_of: Option<String>,
    #[schema(format = "date-time")]
    server_time: String,
    order: OrderBody,
}

#[derive(ToSchema)]
#[schema(as = Timeline)]
pub struct TimelineBody {
    #[schema(pattern = "^timeline$")]
    object: String,
    order_id: String,
    data: Vec<TimelineLine>,
}

#[derive(ToSchema)]
pub struct TimelineLine {
    /// The order's version that this belongs to.
    version: u64,
    position: u16,
    #[schema(format = "date-time")]
    at: String,
    /// merchant, payer, provider, operator or gateway.
    actor: String,
    cause: String,
    request_id: Option<String>,
    r#type: String,
    /// One sentence.
    summary: String,
    #[schema(value_type = Object)]
    details: Value,
}

/// RFC 9457, with our members.
#[derive(ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// The page that explains this code.
    #[schema(format = "uri-reference", example = "/docs/errors/amount_invalid")]
    r#type: String,
    title: String,
    status: u16,
    /// What was expected, what was found, what to do.
    detail: String,
    /// Decide by this.
    code: String,
    request_id: Option<String>,
    /// Every finding about single members.
    #[schema(required = false)]
    errors: Vec<FieldError>,
}

/// The order of the quickstart.
pub fn example_order() -> Value {
    json!({
        "merchant_order_no": "ZK202104-000123",
        "subject": "2021年4月自学考试报考费",
        "items": [
            { "code": "00024", "name": "普通逻辑", "note": "2021年04月01日 上午", "amount": 3500 },
            { "code": "00536", "name": "古代汉语", "note": "2021年04月01日 下午", "amount": 3500 },
            { "code": "00538", "name": "中国古代文学史", "amount": 7000 }
        ],
        "amount": 14000,
        "currency": "CNY",
        "payer": { "ref": "650102200001010011", "name": "测试考生", "id_number": "650102200001010011", "phone": "13800000000" },
        "wallets": ["wechat", "alipay"],
        "purpose": "ZK202104",
        "display_fields": [{ "label": "考区", "value": "乌鲁木齐" }],
        "metadata": { "exam": "202104" }
    })
}
