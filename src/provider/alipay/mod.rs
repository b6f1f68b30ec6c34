//! Alipay's open platform through its gateway: payment inside Alipay (`trade.create`), by a link
//! (`wap.pay`) and by Alipay's own code (`precreate`), query, close, refund, notices.
//! `alipay.trade.cancel` is never called: it refunds a paid trade.
//!
//! Start with [`Connector`]; `wire` has Alipay's words, `sign` what is signed, `certificates` the numbers
//! of certificate mode, `client` how calls are made and judged, `notice` how notices are read, `bills` how a
//! bill is fetched and `bill_file` what stands in it.

mod bill_file;
mod bills;
pub mod certificates;
mod client;
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

use crate::clock::Clock;
use crate::order::{
    CloseAnswer, OutTradeNo, Product, RefundAnswer, Timestamp, TradeAnswer, Wallet,
};
use crate::provider::http;
use crate::provider::{
    AccountSettings, Bill, BillError, BillKind, Notice, NoticeError, OTHER_PERSON, OauthError,
    PayParameters, PayerId, Provider, ProviderError, RefundDestination, RefundRequest,
    TradeRequest, TradeState,
};
use crate::random::Random;
use client::{Client, Reply};
pub use settings::Settings;
use sign::Parameters;

/// One application at Alipay. Cheap to clone.
#[derive(Clone)]
pub struct Connector {
    client: Arc<Client>,
    account: Arc<AccountSettings>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("alipay::Connector")
            .field(&self.account.id)
            .finish()
    }
}

impl Connector {
    /// Checks the settings; nothing is sent. Alipay's protocol needs no randomness; it is taken so that
    /// both connectors are made alike.
    pub fn new(
        settings: Settings,
        clock: Arc<dyn Clock>,
        _random: Arc<dyn Random>,
    ) -> Result<Self, ProviderError> {
        let checked = settings::Checked::new(&settings)?;
        let mut checkout_origins = vec![http::origin(&checked.base_url)];
        if settings.base_url == Settings::BASE_URL {
            checkout_origins.push("https://mclient.alipay.com".to_owned());
        }
        let account = AccountSettings {
            id: settings.id,
            wallet: Wallet::Alipay,
            application: settings.app_id.into(),
            mode: settings.mode,
            h5: false,
            alipay_wap: settings.wap,
            payer_identity: settings.payer_identity,
            checkout_origins,
        };
        Ok(Self {
            client: Arc::new(Client::new(checked, clock)?),
            account: Arc::new(account),
        })
    }

    async fn create(&self, request: &TradeRequest) -> TradeAnswer {
        let settings = &self.client.settings;
        let Some(payer) = &request.payer else {
            return refused("PAYER_MISSING");
        };
        let biz_content = wire::create(request, &settings.app_id, payer);
        let method = "alipay.trade.create";
        let notify_url = Some(request.notify_url.as_str());
        let reply = self.client.call("create", method, biz_content, notify_url);
        made(reply.await, request, |response| response.trade_no)
    }

    async fn precreate(&self, request: &TradeRequest) -> TradeAnswer {
        let biz_content = wire::precreate(request, &self.client.settings.precreate_product_code);
        let method = "alipay.trade.precreate";
        let notify_url = Some(request.notify_url.as_str());
        let reply = self
            .client
            .call("precreate", method, biz_content, notify_url);
        made(reply.await, request, |response| response.qr_code)
    }
}

fn refused(code: &str) -> TradeAnswer {
    TradeAnswer::Refused { code: code.into() }
}

fn made(
    reply: Reply,
    request: &TradeRequest,
    handle: impl FnOnce(wire::Response) -> Option<String>,
) -> TradeAnswer {
    match reply {
        Reply::Done(response) if response.is_about(request.out_trade_no) => handle(*response)
            .filter(|handle| !handle.is_empty())
            .map_or(TradeAnswer::Unknown, |handle| TradeAnswer::Made {
                handle: handle.into(),
            }),
        Reply::Refused { code } if request.identity.is_some() && code.says_other_person() => {
            refused(OTHER_PERSON)
        }
        Reply::Refused { code } if code.proves_no_trade() => refused(code.as_str()),
        _ => TradeAnswer::Unknown,
    }
}

#[async_trait]
impl Provider for Connector {
    fn account(&self) -> &AccountSettings {
        &self.account
    }

    async fn make_trade(&self, request: &TradeRequest) -> TradeAnswer {
        match request.product {
            Product::AlipayCreate => self.create(request).await,
            Product::AlipayPrecreate => self.precreate(request).await,
            // The payer's browser makes it, by the link of `pay_parameters`.
            Product::AlipayWap => TradeAnswer::Made { handle: "".into() },
            Product::WechatJsapi | Product::WechatNative | Product::WechatH5 => {
                refused("PRODUCT_OF_ANOTHER_PROVIDER")
            }
        }
    }

    async fn query_trade(&self, out_trade_no: OutTradeNo) -> TradeState {
        let biz_content = wire::by_number(out_trade_no);
        let reply = self
            .client
            .call("query", "alipay.trade.query", biz_content, None);
        match reply.await {
            Reply::Done(response) => response.state(out_trade_no, &self.client.settings.app_id),
            Reply::Refused { code } if code.says_no_trade() => TradeState::NotFound,
            _ => TradeState::Unknown,
        }
    }

