//! Alipay's own words: `biz_content` of requests, answers (protocol §2), error codes (§4).

use jiff::civil::Date;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};

use crate::order::{Fen, OutTradeNo, RefundAnswer};
use crate::provider::{Identity, PayerId, RefundRequest, Success, TradeRequest, TradeState};
use crate::provider::{beijing, texts};

const SUBJECT_LIMIT: usize = 256;

#[derive(Serialize)]
struct Trade<'a> {
    out_trade_no: String,
    total_amount: String,
    subject: String,
    product_code: &'a str,
    time_expire: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    op_app_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    buyer_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    buyer_open_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quit_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ext_user_info: Option<ExtUserInfo<'a>>,
}

/// Whoever must pay: the wallet of another person is refused.
#[derive(Serialize)]
struct ExtUserInfo<'a> {
    name: &'a str,
    cert_type: &'static str,
    cert_no: &'a str,
    need_check_info: &'static str,
    fix_buyer: &'static str,
}

impl<'a> ExtUserInfo<'a> {
    fn of(identity: &'a Identity) -> Self {
        Self {
            name: identity.name.expose_secret(),
            cert_type: "IDENTITY_CARD",
            cert_no: identity.id_number.expose_secret(),
            need_check_info: "T",
            fix_buyer: "T",
        }
    }
}

fn trade<'a>(request: &'a TradeRequest, product_code: &'a str) -> Trade<'a> {
    Trade {
        out_trade_no: request.out_trade_no.to_string(),
        total_amount: request.amount.to_yuan(),
        subject: subject(&request.subject),
        product_code,
        time_expire: beijing::plain(request.time_expire),
        op_app_id: None,
        buyer_id: None,
        buyer_open_id: None,
        quit_url: None,
        ext_user_info: request.identity.as_ref().map(ExtUserInfo::of),
    }
}

/// Alipay refuses `/`, `=` and `&` in a subject: their full-width forms read the same.
fn subject(text: &str) -> String {
    let cleaned: String = texts::clean(text, SUBJECT_LIMIT)
        .chars()
        .map(|character| match character {
            '/' => '／',
            '=' => '＝',
            '&' => '＆',
            other => other,
        })
        .collect();
    if cleaned.is_empty() {
        "缴费".to_owned()
    } else {
        cleaned
    }
}

/// `alipay.trade.create` for one buyer inside Alipay.
pub fn create(request: &TradeRequest, app_id: &str, payer: &PayerId) -> String {
    let payer = payer.0.expose_secret();
    let is_user_id = payer.len() == 16
        && payer.starts_with("2088")
        && payer.bytes().all(|byte| byte.is_ascii_digit());
    to_json(&Trade {
        op_app_id: Some(app_id),
        buyer_id: is_user_id.then_some(payer),
        buyer_open_id: (!is_user_id).then_some(payer),
        ..trade(request, "JSAPI_PAY")
    })
}

pub fn precreate(request: &TradeRequest, product_code: &str) -> String {
    to_json(&trade(request, product_code))
}

pub fn wap_pay(request: &TradeRequest) -> String {
    to_json(&Trade {
        quit_url: request.return_url.as_deref(),
        ..trade(request, "QUICK_WAP_WAY")
    })
}

pub fn by_number(out_trade_no: OutTradeNo) -> String {
    #[derive(Serialize)]
    struct ByNumber {
        out_trade_no: OutTradeNo,
    }
    to_json(&ByNumber { out_trade_no })
}

pub fn refund(request: &RefundRequest) -> String {
    #[derive(Serialize)]
    struct Content<'a> {
        out_trade_no: OutTradeNo,
        refund_amount: String,
        out_request_no: &'a str,
        #[serde(skip_serializing_if = "String::is_empty")]
        refund_reason: String,
    }
    to_json(&Content {
        out_trade_no: request.out_trade_no,
        refund_amount: request.amount.to_yuan(),
        out_request_no: &request.refund_no,
        refund_reason: texts::clean(&request.reason, SUBJECT_LIMIT),
    })
}

pub fn bill(date: Date) -> String {
    #[derive(Serialize)]
    struct Bill {
        bill_type: &'static str,
        bill_date: String,
    }
    to_json(&Bill {
        bill_type: "trade",
        bill_date: date.to_string(),
    })
}

pub fn refund_query(request: &RefundRequest) -> String {
    #[derive(Serialize)]
    struct RefundQuery<'a> {
        out_trade_no: OutTradeNo,
        out_request_no: &'a str,
    }
    to_json(&RefundQuery {
        out_trade_no: request.out_trade_no,
        out_request_no: &request.refund_no,
    })
}

