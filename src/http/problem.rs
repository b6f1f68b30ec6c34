//! Every refusal we utter: RFC 9457 problem documents, their codes, their status codes and the page
//! that explains each (contract §4 "Errors", reliability §6). No other file chooses a status for an
//! error.

use std::borrow::Cow;
use std::fmt;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::request_id;

/// One row of the catalogue: what a code means and what its reader can do.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub code: Code,
    /// As it stands in `code` and at the end of `type`.
    pub name: &'static str,
    pub status: u16,
    pub title: &'static str,
    pub means: &'static str,
    pub remedy: &'static str,
}

macro_rules! catalogue {
    ($($variant:ident $name:literal $status:literal $title:literal $means:literal $remedy:literal;)*) => {
        /// A stable word for each kind of refusal. Programs decide by it, never by `detail`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $($variant,)* }

        /// Every code, in the order of the page `/docs/errors`.
        pub const CATALOGUE: &[Entry] = &[$(Entry {
            code: Code::$variant,
            name: $name,
            status: $status,
            title: $title,
            means: $means,
            remedy: $remedy,
        },)*];

        impl Code {
            pub const fn entry(self) -> &'static Entry {
                &CATALOGUE[self as usize]
            }
        }
    };
}

catalogue! {
    NotFound "not_found" 404 "Not found"
        "There is nothing at this address, or it belongs to another merchant: both look the same on purpose."
        "Check the path and the id. Ids are a prefix and 26 capital characters, such as ord_01J….";
    MethodNotAllowed "method_not_allowed" 405 "Method not allowed"
        "The address exists and does not answer this method."
        "Use one of the methods that the Allow header names.";
    CredentialsMissing "credentials_missing" 401 "Credentials missing"
        "The Authorization header is missing or cannot be read."
        "Send Authorization: ENROLLPAY-HMAC-SHA256 with key_id, timestamp, nonce and signature, as /docs#signing shows.";
    SignatureInvalid "signature_invalid" 401 "Signature invalid"
        "The key is unknown or no longer valid, or the signature is not the one that this key makes of this request."
        "Compare the string you signed with expected_string_to_sign, byte by byte: method, path with query, timestamp, nonce and body, each followed by a line feed. The key is the secret's characters as printed, sk_ included.";
    TimestampStale "timestamp_stale" 401 "Timestamp too far from the server clock"
        "The timestamp differs by more than 300 seconds from the server's clock."
        "Set your clock (NTP), take the time in seconds, and sign each request when you send it.";
    NonceReplayed "nonce_replayed" 401 "Nonce used before"
        "A request that may change something was sent before with this nonce."
        "Make a new nonce and a new signature for every request, retries included. To repeat safely, repeat the Idempotency-Key, not the nonce.";
    BodyTooLarge "body_too_large" 413 "Body too large"
        "The body is larger than this address takes."
        "Keep within the limit that the answer names.";
    BodyTooSlow "body_too_slow" 408 "Body too slow"
        "The body did not arrive completely in the time allowed."
        "Send it again. Nothing was done.";
    UnsupportedMediaType "unsupported_media_type" 415 "Unsupported media type"
        "The body is not declared as what this address reads, or it is compressed."
        "Send Content-Type: application/json (UTF-8), and no Content-Encoding.";
    MalformedJson "malformed_json" 400 "Malformed JSON"
        "The body is not one JSON value in UTF-8, names a member twice, or is nested too deeply."
        "Look at the line and column that the answer names.";
    ValidationFailed "validation_failed" 400 "Validation failed"
        "Members are missing, unknown, of the wrong type or outside their limits."
        "errors lists every finding with a JSON Pointer into your body; query parameters and headers are named instead. Mend all of them and send the request again.";
    AmountInvalid "amount_invalid" 400 "Amount invalid"
        "An amount is no whole number of fen between 1 and 1000000000, or the items do not sum to the order's amount."
        "Amounts are whole fen: 14000 is ¥140.00. Let amount be the sum of the items' amounts.";
    PayBeforeInvalid "pay_before_invalid" 400 "pay_before invalid"
        "pay_before is no RFC 3339 time with an offset, has passed, or is too far ahead."
        "Send a time such as 2026-11-20T18:00:00+08:00 between the bounds that the answer names.";
    MerchantOrderNoConflict "merchant_order_no_conflict" 409 "Merchant order number taken"
        "An order with this merchant_order_no exists with other content. The first one stands."
        "conflicts names the members that differ. For another order use another number; to see the first one, read existing_id.";
    MerchantBillNoConflict "merchant_bill_no_conflict" 409 "Merchant bill number taken"
        "A bill with this merchant_bill_no exists with other content. The first one stands, and nothing of this upload was kept."
        "conflicts names each number, the members that differ, and the bill that stands. For another bill use another number.";
    BillPaying "bill_paying" 409 "Bill being paid"
        "An open order holds the bill: somebody may be paying it at this moment."
        "Wait for the order's end, or cancel the order; once it is closed the bill is free again.";
    LinkExpired "link_expired" 410 "Link expired"
        "The link to a payer's bills is past its time."
        "Have the payer enter again from the school's system, which asks POST /v1/payer_links for a new one.";
    PossibleDuplicate "possible_duplicate" 409 "Possibly paid before"
        "This payer has already paid an order with the same purpose, and the merchant is set to refuse another."
        "Look at existing_id. To charge again on purpose, use another purpose.";
    PayerMismatch "payer_mismatch" 422 "Payer is not the person registered"
        "The payer differs from the registrant, and the merchant is set to take orders only from who is registered."
        "differing names the members. Send the payer that was registered; if another person may pay, an operator can change the merchant: enrollpay merchant set --payer-must-be-registrant false.";
    PayerIdentityUnavailable "payer_identity_unavailable" 422 "No provider checks who pays"
        "payer_identity is provider, and none of the merchant's accounts that this order may use has the provider's permission for it."
        "Use payer_identity confirm or none, or have the permission granted and set payer_identity = true for the [[account]].";
    IdempotencyKeyReused "idempotency_key_reused" 422 "Idempotency-Key reused"
        "This Idempotency-Key was used before with another method, address or body."
        "Use a new key for a new request; repeat the old request byte for byte to get its answer.";
    RequestInProgress "request_in_progress" 409 "Request in progress"
        "The first request under this Idempotency-Key is still running."
        "Wait as Retry-After says, then repeat the same request.";
    AlreadyPaid "already_paid" 409 "Already paid"
        "The order is paid. This is final."
        "Nothing is left to do; read the order for its payment.";
    OrderClosed "order_closed" 409 "Order closed"
        "The order is closed. This is final."
        "To take money for the same thing, create another order under a new number.";
    CancelPending "cancel_pending" 409 "Cancel pending"
        "A cancel was accepted and waits for the provider: no new attempt starts."
        "Wait for order.closed or order.paid, or repeat the cancel to learn its outcome.";
    DeadlinePassed "deadline_passed" 409 "Deadline passed"
        "No attempt starts in the last 120 seconds before pay_before, nor after it."
        "If the payer may still pay, create another order with a later deadline.";
    AttemptClosing "attempt_closing" 409 "Earlier attempt still closing"
        "The earlier code's trade cannot be ended at the provider yet, and two codes must never be payable at once."
        "Try again at retry_at. Whoever scanned the earlier code may still finish paying it.";
    TooManyAttempts "too_many_attempts" 409 "Too many attempts"
        "The order has had as many attempts as an order can have."
        "Create another order.";
    NotPaid "not_paid" 409 "Not paid"
        "The order is not paid, so there can be no receipt of it."
        "Wait for order.paid, then send the fiscal receipt.";
    NotRefundable "not_refundable" 409 "Not refundable"
        "The order has no payment that could be given back."
        "Read the order: only a paid one can be refunded. Surplus goes back by itself.";
    RefundExceedsCaptured "refund_exceeds_captured" 409 "Refund exceeds what is left"
        "The amount is more than the payment less its pending and succeeded refunds."
        "Ask for at most remaining; a refund that failed no longer counts.";
    MerchantRefundNoConflict "merchant_refund_no_conflict" 409 "Merchant refund number taken"
        "A refund with this merchant_refund_no exists with another amount, or of another order. The first one stands."
        "For another refund use another number; to see the first one, read existing_id.";
    TooManyRefunds "too_many_refunds" 409 "Too many refunds"
        "The payment has had 50 refunds, as many as a provider allows."
        "Give the rest back by other means.";
    AlreadyScanned "already_scanned" 410 "Code already scanned"
        "Somebody else scanned this code first (二维码已被扫描)."
        "Ask for a new code.";
    AttemptExpired "attempt_expired" 410 "Code expired"
        "The code's time is up."
        "Ask for a new code.";
    AttemptSuperseded "attempt_superseded" 410 "Code superseded"
        "A newer code took this one's place."
        "Use the newest code of the order.";
    AttemptCancelled "attempt_cancelled" 410 "Code withdrawn"
        "The code was withdrawn: its order was cancelled, or whoever scanned it gave it up."
        "Ask for a new code if the order is still open.";
    AttemptFailed "attempt_failed" 410 "Attempt failed"
        "The provider refused to make the trade for this code."
        "Ask for a new code.";
    TooLate "too_late" 410 "Too late"
        "So little time is left of the code or of the deadline that a payment could not finish."
        "Ask for a new code, if the deadline allows one.";
    NotClaimed "not_claimed" 409 "Not claimed"
        "Only who scanned this code may do this."
        "Scan the code first.";
    PageStale "page_stale" 403 "Page too old"
        "A form was sent that does not belong to this browser's visit: the page was open too long, or another site sent it."
        "Load the page again and press once more.";
    Erased "erased" 410 "Erased"
        "What was kept here was erased together with the payer's data: the time for which it is kept is over, or the payer asked for it. Orders, payments and refunds stay."
        "Read the order: it shows what is left.";
    RateLimited "rate_limited" 429 "Too many requests"
        "One of the limits on requests was reached; limit names it."
        "Wait as Retry-After says and spread your requests.";
    Overloaded "overloaded" 503 "Overloaded"
        "The gateway has more to do than it can take in. Nothing was done."
        "Wait as Retry-After says and repeat the request with the same Idempotency-Key.";
    StoreUnavailable "store_unavailable" 503 "Store unavailable"
        "The gateway cannot reach its store, or cannot tell whether a change was stored."
        "Repeat the request with the same Idempotency-Key: that is safe and shows what happened.";
    ProviderUnavailable "provider_unavailable" 502 "Provider unavailable"
        "The payment provider could not be asked, or its answer proves nothing."
        "Try again in a few seconds; the gateway goes on asking by itself.";
    InternalError "internal_error" 500 "Internal error"
        "The gateway failed in a way it did not foresee."
        "Report the request_id. Repeating the request with the same Idempotency-Key is safe.";
}

