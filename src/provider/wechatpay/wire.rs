//! WeChat Pay's own words: bodies of requests and answers (protocol §2), error codes (§4).

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::order::{Fen, OutTradeNo, Product, RefundAnswer};
use crate::provider::beijing;
use crate::provider::rsa::PublicKey;
use crate::provider::{
    Identity, RefundDestination, RefundNews, RefundRequest, Success, TradeRequest, TradeState,
};
use crate::provider::{http, texts};

const DESCRIPTION_LIMIT: usize = 127;
/// Said to be characters; kept to bytes, for a refund is not worth losing over its reason.
const REASON_LIMIT_BYTES: usize = 80;
/// No reason goes with a part of a payment up to this much: the payer would not be shown it.
const NO_REASON_UP_TO: Fen = Fen::new(100);

#[derive(Serialize)]
struct Prepay<'a> {
    appid: &'a str,
    mchid: &'a str,
    description: String,
    out_trade_no: String,
    time_expire: String,
    notify_url: &'a str,
    amount: Total,
    #[serde(skip_serializing_if = "Option::is_none")]
    payer: Option<Payer<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scene_info: Option<Scene>,
}

#[derive(Serialize)]
struct Total {
    total: i64,
    currency: &'static str,
}

#[derive(Serialize)]
struct Payer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    openid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<SealedIdentity>,
}

/// Real-name payment (`payer.identity`): the person whose wallet alone may pay.
#[derive(Serialize)]
struct SealedIdentity {
    #[serde(rename = "type")]
    kind: &'static str,
    number: String,
    name: String,
}

impl SealedIdentity {
    fn seal(identity: &Identity, key: &PublicKey) -> Option<Self> {
        let sealed = |text: &SecretString| key.seal(text.expose_secret().as_bytes());
        Some(Self {
            kind: "IDCARD",
            number: sealed(&identity.id_number)?,
            name: sealed(&identity.name)?,
        })
    }
}

#[derive(Serialize)]
struct Scene {
    payer_client_ip: String,
    h5_info: H5Info,
}

#[derive(Serialize)]
struct H5Info {
    #[serde(rename = "type")]
    kind: &'static str,
}

/// The path and body of the order call, or the reason why none can be sent: nothing reaches WeChat
/// then, so no trade exists. `key`: whom an identity is encrypted for.
pub fn prepay(
    request: &TradeRequest,
    appid: &str,
    mchid: &str,
    key: Option<&PublicKey>,
) -> Result<(&'static str, String), &'static str> {
    let (path, openid, scene_info) = match request.product {
        Product::WechatJsapi => {
            let payer = request.payer.as_ref().ok_or("PAYER_MISSING")?;
            let openid = payer.0.expose_secret();
            ("/v3/pay/transactions/jsapi", Some(openid), None)
        }
        Product::WechatNative => ("/v3/pay/transactions/native", None, None),
        Product::WechatH5 => {
            let address = request
                .payer_address
                .filter(|address| http::is_payer_address(*address))
                .ok_or("PAYER_ADDRESS_MISSING")?;
            let scene = Scene {
                payer_client_ip: address.to_string(),
                h5_info: H5Info { kind: "Wap" },
            };
            ("/v3/pay/transactions/h5", None, Some(scene))
        }
        Product::AlipayCreate | Product::AlipayWap | Product::AlipayPrecreate => {
            return Err("PRODUCT_OF_ANOTHER_PROVIDER");
        }
    };
    let identity = match &request.identity {
        None => None,
        Some(identity) => {
            let key = key.ok_or("PLATFORM_KEY_MISSING")?;
            Some(SealedIdentity::seal(identity, key).ok_or("PAYER_IDENTITY_TOO_LONG")?)
        }
    };
    let has_payer = openid.is_some() || identity.is_some();
    let payer = has_payer.then_some(Payer { openid, identity });
    let mut description = texts::clean(&request.subject, DESCRIPTION_LIMIT);
    if description.is_empty() {
        "缴费".clone_into(&mut description);
    }
    let body = Prepay {
        appid,
        mchid,
        description,
        out_trade_no: request.out_trade_no.to_string(),
        time_expire: beijing::rfc3339(request.time_expire),
        notify_url: &request.notify_url,
        amount: Total {
            total: request.amount.get(),
            currency: "CNY",
        },
        payer,
        scene_info,
    };
    Ok((path, to_json(&body)))
}

/// What the order call gives: one of the three, by product.
#[derive(Deserialize)]
pub struct Prepaid {
    prepay_id: Option<String>,
    code_url: Option<String>,
    h5_url: Option<String>,
}

impl Prepaid {
    pub fn handle(self, product: Product) -> Option<String> {
        match product {
            Product::WechatJsapi => self.prepay_id,
            Product::WechatNative => self.code_url,
            Product::WechatH5 => self.h5_url,
            _ => None,
        }
        .filter(|handle| !handle.is_empty())
    }
}

pub fn close(mchid: &str) -> String {
    #[derive(Serialize)]
    struct Close<'a> {
        mchid: &'a str,
    }
    to_json(&Close { mchid })
}