/// What any `…_response` may hold. Members that are not asked for are passed over.
#[derive(Debug, Default, Deserialize)]
pub struct Response {
    pub code: Option<String>,
    pub sub_code: Option<String>,
    pub out_trade_no: Option<String>,
    pub trade_no: Option<String>,
    pub qr_code: Option<String>,
    pub trade_status: Option<String>,
    pub total_amount: Option<String>,
    pub send_pay_date: Option<String>,
    pub receipt_amount: Option<String>,
    pub buyer_pay_amount: Option<String>,
    pub fund_change: Option<String>,
    pub out_request_no: Option<String>,
    pub refund_status: Option<String>,
    pub refund_amount: Option<String>,
    pub refund_fee: Option<String>,
    pub bill_download_url: Option<String>,
    pub bill_file_code: Option<String>,
    pub user_id: Option<String>,
    pub open_id: Option<String>,
}

impl Response {
    pub fn is_about(&self, number: OutTradeNo) -> bool {
        self.out_trade_no.as_deref() == Some(number.to_string().as_str())
    }

    /// The finer code where there is one, else the gateway's number.
    pub fn error(&self) -> Code {
        Code::new(
            filled(self.sub_code.as_ref())
                .or(filled(self.code.as_ref()))
                .unwrap_or_default(),
        )
    }

    /// What a query proves, provided that it is about our trade.
    pub fn state(&self, number: OutTradeNo, app_id: &str) -> TradeState {
        if !self.is_about(number) {
            return TradeState::Unknown;
        }
        let paid = || {
            self.success(app_id)
                .map_or(TradeState::Unknown, TradeState::Paid)
        };
        match self.trade_status.as_deref() {
            Some("TRADE_SUCCESS" | "TRADE_FINISHED") => paid(),
            Some("WAIT_BUYER_PAY") => TradeState::Unpaid,
            // Closed unpaid, or paid and refunded in full since: the payment's time tells.
            Some("TRADE_CLOSED") if filled(self.send_pay_date.as_ref()).is_some() => paid(),
            Some("TRADE_CLOSED") if self.has_money() => TradeState::Unknown,
            Some("TRADE_CLOSED") => TradeState::Closed,
            _ => TradeState::Unknown,
        }
    }

    fn has_money(&self) -> bool {
        [&self.receipt_amount, &self.buyer_pay_amount]
            .into_iter()
            .filter_map(|amount| filled(amount.as_ref()))
            .any(|amount| Fen::from_yuan(amount) != Ok(Fen::ZERO))
    }

    fn success(&self, app_id: &str) -> Option<Success> {
        Some(Success {
            out_trade_no: self.out_trade_no.clone()?,
            application: app_id.into(),
            transaction_id: filled(self.trade_no.as_ref())?.into(),
            amount: Fen::from_yuan(self.total_amount.as_deref()?).ok()?,
            currency: "CNY".into(),
            succeeded_at: beijing::read_plain(self.send_pay_date.as_deref()?)?,
        })
    }

    /// `fund_change` Y means that money moved by this call; N may be a repetition: ask. The answer names the
    /// trade and, as `refund_fee`, what all its refunds have given back: this one is part of it.
    pub fn refund_answer(&self, request: &RefundRequest) -> RefundAnswer {
        let given_back = self.refund_fee.as_deref().map(Fen::from_yuan);
        let fits = self.is_about(request.out_trade_no)
            && matches!(given_back, Some(Ok(sum)) if request.amount <= sum && sum <= request.total);
        match self.fund_change.as_deref() {
            Some("Y") if fits => RefundAnswer::Succeeded,
            Some("N") if fits => RefundAnswer::Processing,
            _ => RefundAnswer::Unknown,
        }
    }

    /// An empty answer is no failure: Alipay gives it for numbers that it does not know, too.
    pub fn refund_state(&self, request: &RefundRequest) -> RefundAnswer {
        let ours = self.is_about(request.out_trade_no)
            && self.out_request_no.as_deref() == Some(request.refund_no.as_str())
            && self.refund_amount.as_deref().map(Fen::from_yuan) == Some(Ok(request.amount));
        match self.refund_status.as_deref() {
            Some("REFUND_SUCCESS") if ours => RefundAnswer::Succeeded,
            _ => RefundAnswer::Unknown,
        }
    }
}

fn filled(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}

/// A `sub_code` (or the gateway's `code`), with or without prefix: `ACQ.`, `AQC.`, `isv.`, none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code(String);

impl Code {
    fn new(text: &str) -> Self {
        Self(
            text.chars()
                .filter(|character| character.is_ascii_alphanumeric() || "_-.".contains(*character))
                .take(64)
                .collect(),
        )
    }

    /// As Alipay spelt it: letters, digits and `_-.`, at most 64.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Is it one of these? They are written in capitals, with underscores and without prefix.
    pub fn is(&self, codes: &[&str]) -> bool {
        let name = self.0.rsplit('.').next().unwrap_or_default();
        let plain = name.replace('-', "_").to_ascii_uppercase();
        codes.contains(&plain.as_str())
    }