/// A finding about one member of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = FieldError)]
pub struct FieldError {
    /// A JSON Pointer into the body (RFC 6901), or the name of a query parameter or header.
    #[schema(example = "/items/0/amount")]
    pub pointer: String,
    /// What was expected, and what was found.
    #[schema(example = "expected a whole number of fen, found a string")]
    pub detail: String,
}

/// A refusal on its way out. `?` turns it into the answer.
#[derive(Clone)]
pub struct Problem(Box<Inner>);

#[derive(Clone)]
struct Inner {
    code: Code,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    extra: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
    close: bool,
}

impl Problem {
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            extra: Map::new(),
            headers: Vec::new(),
            close: false,
        }))
    }

    pub fn code(&self) -> Code {
        self.0.code
    }

    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.0.headers
    }

    pub fn errors(&self) -> &[FieldError] {
        &self.0.errors
    }

    /// A further member of the document, for programs.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.extra.insert(name.to_owned(), value.into());
        self
    }

    #[must_use]
    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.0.errors = errors;
        self
    }

    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        self.0.errors.push(FieldError {
            pointer: pointer.into(),
            detail: detail.into(),
        });
        self
    }

    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    #[must_use]
    pub fn retry_after(self, seconds: u32) -> Self {
        self.header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// Ends the connection after the answer: the rest of the body stays unread.
    #[must_use]
    pub fn closing(mut self) -> Self {
        self.0.close = true;
        self
    }

    pub fn not_found() -> Self {
        Self::new(
            Code::NotFound,
            "Nothing is known under this address: expected the id of an object of yours.",
        )
    }

    /// `allowed` is the `Allow` header, such as `"GET, POST"`.
    pub fn method_not_allowed(allowed: &str) -> Self {
        let problem = Self::new(
            Code::MethodNotAllowed,
            format!("Expected one of these methods: {allowed}."),
        );
        match HeaderValue::from_str(allowed) {
            Ok(value) => problem.header(header::ALLOW, value),
            Err(_) => problem,
        }
    }

    /// The JSON document, with the id of the request that is being answered.
    pub fn document(&self) -> Value {
        let entry = self.0.code.entry();
        let mut document = Map::new();
        document.insert(
            "type".to_owned(),
            json!(format!("/docs/errors/{}", entry.name)),
        );
        document.insert("title".to_owned(), json!(entry.title));
        document.insert("status".to_owned(), json!(entry.status));
        document.insert("detail".to_owned(), json!(self.0.detail));
        document.insert("code".to_owned(), json!(entry.name));
        document.insert("request_id".to_owned(), json!(request_id::current()));
        if !self.0.errors.is_empty() {
            document.insert("errors".to_owned(), json!(self.0.errors));
        }
        document.extend(self.0.extra.clone());
        Value::Object(document)
    }
}

