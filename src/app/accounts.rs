//! `[[account]]` to connectors.

use std::collections::HashMap;
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use tokio_util::sync::CancellationToken;

use super::keys::Keys;
use super::{AppError, Foundation};
use crate::actors::Budget;
use crate::config::{Account, AlipayProduct, Config, ProviderName, Qr};
use crate::order::{AccountId, CodeMode, Wallet};
use crate::provider::{Provider, Providers, alipay, wechatpay};
use crate::simulator::keys::{AlipayDemoKeys, WechatDemoKeys};

const DEMO_WECHAT: &str = "demo-wechat";
const DEMO_ALIPAY: &str = "demo-alipay";

/// The accounts by name, as `merchant create` may name them.
pub(super) fn names(config: &Config, keys: &Keys) -> Vec<(AccountId, Wallet)> {
    if needs_simulators(config) && keys.demo.is_some() {
        return vec![
            (AccountId::new(DEMO_WECHAT), Wallet::Wechat),
            (AccountId::new(DEMO_ALIPAY), Wallet::Alipay),
        ];
    }
    config
        .account
        .iter()
        .map(|account| {
            let wallet = match account.provider {
                ProviderName::Wechatpay => Wallet::Wechat,
                ProviderName::Alipay => Wallet::Alipay,
            };
            (AccountId::new(account.id.as_str()), wallet)
        })
        .collect()
}

/// A connector for every account: the configured ones, or the two simulated ones of the demo.
pub(super) fn connect(
    config: &Config,
    foundation: &Foundation,
    keys: &Keys,
    simulator_origin: Option<&str>,
) -> Result<Providers, AppError> {
    let connected: Vec<Arc<dyn Provider>> = match (simulator_origin, &keys.demo) {
        (Some(origin), Some(demo)) => vec![
            Arc::new(wechatpay::Connector::new(
                simulated_wechat(&demo.providers.wechat, origin),
                Arc::clone(&foundation.clock),
                Arc::clone(&foundation.random),
            )?),
            Arc::new(alipay::Connector::new(
                simulated_alipay(&demo.providers.alipay, origin),
                Arc::clone(&foundation.clock),
                Arc::clone(&foundation.random),
            )?),
        ],
        _ => config
            .account
            .iter()
            .map(|account| configured(account, foundation))
            .collect::<Result<_, _>>()?,
    };
    Ok(Providers::new(connected))
}

/// How much each account may be asked.
pub(super) fn budgets(config: &Config, keys: &Keys) -> HashMap<AccountId, Budget> {
    let usual = &config.budgets;
    if needs_simulators(config) && keys.demo.is_some() {
        return HashMap::from([
            (AccountId::new(DEMO_WECHAT), budget(usual.wechatpay)),
            (AccountId::new(DEMO_ALIPAY), budget(usual.alipay)),
        ]);
    }
    config
        .account
        .iter()
        .map(|account| {
            let id = AccountId::new(account.id.as_str());
            (id, budget(account.budget(usual)))
        })
        .collect()
}

fn budget(configured: crate::config::Budget) -> Budget {
    Budget {
        orders: configured.orders_per_second,
        queries: configured.queries_per_second,
        closes: configured.closes_per_second,
        refunds: configured.refunds_per_second,
        failing_refunds: configured.failing_refunds_per_second,
        refund_queries: configured.refund_queries_per_second,
        at_once: usize::try_from(configured.calls_at_once).unwrap_or(usize::MAX),
    }
}

/// Does demo mode have to bring its own providers?
pub(super) const fn needs_simulators(config: &Config) -> bool {
    config.account.is_empty()
}