    /// Nobody knows: not even Alipay.
    pub fn says_unknown(&self) -> bool {
        self.is(&["SYSTEM_ERROR", "UNKNOW_ERROR", "UNKNOWN_ERROR"])
    }

    pub fn says_no_trade(&self) -> bool {
        self.is(&["TRADE_NOT_EXIST"])
    }

    /// Refused for what the request, buyer or seller *is*, before any trade and equally on each repetition.
    /// Absent on purpose: TRADE_HAS_SUCCESS, TRADE_HAS_CLOSE, CONTEXT_INCONSISTENT, TRADE_BUYER_NOT_MATCH,
    /// APPLY_PC_MERCHANT_CODE_ERROR (something stands under the number),
    /// NOW_TIME_AFTER_EXPIRE_TIME_ERROR, signature and rate trouble (an earlier call may have got through).
    pub fn proves_no_trade(&self) -> bool {
        self.is(&[
            "INVALID_PARAMETER",
            "ILLEGAL_ARGUMENT",
            "SUSPECTED_ATTACK",
            "FORBIDDEN_API",
            "INSUFFICIENT_ISV_PERMISSIONS",
            "ACCESS_FORBIDDEN",
            "PARTNER_ERROR",
            "EXIST_FORBIDDEN_WORD",
            "TOTAL_FEE_EXCEED",
            "BUYER_SELLER_EQUAL",
            "BUYER_ENABLE_STATUS_FORBID",
            "BUYER_NOT_EXIST",
            "ERROR_BUYER_CERTIFY_LEVEL_LIMIT",
            "ERROR_SELLER_CERTIFY_LEVEL_LIMIT",
            "MERCHANT_STATUS_NOT_NORMAL",
            "SELLER_BEEN_BLOCKED",
            "SELLER_NOT_EXIST",
            "INVALID_RECEIVE_ACCOUNT",
            "RISK_MERCHANT_IP_NOT_EXIST",
            "OPEN_ID_NOT_TINY_APP",
            "UNBOUND_APPLICATION",
            "PRODUCT_NOT_SUPPORT_IN_TINY_APP",
            "BIZ_PRODUCT_NOT_ALLOWED",
            "NOT_SUPPORT_PAYMENT_INST",
        ])
    }

    /// Refused because the buyer is not the person that the request names: before any trade, and equally
    /// on each repetition.
    pub fn says_other_person(&self) -> bool {
        self.is(&["PAYER_UNMATCHED", "CUSTOMER_VALIDATE_ERROR"])
    }

    /// A close refused because the trade is no longer waiting: paid or closed, a query tells.
    pub fn asks_for_query(&self) -> bool {
        self.is(&[
            "TRADE_STATUS_ERROR",
            "REASON_TRADE_STATUS_INVALID",
            "REASON_ILLEGAL_STATUS",
            "TRADE_HAS_SUCCESS",
            "TRADE_HAS_FINISHED",
            "TRADE_HAS_CLOSE",
        ])
    }

    /// The school's own balance does not cover a refund.
    pub fn says_underfunded(&self) -> bool {
        self.is(&["SELLER_BALANCE_NOT_ENOUGH"])
    }

    /// Nothing happened that day, or the bill has not been made yet.
    pub fn says_no_bill(&self) -> bool {
        self.is(&[
            "NO_BILL_DATA",
            "BILL_NOT_EXIST",
            "EMPTY_DATA_WITH_BILL_FILE",
        ])
    }

    /// Too many calls, in the words of the call itself.
    pub fn says_too_fast(&self) -> bool {
        self.is(&["SYSTEM_RATE_LIMIT", "USER_RATE_LIMIT"])
    }

    /// A refund's final no: repeating the same request cannot help.
    pub fn ends_refund(&self) -> bool {
        self.is(&[
            "INVALID_PARAMETER",
            "TRADE_HAS_FINISHED",
            "TRADE_NOT_ALLOW_REFUND",
            "NOT_ALLOW_PARTIAL_REFUND",
            "ONLINE_TRADE_VOUCHER_NOT_ALLOW_REFUND",
            "REASON_TRADE_REFUND_FEE_ERR",
            "REFUND_FEE_ERROR",
            "BUYER_ENABLE_STATUS_FORBID",
            "BUYER_NOT_EXIST",
            "REFUND_ACCOUNT_NOT_EXIST",
        ])
    }

    /// An `auth_code` that was used, has expired or never was: start over.
    pub fn says_code_used(&self) -> bool {
        self.is(&[
            "CODE_INVALID",
            "CODE_IS_USED",
            "CODE_EXPIRED",
            "AUTH_CODE_INVALID",
        ])
    }
}

fn to_json(body: &impl Serialize) -> String {
    serde_json::to_string(body).expect("plain structs of texts are JSON")
}
