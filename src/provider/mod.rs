//! Who takes the money. One small trait that both connectors speak; each connector's folder has the
//! provider's own words (`wire`), signatures (`sign`), HTTP (`client`) and notices (`notice`).
//!
//! Every call has three kinds of answer: yes, surely not, and *unknown*. A timeout, a 5xx, a redirect
//! or an answer whose signature does not verify proves nothing and is unknown.

pub mod alipay;
pub mod beijing;
pub mod bill;
mod http;
pub mod rsa;
mod sheet;
mod texts;
pub mod wechatpay;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::civil::Date;
use secrecy::SecretString;

use crate::order::command::{CloseAnswer, RefundAnswer, TradeAnswer};
use crate::order::{AccountId, Fen, OutTradeNo, Product, Timestamp, Wallet};
pub use bill::{Bill, BillError, BillKind};
pub use http::{Outcome, note, observed};

/// One school's account at one provider.
#[async_trait]
pub trait Provider: Send + Sync + fmt::Debug {
    fn account(&self) -> &AccountSettings;

    /// Asks for the trade of one attempt. Repeating it with the same request is safe and gives the
    /// same trade. WAP makes no call: its answer is `Made` with an empty handle.
    async fn make_trade(&self, request: &TradeRequest) -> TradeAnswer;
    async fn query_trade(&self, out_trade_no: OutTradeNo) -> TradeState;
    async fn close_trade(&self, out_trade_no: OutTradeNo) -> CloseAnswer;
    /// Gives a capture back, whole or in part. Safe to repeat with the same number.
    async fn refund(&self, request: &RefundRequest) -> RefundAnswer;
    async fn query_refund(&self, request: &RefundRequest) -> RefundAnswer;
    /// Names another destination for a refund that the payer's account cannot take. Where it is not
    /// abnormal (any more), the answer says how it stands. Safe to repeat.
    async fn repair_refund(
        &self,
        request: &RefundRequest,
        destination: &RefundDestination,
    ) -> RefundAnswer;

    /// The bill of one day, in the provider's zone: signed download, hash, decompression and all. No
    /// lines where nothing happened.
    async fn bill(&self, kind: BillKind, date: Date) -> Result<Bill, BillError>;

    /// What the page hands to the wallet for a trade that was made: signed afresh each time.
    fn pay_parameters(
        &self,
        request: &TradeRequest,
        handle: &str,
    ) -> Result<PayParameters, ProviderError>;

    /// Where a wallet's browser is sent to bring back a code; `redirect_uri` is the page it returns to.
    fn authorize_url(&self, redirect_uri: &str, state: &str) -> String;
    /// Exchanges the code for the payer: `snsapi_base` openid, or Alipay user id. One use each.
    async fn exchange_code(&self, code: &SecretString) -> Result<PayerId, OauthError>;

    /// Verifies the raw bytes first, reads them afterwards. `headers` by lower-case name.
    fn read_notice(
        &self,
        headers: &BTreeMap<String, String>,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Notice, NoticeError>;
    /// The exact acknowledgement: status, content type, body.
    fn acknowledgement(&self) -> (u16, &'static str, &'static str);
    /// The exact refusal body, sent with a 4xx or 5xx of the caller's choice: content type, body.
    fn refusal(&self) -> (&'static str, &'static str);

    /// Fetches what has to be fetched now and then (platform certificates); nothing in key mode.
    async fn refresh(&self) -> Result<(), ProviderError>;
}

/// What the rest of the house may know of an account. No secrets.
#[derive(Clone, Debug)]
pub struct AccountSettings {
    pub id: AccountId,
    pub wallet: Wallet,
    /// `appid` or `app_id`.
    pub application: Box<str>,
    pub mode: crate::order::CodeMode,
    /// `WeChat`: may H5 be offered?
    pub h5: bool,
    /// Alipay: is the WAP product used inside Alipay too?
    pub alipay_wap: bool,
    /// Does the provider check for this account who pays?
    pub payer_identity: bool,
    /// Origins that the page's policy must let a form or link reach (the H5 and WAP cashier).
    pub checkout_origins: Vec<String>,
}

/// Everything a trade is asked with; equal for every repetition.
#[derive(Clone)]
pub struct TradeRequest {
    pub out_trade_no: OutTradeNo,
    pub product: Product,
    pub amount: Fen,
    /// Cut and cleaned by the connector to what its provider accepts.
    pub subject: String,
    pub time_expire: Timestamp,
    pub notify_url: String,
    /// WAP and H5: where the payer comes back to.
    pub return_url: Option<String>,
    /// JSAPI: openid; Alipay create: user id (2088… → `buyer_id`, otherwise `buyer_open_id`).
    pub payer: Option<PayerId>,
    /// H5: the payer's true address.
    pub payer_address: Option<IpAddr>,
    /// Who must pay. The provider refuses the wallet of anybody else.
    pub identity: Option<Identity>,
}

/// A person by name and resident identity card. Never shown.
#[derive(Clone)]
pub struct Identity {
    pub name: SecretString,
    /// 17 digits, and a last one that may be X.
    pub id_number: SecretString,
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Identity(***)")
    }
}

/// The code under which either provider's refusal of another person's wallet is kept.
pub const OTHER_PERSON: &str = "PAYER_IDENTITY_MISMATCH";

impl fmt::Debug for TradeRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TradeRequest")
            .field("out_trade_no", &self.out_trade_no)
            .field("product", &self.product)
            .finish_non_exhaustive()
    }
}