fn configured(account: &Account, foundation: &Foundation) -> Result<Arc<dyn Provider>, AppError> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let secret = |value: &Option<SecretString>| value.clone().unwrap_or_default();
    let opened = |value: &Option<SecretString>| {
        value
            .as_ref()
            .map(|secret| secret.expose_secret().to_owned())
    };
    let or =
        |value: &Option<String>, default: &str| value.clone().unwrap_or_else(|| default.to_owned());
    let id = AccountId::new(account.id.as_str());
    let mode = match account.qr {
        Qr::Unified => CodeMode::Unified,
        Qr::Native => CodeMode::Native,
    };
    let clock = Arc::clone(&foundation.clock);
    let random = Arc::clone(&foundation.random);
    Ok(match account.provider {
        ProviderName::Wechatpay => {
            use wechatpay::Settings;
            Arc::new(wechatpay::Connector::new(
                Settings {
                    id,
                    mchid: text(&account.mchid),
                    appid: text(&account.appid),
                    app_secret: account.app_secret.clone(),
                    api_v3_key: secret(&account.api_v3_key),
                    private_key: secret(&account.private_key),
                    certificate_serial: text(&account.certificate_serial),
                    platform_public_key_id: account.platform_public_key_id.clone(),
                    platform_public_key: opened(&account.platform_public_key),
                    base_url: or(&account.base_url, Settings::BASE_URL),
                    oauth_base_url: or(&account.oauth_base_url, Settings::OAUTH_BASE_URL),
                    openid_base_url: or(&account.openid_base_url, Settings::OPENID_BASE_URL),
                    mode,
                    h5: account.h5,
                    payer_identity: account.payer_identity,
                    timeout: Settings::TIMEOUT,
                },
                clock,
                random,
            )?)
        }
        ProviderName::Alipay => {
            use alipay::Settings;
            Arc::new(alipay::Connector::new(
                Settings {
                    id,
                    app_id: text(&account.app_id),
                    seller_id: account.seller_id.clone(),
                    private_key: secret(&account.private_key),
                    alipay_public_key: opened(&account.alipay_public_key),
                    app_cert: opened(&account.app_cert),
                    alipay_cert: opened(&account.alipay_cert),
                    alipay_root_cert: opened(&account.alipay_root_cert),
                    base_url: or(&account.base_url, Settings::BASE_URL),
                    oauth_base_url: or(&account.oauth_base_url, Settings::OAUTH_BASE_URL),
                    mode,
                    wap: account.alipay_product == AlipayProduct::Wap,
                    payer_identity: account.payer_identity,
                    precreate_product_code: or(
                        &account.precreate_product_code,
                        Settings::PRECREATE_PRODUCT_CODE,
                    ),
                    timeout: Settings::TIMEOUT,
                },
                clock,
                random,
            )?)
        }
    })
}

fn simulated_wechat(keys: &WechatDemoKeys, origin: &str) -> wechatpay::Settings {
    wechatpay::Settings {
        id: AccountId::new(DEMO_WECHAT),
        mchid: keys.mchid.clone(),
        appid: keys.appid.clone(),
        app_secret: Some(keys.app_secret.clone().into()),
        api_v3_key: keys.api_v3_key.clone().into(),
        private_key: keys.merchant_private_key_pem.clone().into(),
        certificate_serial: keys.merchant_certificate_serial.clone(),
        platform_public_key_id: Some(keys.platform_public_key_id.clone()),
        platform_public_key: Some(keys.platform_public_key_pem.clone()),
        base_url: origin.to_owned(),
        oauth_base_url: origin.to_owned(),
        openid_base_url: origin.to_owned(),
        mode: CodeMode::Unified,
        h5: true,
        payer_identity: true,
        timeout: wechatpay::Settings::TIMEOUT,
    }
}

fn simulated_alipay(keys: &AlipayDemoKeys, origin: &str) -> alipay::Settings {
    alipay::Settings {
        id: AccountId::new(DEMO_ALIPAY),
        app_id: keys.app_id.clone(),
        seller_id: Some(keys.seller_id.clone()),
        private_key: keys.app_private_key_pem.clone().into(),
        alipay_public_key: Some(keys.alipay_public_key_pem.clone()),
        app_cert: None,
        alipay_cert: None,
        alipay_root_cert: None,
        base_url: format!("{origin}/gateway.do"),
        oauth_base_url: origin.to_owned(),
        mode: CodeMode::Unified,
        wap: false,
        payer_identity: true,
        precreate_product_code: alipay::Settings::PRECREATE_PRODUCT_CODE.to_owned(),
        timeout: alipay::Settings::TIMEOUT,
    }
}

/// Platform certificates are fetched more often than every twelve hours, as the provider asks.
const REFRESH_EVERY: std::time::Duration = std::time::Duration::from_hours(6);

/// Refreshes what has to be fetched, at the start and then now and then, until it is stopped.
pub(super) async fn refresh(providers: Providers, stop: CancellationToken) {
    loop {
        for provider in providers.iter() {
            if let Err(error) = provider.refresh().await {
                tracing::warn!(account = %provider.account().id, %error, "not refreshed");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(REFRESH_EVERY) => {}
        }
    }
}
