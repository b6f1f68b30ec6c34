//! WeChat Pay APIv3 for an ordinary merchant: JSAPI, Native and H5, query, close, refund, notices.
//!
//! Start with [`Connector`]; `wire` has WeChat's words, `sign` what is signed, `keys` WeChat's own keys,
//! `client` how calls are made and judged, `notice` how notices are read, `bills` how a bill is fetched and
//! `bill_file` what stands in it.

mod bill_file;
mod bills;
mod client;
pub mod keys;
mod notice;
mod settings;
pub mod sign;
mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::civil::Date;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;
use url::form_urlencoded::byte_serialize;

use crate::clock::Clock;
use crate::order::{
    CloseAnswer, OutTradeNo, Product, RefundAnswer, Timestamp, TradeAnswer, Wallet,
};
use crate::provider::http::{self, Outcome};
use crate::provider::{
    AccountSettings, Bill, BillError, BillKind, Notice, NoticeError, OTHER_PERSON, OauthError,
    PayParameters, PayerId, Provider, ProviderError, RefundDestination, RefundRequest,
    TradeRequest, TradeState,
};
use crate::random::Random;
use client::{Client, Reply};
pub use settings::Settings;

const REFUNDS: &str = "/v3/refund/domestic/refunds";

/// One account at WeChat Pay. Cheap to clone.
#[derive(Clone)]
pub struct Connector {
    client: Arc<Client>,
    account: Arc<AccountSettings>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("wechatpay::Connector")
            .field(&self.account.id)
            .finish()
    }
}

impl Connector {
    /// Checks the settings. Nothing is sent yet: without a configured public key, WeChat's certificates
    /// are fetched by [`Provider::refresh`], or when the first answer names one.
    pub fn new(
        settings: Settings,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, ProviderError> {
        let checked = settings::Checked::new(&settings)?;
        let checkout_origins = if !settings.h5 {
            vec![]
        } else if settings.base_url == Settings::BASE_URL {
            vec!["https://wx.tenpay.com".to_owned()]
        } else {
            vec![http::origin(&checked.base_url)]
        };
        let account = AccountSettings {
            id: settings.id,
            wallet: Wallet::Wechat,
            application: settings.appid.into(),
            mode: settings.mode,
            h5: settings.h5,
            alipay_wap: false,
            payer_identity: settings.payer_identity,
            checkout_origins,
        };
        Ok(Self {
            client: Arc::new(Client::new(checked, clock, random)?),
            account: Arc::new(account),
        })
    }

    fn trade_path(number: OutTradeNo) -> String {
        format!("/v3/pay/transactions/out-trade-no/{number}")
    }

    fn refund_answer(body: &[u8], request: &RefundRequest) -> RefundAnswer {
        serde_json::from_slice(body).map_or(RefundAnswer::Unknown, |state: wire::RefundState| {
            state.answer(request)
        })
    }

    /// What WeChat has under the refund's number; `None` where it says nothing that proves anything.
    async fn refund_state(&self, request: &RefundRequest) -> Option<wire::RefundState> {
        let mut url = self.client.url(REFUNDS);
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.push(&request.refund_no);
        }
        match self.client.get("refund_query", url).await {
            Reply::Done { status: 200, body } => serde_json::from_slice(&body).ok(),
            _ => None,
        }
    }
}

#[async_trait]
impl Provider for Connector {
    fn account(&self) -> &AccountSettings {
        &self.account
    }

    async fn make_trade(&self, request: &TradeRequest) -> TradeAnswer {
        const OPERATION: &str = "prepay";
        let settings = &self.client.settings;
        let sealed = request.identity.is_some();
        let table = if sealed {
            self.client.keys_to_seal_for().await
        } else {
            self.client.keys.table()
        };
        let newest = table.newest(self.client.clock.now()).filter(|_| sealed);
        if sealed && newest.is_none() {
            // It may be there next time, and an earlier call may have had it: this proves nothing.
            tracing::warn!(account = %self.account.id, "a payer's identity cannot be encrypted: no key of WeChat Pay's is known");
            return TradeAnswer::Unknown;
        }
        let key = newest.map(|(_, key)| key);
        let (path, body) = match wire::prepay(request, &settings.appid, &settings.mchid, key) {
            Ok(call) => call,
            Err(code) => return TradeAnswer::Refused { code: code.into() },
        };
        let url = self.client.url(path);
        let reply = match newest {
            Some((serial, _)) => self.client.post_sealed(OPERATION, url, body, serial).await,
            None => self.client.post(OPERATION, url, body).await,
        };
        match reply {
            Reply::Done { status: 200, body } => serde_json::from_slice(&body)
                .ok()
                .and_then(|prepaid: wire::Prepaid| prepaid.handle(request.product))
                .map_or(TradeAnswer::Unknown, |handle| TradeAnswer::Made {
                    handle: handle.into(),
                }),
            Reply::Refused { code } if sealed && code.says_other_person() => TradeAnswer::Refused {
                code: OTHER_PERSON.into(),
            },
            Reply::Refused { code } if code.proves_no_trade() => TradeAnswer::Refused {
                code: code.as_str().into(),
            },
            _ => TradeAnswer::Unknown,
        }
    }