    /// A refusal because the trade no longer waits becomes a query at once (protocol §3.4).
    async fn close_trade(&self, out_trade_no: OutTradeNo) -> CloseAnswer {
        let biz_content = wire::by_number(out_trade_no);
        let reply = self
            .client
            .call("close", "alipay.trade.close", biz_content, None);
        match reply.await {
            Reply::Done(response) if response.is_about(out_trade_no) => CloseAnswer::Closed,
            Reply::Refused { code } if code.says_no_trade() => CloseAnswer::NotFound,
            Reply::Refused { code } if code.asks_for_query() => {
                self.query_trade(out_trade_no).await.close_answer()
            }
            _ => CloseAnswer::Unknown,
        }
    }

    /// `Processing` where Alipay says that no money moved by this call: it may have moved by an earlier one.
    async fn refund(&self, request: &RefundRequest) -> RefundAnswer {
        let biz_content = wire::refund(request);
        let reply = self
            .client
            .call("refund", "alipay.trade.refund", biz_content, None);
        match reply.await {
            Reply::Done(response) => response.refund_answer(request),
            Reply::Refused { code } if code.says_underfunded() => RefundAnswer::Underfunded,
            Reply::Refused { code } if code.ends_refund() => RefundAnswer::Failed,
            _ => RefundAnswer::Unknown,
        }
    }

    async fn query_refund(&self, request: &RefundRequest) -> RefundAnswer {
        let biz_content = wire::refund_query(request);
        let method = "alipay.trade.fastpay.refund.query";
        let reply = self.client.call("refund_query", method, biz_content, None);
        match reply.await {
            Reply::Done(response) => response.refund_state(request),
            _ => RefundAnswer::Unknown,
        }
    }

    /// Alipay takes no other destination: a refund is how it is.
    async fn repair_refund(
        &self,
        request: &RefundRequest,
        _destination: &RefundDestination,
    ) -> RefundAnswer {
        self.query_refund(request).await
    }

    /// The columns of its account flow are published nowhere: only the bill of trades is read.
    async fn bill(&self, kind: BillKind, date: Date) -> Result<Bill, BillError> {
        match kind {
            BillKind::Trades => bills::fetch(&self.client, date).await,
            BillKind::Flows => Err(BillError::NotOffered),
        }
    }

    fn pay_parameters(
        &self,
        request: &TradeRequest,
        handle: &str,
    ) -> Result<PayParameters, ProviderError> {
        match request.product {
            Product::AlipayCreate => Ok(PayParameters::TradePay {
                trade_no: handle.to_owned(),
            }),
            Product::AlipayPrecreate => Ok(PayParameters::Code {
                content: handle.to_owned(),
            }),
            Product::AlipayWap => {
                let mut parameters = self.client.parameters("alipay.trade.wap.pay");
                parameters.insert("notify_url", request.notify_url.clone());
                if let Some(back) = &request.return_url {
                    parameters.insert("return_url", back.clone());
                }
                parameters.insert("biz_content", wire::wap_pay(request));
                Ok(PayParameters::Link {
                    url: self.client.link(parameters),
                })
            }
            Product::WechatJsapi | Product::WechatNative | Product::WechatH5 => {
                Err(ProviderError::Misconfigured {
                    account: self.account.id.clone(),
                    what: "expected a product of Alipay, found one of WeChat Pay".to_owned(),
                })
            }
        }
    }

    fn authorize_url(&self, redirect_uri: &str, state: &str) -> String {
        let settings = &self.client.settings;
        let mut url = http::join(&settings.oauth_base_url, "/oauth2/publicAppAuthorize.htm");
        url.query_pairs_mut()
            .append_pair("app_id", &settings.app_id)
            .append_pair("scope", "auth_base")
            .append_pair("redirect_uri", redirect_uri)
            .append_pair("state", state);
        url.into()
    }

    async fn exchange_code(&self, code: &SecretString) -> Result<PayerId, OauthError> {
        const METHOD: &str = "alipay.system.oauth.token";
        let business = Parameters::from([
            ("grant_type", "authorization_code".to_owned()),
            ("code", code.expose_secret().to_owned()),
        ]);
        let common = self.client.parameters(METHOD);
        match self.client.send("oauth", METHOD, common, business).await {
            Reply::Done(response) => [response.user_id, response.open_id]
                .into_iter()
                .flatten()
                .find(|id| (1..=128).contains(&id.len()))
                .map(|id| PayerId(id.into()))
                .ok_or(OauthError::Unavailable),
            // Believed unsigned as well: all that follows is a new start.
            Reply::Refused { code } | Reply::Unsigned { code } if code.says_code_used() => {
                Err(OauthError::CodeUsed)
            }
            Reply::Refused { code } => Err(OauthError::Refused {
                code: code.as_str().to_owned(),
            }),
            Reply::Unsigned { .. } | Reply::Unknown => Err(OauthError::Unavailable),
        }
    }

    fn read_notice(
        &self,
        _headers: &BTreeMap<String, String>,
        body: &[u8],
        _now: Timestamp,
    ) -> Result<Notice, NoticeError> {
        notice::read(&self.client.settings, body)
    }

    fn acknowledgement(&self) -> (u16, &'static str, &'static str) {
        notice::ACKNOWLEDGEMENT
    }

    fn refusal(&self) -> (&'static str, &'static str) {
        notice::REFUSAL
    }

    async fn refresh(&self) -> Result<(), ProviderError> {
        Ok(())
    }
}