#[derive(Serialize)]
struct Refund<'a> {
    out_trade_no: String,
    out_refund_no: &'a str,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    notify_url: &'a str,
    amount: RefundAmount,
}

#[derive(Serialize)]
struct RefundAmount {
    refund: i64,
    total: i64,
    currency: &'static str,
}

pub fn refund(request: &RefundRequest) -> String {
    let mut reason = texts::clean(&request.reason, REASON_LIMIT_BYTES);
    while reason.len() > REASON_LIMIT_BYTES {
        reason.pop();
    }
    if request.amount < request.total && request.amount <= NO_REASON_UP_TO {
        reason.clear();
    }
    to_json(&Refund {
        out_trade_no: request.out_trade_no.to_string(),
        out_refund_no: &request.refund_no,
        reason,
        notify_url: &request.notify_url,
        amount: RefundAmount {
            refund: request.amount.get(),
            total: request.total.get(),
            currency: "CNY",
        },
    })
}

/// The body that names another destination for an abnormal refund; `None` where a field cannot be sealed.
pub fn repair(
    request: &RefundRequest,
    destination: &RefundDestination,
    key: &PublicKey,
) -> Option<String> {
    #[derive(Serialize)]
    struct Repair<'a> {
        out_refund_no: &'a str,
        #[serde(rename = "type")]
        kind: &'static str,
        #[serde(flatten, skip_serializing_if = "Option::is_none")]
        card: Option<Card<'a>>,
    }
    #[derive(Serialize)]
    struct Card<'a> {
        bank_type: &'a str,
        bank_account: String,
        real_name: String,
    }
    let sealed = |text: &SecretString| key.seal(text.expose_secret().as_bytes());
    let (kind, card) = match destination {
        RefundDestination::MerchantCard => ("MERCHANT_BANK_CARD", None),
        RefundDestination::PayerCard {
            bank_type,
            bank_account,
            real_name,
        } => {
            let card = Card {
                bank_type,
                bank_account: sealed(bank_account)?,
                real_name: sealed(real_name)?,
            };
            ("USER_BANK_CARD", Some(card))
        }
    };
    Some(to_json(&Repair {
        out_refund_no: &request.refund_no,
        kind,
        card,
    }))
}

/// A refund as its call, its query and its notice tell it.
#[derive(Deserialize)]
pub struct RefundState {
    /// Of notices only.
    pub mchid: Option<String>,
    pub refund_id: Option<String>,
    out_refund_no: Option<String>,
    out_trade_no: Option<String>,
    status: Option<String>,
    /// A notice's word for `status`.
    refund_status: Option<String>,
    amount: Option<GivenBack>,
}

#[derive(Deserialize)]
struct GivenBack {
    refund: Option<i64>,
}

impl RefundState {
    /// 200 means accepted; the status decides, if the answer is about this refund at all.
    pub fn answer(&self, request: &RefundRequest) -> RefundAnswer {
        let ours = self.out_refund_no.as_deref() == Some(request.refund_no.as_str())
            && self.out_trade_no.as_deref() == Some(request.out_trade_no.to_string().as_str())
            && self.amount() == Some(request.amount);
        if ours {
            standing(self.status.as_deref())
        } else {
            RefundAnswer::Unknown
        }
    }

    /// What a notice tells; `None` where a part is missing or its status is not for us.
    pub fn news(&self) -> Option<RefundNews> {
        Some(RefundNews {
            out_trade_no: self.out_trade_no.clone()?,
            refund_no: self.out_refund_no.clone()?,
            amount: Some(self.amount()?),
            answer: match standing(self.refund_status.as_deref()) {
                RefundAnswer::Unknown => return None,
                answer => answer,
            },
        })
    }

    fn amount(&self) -> Option<Fen> {
        self.amount.as_ref()?.refund.map(Fen::new)
    }
}

fn standing(status: Option<&str>) -> RefundAnswer {
    match status {
        Some("SUCCESS") => RefundAnswer::Succeeded,
        Some("PROCESSING") => RefundAnswer::Processing,
        // The payer's account is closed: the money waits for another destination.
        Some("ABNORMAL") => RefundAnswer::Abnormal,
        Some("CLOSED") => RefundAnswer::Failed,
        _ => RefundAnswer::Unknown,
    }
}

/// A trade, as a query and a notice tell it. Members may be missing; what is needed is asked for.
#[derive(Deserialize)]
pub struct TradeReport {
    pub appid: Option<String>,
    pub mchid: Option<String>,
    pub out_trade_no: Option<String>,
    pub transaction_id: Option<String>,
    pub trade_state: Option<String>,
    pub success_time: Option<String>,
    pub amount: Option<PaidAmount>,
}