    async fn query_trade(&self, out_trade_no: OutTradeNo) -> TradeState {
        let settings = &self.client.settings;
        let mut url = self.client.url(&Self::trade_path(out_trade_no));
        url.query_pairs_mut().append_pair("mchid", &settings.mchid);
        match self.client.get("query", url).await {
            Reply::Done { status: 200, body } => serde_json::from_slice(&body).map_or(
                TradeState::Unknown,
                |transaction: wire::TradeReport| {
                    transaction.state(out_trade_no, &settings.appid, &settings.mchid)
                },
            ),
            Reply::Refused { code } if code.says_unknown_number() => TradeState::NotFound,
            _ => TradeState::Unknown,
        }
    }

    /// A refusal whose code leaves open what the trade is becomes a query at once (protocol §3.4).
    async fn close_trade(&self, out_trade_no: OutTradeNo) -> CloseAnswer {
        let url = self
            .client
            .url(&format!("{}/close", Self::trade_path(out_trade_no)));
        let body = wire::close(&self.client.settings.mchid);
        match self.client.post("close", url, body).await {
            Reply::Done { status: 204, .. } => CloseAnswer::Closed,
            Reply::Done { status: 202, .. } => CloseAnswer::NotYet,
            Reply::Done { .. } | Reply::Unknown => CloseAnswer::Unknown,
            Reply::Refused { code } if code.says_paid() => CloseAnswer::AlreadyPaid,
            Reply::Refused { code } if code.is(&["USERPAYING"]) => CloseAnswer::NotYet,
            Reply::Refused { code } if code.says_unknown_number() => CloseAnswer::NotFound,
            Reply::Refused { code } if code.blames_us() => CloseAnswer::Unknown,
            Reply::Refused { .. } => self.query_trade(out_trade_no).await.close_answer(),
        }
    }

    async fn refund(&self, request: &RefundRequest) -> RefundAnswer {
        let url = self.client.url(REFUNDS);
        match self.client.post("refund", url, wire::refund(request)).await {
            Reply::Done { status: 200, body } => Self::refund_answer(&body, request),
            Reply::Refused { code } if code.says_underfunded() => RefundAnswer::Underfunded,
            Reply::Refused { code } if code.ends_refund() => RefundAnswer::Failed,
            _ => RefundAnswer::Unknown,
        }
    }

    /// Unknown to WeChat (404 RESOURCE_NOT_EXISTS) is `Unknown`: repeat [`Provider::refund`].
    async fn query_refund(&self, request: &RefundRequest) -> RefundAnswer {
        self.refund_state(request)
            .await
            .map_or(RefundAnswer::Unknown, |state| state.answer(request))
    }