/// Money that goes back, under its own number; equal for every repetition.
#[derive(Clone, Debug)]
pub struct RefundRequest {
    pub out_trade_no: OutTradeNo,
    /// `out_refund_no` / `out_request_no`: the same on every try.
    pub refund_no: String,
    pub amount: Fen,
    /// What the capture took.
    pub total: Fen,
    pub reason: String,
    pub notify_url: String,
}

/// Where the money of an abnormal refund may go instead (`WeChat` Pay protocol §2.4).
#[derive(Clone)]
pub enum RefundDestination {
    /// The school's own bank card: it pays the payer by other means.
    MerchantCard,
    /// A bank card of the payer's.
    PayerCard {
        /// The provider's word for the bank, such as `ICBC_DEBIT`.
        bank_type: String,
        bank_account: SecretString,
        real_name: SecretString,
    },
}

impl fmt::Debug for RefundDestination {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::MerchantCard => "MerchantCard",
            Self::PayerCard { .. } => "PayerCard(***)",
        })
    }
}

/// An openid or an Alipay user id.
#[derive(Clone)]
pub struct PayerId(pub SecretString);

impl fmt::Debug for PayerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PayerId(***)")
    }
}

/// What a query says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TradeState {
    Paid(Success),
    Unpaid,
    NotFound,
    Closed,
    Unknown,
}

impl TradeState {
    /// What a close comes to whose own answer leaves open what the trade is, and that was asked about.
    fn close_answer(&self) -> CloseAnswer {
        match self {
            Self::Paid(_) => CloseAnswer::AlreadyPaid,
            Self::Unpaid => CloseAnswer::NotYet,
            Self::NotFound => CloseAnswer::NotFound,
            Self::Closed => CloseAnswer::Closed,
            Self::Unknown => CloseAnswer::Unknown,
        }
    }
}

/// A success, as the provider signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Success {
    /// As sent: it may be no number of ours.
    pub out_trade_no: String,
    pub application: Box<str>,
    pub transaction_id: Box<str>,
    pub amount: Fen,
    pub currency: Box<str>,
    pub succeeded_at: Timestamp,
}

/// What the page does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PayParameters {
    /// `WeixinJSBridge.invoke("getBrandWCPayRequest", …)` with these members.
    Jsapi(BTreeMap<String, String>),
    /// `AlipayJSBridge.call("tradePay", { tradeNO })`.
    TradePay { trade_no: String },
    /// A link to leave by (H5, WAP).
    Link { url: String },
    /// The provider's own code to show.
    Code { content: String },
}

/// A verified notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Money was taken.
    Paid { notice_id: String, success: Success },
    /// News of a refund: of ours, or made in the provider's console. Where the notice tells of the capture
    /// as well, that comes first: a trade that nobody heard of may be refunded already.
    Refund {
        notice_id: String,
        news: RefundNews,
        success: Option<Success>,
    },
    /// True, and of no consequence here: closed, waiting, finished without a payment.
    Other {
        notice_id: String,
        out_trade_no: Option<String>,
        what: &'static str,
    },
}

/// What a notice says of one refund.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefundNews {
    /// As sent: it may be no number of ours.
    pub out_trade_no: String,
    pub refund_no: String,
    /// Of this refund; `None` where the provider tells only sums.
    pub amount: Option<Fen>,
    pub answer: RefundAnswer,
}

/// Why a notice is not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoticeError {
    #[error("a needed header or parameter is missing: {what}")]
    Missing { what: &'static str },
    #[error("the timestamp is {seconds} s away from ours, more than 300 s")]
    Stale { seconds: i64 },
    #[error("the key it names is not one of this account's")]
    UnknownKey,
    #[error("the signature does not verify")]
    BadSignature,
    /// `WECHATPAY/SIGNTEST/`: the provider checks that we check.
    #[error("a signature probe")]
    Probe,
    #[error("it is for another merchant number")]
    Foreign,
    /// A refund that was made past us, told in the XML of `WeChat` Pay's older interface: it cannot be
    /// verified here, and is no forger's either.
    #[error("the XML of an older interface")]
    OlderInterface,
    /// Signed, and yet unreadable: kept, not acknowledged.
    #[error("signed but unreadable: {why}")]
    Unreadable { why: &'static str },
}

impl NoticeError {
    /// A metric label.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "missing",
            Self::Stale { .. } => "stale",
            Self::UnknownKey => "unknown_key",
            Self::BadSignature => "bad_signature",
            Self::Probe => "probe",
            Self::Foreign => "foreign",
            Self::OlderInterface => "older_interface",
            Self::Unreadable { .. } => "unreadable",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OauthError {
    /// Used before or unknown (40029, 40163, `isv.code-invalid`): start over.
    #[error("the code was used before or is unknown")]
    CodeUsed,
    #[error("the provider refused the exchange: {code}")]
    Refused { code: String },
    #[error("the provider could not be asked")]
    Unavailable,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum ProviderError {
    #[error("account {account}: {what}")]
    Misconfigured { account: AccountId, what: String },
    #[error("the provider could not be asked: {why}")]
    Unavailable { why: String },
}

/// All configured accounts.
#[derive(Clone, Debug, Default)]
pub struct Providers(Arc<BTreeMap<AccountId, Arc<dyn Provider>>>);

impl Providers {
    pub fn new(providers: impl IntoIterator<Item = Arc<dyn Provider>>) -> Self {
        Self(Arc::new(
            providers
                .into_iter()
                .map(|provider| (provider.account().id.clone(), provider))
                .collect(),
        ))
    }

    pub fn get(&self, account: &AccountId) -> Option<&Arc<dyn Provider>> {
        self.0.get(account)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Provider>> {
        self.0.values()
    }
}