#[derive(Deserialize)]
pub struct PaidAmount {
    pub total: Option<i64>,
    pub currency: Option<String>,
}

impl TradeReport {
    /// A refund does not undo that the money was taken.
    pub fn is_paid(&self) -> bool {
        matches!(self.trade_state.as_deref(), Some("SUCCESS" | "REFUND"))
    }

    /// The success that it tells of; `None` if a part is missing.
    pub fn success(&self) -> Option<Success> {
        let amount = self.amount.as_ref()?;
        Some(Success {
            out_trade_no: self.out_trade_no.clone()?,
            application: self.appid.as_deref()?.into(),
            transaction_id: self.transaction_id.as_deref()?.into(),
            amount: Fen::new(amount.total?),
            currency: amount.currency.as_deref()?.into(),
            succeeded_at: beijing::read_rfc3339(self.success_time.as_deref()?)?,
        })
    }

    /// What a query's answer proves, provided that it is about our trade.
    pub fn state(&self, number: OutTradeNo, appid: &str, mchid: &str) -> TradeState {
        let ours = self.appid.as_deref() == Some(appid)
            && self.mchid.as_deref() == Some(mchid)
            && self.out_trade_no.as_deref() == Some(number.to_string().as_str());
        if !ours {
            return TradeState::Unknown;
        }
        match self.trade_state.as_deref() {
            Some("SUCCESS" | "REFUND") => {
                self.success().map_or(TradeState::Unknown, TradeState::Paid)
            }
            Some("NOTPAY" | "USERPAYING") => TradeState::Unpaid,
            Some("CLOSED") => TradeState::Closed,
            // REVOKED and PAYERROR belong to a product that is not used here.
            _ => TradeState::Unknown,
        }
    }
}

/// The openid exchange: errors come with HTTP 200.
#[derive(Deserialize)]
pub struct OpenidAnswer {
    pub openid: Option<String>,
    pub errcode: Option<i64>,
    /// 1 for a visitor of a "snapshot" page, whose openid belongs to nobody.
    pub is_snapshotuser: Option<i64>,
}

/// The `code` of a 4xx or 5xx body.
pub fn error_code(body: &[u8]) -> Option<Code> {
    #[derive(Deserialize)]
    struct Error {
        code: String,
    }
    let error: Error = serde_json::from_slice(body).ok()?;
    Some(Code::new(&error.code))
}

/// An error code. Old and new spellings differ in their underscores only, and are one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code(String);

impl Code {
    fn new(text: &str) -> Self {
        Self(
            text.chars()
                .filter(|character| character.is_ascii_alphanumeric() || *character == '_')
                .take(64)
                .collect(),
        )
    }

    /// As the provider spelt it: letters, digits and underscores, at most 64.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Is it one of these? They are written without underscores.
    pub fn is(&self, codes: &[&str]) -> bool {
        let plain = self.0.replace('_', "").to_ascii_uppercase();
        codes.contains(&plain.as_str())
    }

    /// The order call refused for what the request *is*, before any trade, and equally on each repetition.
    /// Absent on purpose: OUT_TRADE_NO_USED, ORDERPAID, ORDER_CLOSED and INVALID_REQUEST (a trade may
    /// stand under the number), SIGN_ERROR (our clock or key: an earlier call may have got through).
    pub fn proves_no_trade(&self) -> bool {
        self.is(&[
            "PARAMERROR",
            "APPIDMCHIDNOTMATCH",
            "MCHNOTEXISTS",
            "NOAUTH",
            "RULELIMIT",
        ])
    }

    /// The payer is not the person that the order names. WeChat Pay publishes no code for it; its
    /// transfers to a named person are refused with this one.
    pub fn says_other_person(&self) -> bool {
        self.is(&["NAMEMISMATCH"])
    }

    pub fn says_paid(&self) -> bool {
        self.is(&["ORDERPAID"])
    }

    pub fn says_unknown_number(&self) -> bool {
        self.is(&["ORDERNOTEXIST"])
    }

    /// Our own mistake: a query would fail as well.
    pub fn blames_us(&self) -> bool {
        self.is(&["PARAMERROR", "SIGNERROR", "MCHNOTEXISTS"])
    }

    /// The school's own balance does not cover a refund.
    pub fn says_underfunded(&self) -> bool {
        self.is(&["NOTENOUGH"])
    }

    /// A refund's final no: it was not accepted, and repeating the same request cannot help. The payer's
    /// closed account is one: the money must go back by other means, under another number.
    pub fn ends_refund(&self) -> bool {
        self.is(&["PARAMERROR", "USERACCOUNTABNORMAL", "TRADEOVERDUE"])
    }
}

fn to_json(body: &impl Serialize) -> String {
    serde_json::to_string(body).expect("plain structs of texts and numbers are JSON")
}