    /// Asks first: the call is for WeChat's own number of the refund, and for an abnormal one only. What it
    /// refuses stays abnormal, and a person looks at it again.
    async fn repair_refund(
        &self,
        request: &RefundRequest,
        destination: &RefundDestination,
    ) -> RefundAnswer {
        let Some(state) = self.refund_state(request).await else {
            return RefundAnswer::Unknown;
        };
        let stands = state.answer(request);
        let (RefundAnswer::Abnormal, Some(refund_id)) = (stands, &state.refund_id) else {
            return stands;
        };
        let mut url = self.client.url(REFUNDS);
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.push(refund_id).push("apply-abnormal-refund");
        }
        let table = self.client.keys.table();
        let Some((serial, key)) = table.newest(self.client.clock.now()) else {
            return RefundAnswer::Unknown;
        };
        let Some(body) = wire::repair(request, destination, key) else {
            tracing::warn!(
                account = %self.account.id,
                "an abnormal refund's destination is too long to be encrypted: nothing was sent",
            );
            return stands;
        };
        let call = self
            .client
            .post_sealed("refund_repair", url, body, serial)
            .await;
        match call {
            Reply::Done { status: 200, body } => Self::refund_answer(&body, request),
            Reply::Refused { .. } => stands,
            _ => RefundAnswer::Unknown,
        }
    }

    async fn bill(&self, kind: BillKind, date: Date) -> Result<Bill, BillError> {
        bills::fetch(&self.client, kind, date).await
    }

    fn pay_parameters(
        &self,
        request: &TradeRequest,
        handle: &str,
    ) -> Result<PayParameters, ProviderError> {
        match request.product {
            Product::WechatJsapi => {
                let settings = &self.client.settings;
                let timestamp = self.client.clock.now().as_seconds();
                let nonce = self.client.random.hex::<16>();
                let package = format!("prepay_id={handle}");
                let message = sign::pay_message(&settings.appid, timestamp, &nonce, &package);
                let pay_sign = settings.private_key.sign(message.as_bytes());
                Ok(PayParameters::Jsapi(BTreeMap::from([
                    ("appId".to_owned(), settings.appid.clone()),
                    ("timeStamp".to_owned(), timestamp.to_string()),
                    ("nonceStr".to_owned(), nonce),
                    ("package".to_owned(), package),
                    ("signType".to_owned(), "RSA".to_owned()),
                    ("paySign".to_owned(), pay_sign),
                ])))
            }
            Product::WechatNative => Ok(PayParameters::Code {
                content: handle.to_owned(),
            }),
            Product::WechatH5 => {
                // Appended as text: the link must stay as WeChat made it.
                let mut url = handle.to_owned();
                if let Some(back) = &request.return_url {
                    url.push(if handle.contains('?') { '&' } else { '?' });
                    url.push_str("redirect_url=");
                    url.extend(byte_serialize(back.as_bytes()));
                }
                Ok(PayParameters::Link { url })
            }
            Product::AlipayCreate | Product::AlipayWap | Product::AlipayPrecreate => {
                Err(ProviderError::Misconfigured {
                    account: self.account.id.clone(),
                    what: "expected a product of WeChat Pay, found one of Alipay".to_owned(),
                })
            }
        }
    }

    fn authorize_url(&self, redirect_uri: &str, state: &str) -> String {
        let settings = &self.client.settings;
        let mut url = http::join(&settings.oauth_base_url, "/connect/oauth2/authorize");
        url.query_pairs_mut()
            .append_pair("appid", &settings.appid)
            .append_pair("redirect_uri", redirect_uri)
            .append_pair("response_type", "code")
            .append_pair("scope", "snsapi_base")
            .append_pair("state", state);
        url.set_fragment(Some("wechat_redirect"));
        url.into()
    }

    async fn exchange_code(&self, code: &SecretString) -> Result<PayerId, OauthError> {
        const OPERATION: &str = "openid";
        let settings = &self.client.settings;
        let Some(secret) = &settings.app_secret else {
            return Err(OauthError::Unavailable);
        };
        let mut url = http::join(&settings.openid_base_url, "/sns/oauth2/access_token");
        url.query_pairs_mut()
            .append_pair("appid", &settings.appid)
            .append_pair("secret", secret.expose_secret())
            .append_pair("code", code.expose_secret())
            .append_pair("grant_type", "authorization_code");
        let started = Instant::now();
        let http = &self.client.http;
        let (result, outcome) = match http.send(http.get(url), &*self.client.clock).await {
            Err(failure) => (Err(OauthError::Unavailable), failure.into()),
            Ok(answer) if answer.status != 200 => {
                (Err(OauthError::Unavailable), Outcome::Unavailable)
            }
            Ok(answer) => read_openid(&answer.body),
        };
        http.record(OPERATION, outcome, started);
        result
    }

    fn read_notice(
        &self,
        headers: &BTreeMap<String, String>,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Notice, NoticeError> {
        let settings = &self.client.settings;
        let table = self.client.keys.table();
        let read = notice::read(
            &table,
            &settings.api_v3_key,
            &settings.mchid,
            headers,
            body,
            now,
        );
        if read == Err(NoticeError::UnknownKey)
            && let Some(serial) = headers.get("wechatpay-serial").cloned()
            && self.client.would_fetch(&serial)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            // This delivery is refused; WeChat repeats it in 15 s and finds the key here.
            let client = Arc::clone(&self.client);
            runtime.spawn(async move { client.fetch_now_and_then(&serial).await });
        }
        read
    }

    fn acknowledgement(&self) -> (u16, &'static str, &'static str) {
        notice::ACKNOWLEDGEMENT
    }

    fn refusal(&self) -> (&'static str, &'static str) {
        notice::REFUSAL
    }

    async fn refresh(&self) -> Result<(), ProviderError> {
        if self.client.settings.platform_public_key.is_some() {
            return Ok(());
        }
        self.client.fetch_certificates().await
    }
}

/// Reads an openid exchange. Codes used or unknown (40029, 40163) or expired (42003) start over.
fn read_openid(body: &[u8]) -> (Result<PayerId, OauthError>, Outcome) {
    let Ok(answer) = serde_json::from_slice::<wire::OpenidAnswer>(body) else {
        return (Err(OauthError::Unavailable), Outcome::Unreadable);
    };
    match (answer.errcode.unwrap_or(0), answer.openid) {
        (0, Some(_)) if answer.is_snapshotuser == Some(1) => (
            Err(OauthError::Refused {
                code: "snapshot_user".to_owned(),
            }),
            Outcome::Refused,
        ),
        (0, Some(openid)) if (1..=128).contains(&openid.len()) => {
            (Ok(PayerId(openid.into())), Outcome::Ok)
        }
        (0, _) => (Err(OauthError::Unavailable), Outcome::Unreadable),
        (40029 | 40163 | 42003, _) => (Err(OauthError::CodeUsed), Outcome::Refused),
        // -1: the system is busy; 45009 and 45011: too many calls.
        (-1, _) => (Err(OauthError::Unavailable), Outcome::Unavailable),
        (45009 | 45011, _) => (Err(OauthError::Unavailable), Outcome::Limited),
        (code, _) => (
            Err(OauthError::Refused {
                code: code.to_string(),
            }),
            Outcome::Refused,
        ),
    }
}