impl fmt::Debug for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("Problem")
            .field(&self.0.code)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0.code.entry().name)
    }
}

impl std::error::Error for Problem {}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.0.code.entry().status)
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let mut response = HttpResponse::build(self.status_code());
        for (name, value) in &self.0.headers {
            response.append_header((name.clone(), value.clone()));
        }
        if self.0.close {
            response.force_close();
        }
        response
            .content_type("application/problem+json")
            .body(self.document().to_string())
    }
}

/// The route that answers every method a resource does not have.
pub fn only(allowed: &'static str) -> actix_web::Route {
    actix_web::web::route().to(move || async move {
        Err::<HttpResponse, Problem>(Problem::method_not_allowed(allowed))
    })
}

/// The handler of every address that does not exist.
pub async fn nowhere() -> Result<HttpResponse, Problem> {
    Err(Problem::not_found())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_code_has_its_own_page_and_status() {
        let names: BTreeSet<_> = CATALOGUE.iter().map(|entry| entry.name).collect();
        assert_eq!(names.len(), CATALOGUE.len());
        for entry in CATALOGUE {
            assert_eq!(entry.code.entry().name, entry.name);
            assert!((400..600).contains(&entry.status), "{}", entry.name);
            assert!(entry.means.ends_with('.') && entry.remedy.len() > 10);
        }
    }

    #[test]
    fn says_what_the_contract_lists() {
        let problem = Problem::new(Code::ValidationFailed, "Two findings.")
            .at("/a", "expected a text")
            .with("limit", 3);
        let document = problem.document();
        let members: Vec<_> = document.as_object().unwrap().keys().collect();
        let expected = [
            "type",
            "title",
            "status",
            "detail",
            "code",
            "request_id",
            "errors",
            "limit",
        ];
        assert_eq!(members, expected);
        assert_eq!(document["type"], "/docs/errors/validation_failed");
    }
}
