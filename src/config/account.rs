//! `[[account]]`: one school's account at one provider, with its credentials.

use secrecy::SecretString;
use serde::Deserialize;

use super::finding::Finding;
use super::sections::{Budget, Budgets};
use super::{Mode, lenient};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderName {
    Wechatpay,
    Alipay,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlipayProduct {
    #[default]
    Jsapi,
    Wap,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Qr {
    #[default]
    Unified,
    Native,
}

/// Keys of both providers; which ones are needed depends on `provider`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    pub id: String,
    pub provider: ProviderName,
    #[serde(default)]
    pub base_url: Option<String>,
    #[serde(default)]
    pub oauth_base_url: Option<String>,
    #[serde(default)]
    pub qr: Qr,
    #[serde(default)]
    pub private_key: Option<SecretString>,
    /// Does the provider check who pays for this account?
    #[serde(default)]
    pub payer_identity: bool,
    /// What differs from its provider's budget.
    #[serde(default)]
    pub budget: OwnBudget,

    #[serde(default)]
    pub mchid: Option<String>,
    #[serde(default)]
    pub appid: Option<String>,
    #[serde(default)]
    pub app_secret: Option<SecretString>,
    #[serde(default)]
    pub api_v3_key: Option<SecretString>,
    #[serde(default)]
    pub certificate_serial: Option<String>,
    #[serde(default)]
    pub platform_public_key_id: Option<String>,
    #[serde(default)]
    pub platform_public_key: Option<SecretString>,
    #[serde(default)]
    pub h5: bool,
    #[serde(default)]
    pub openid_base_url: Option<String>,

    #[serde(default)]
    pub app_id: Option<String>,
    #[serde(default)]
    pub seller_id: Option<String>,
    #[serde(default)]
    pub alipay_public_key: Option<SecretString>,
    #[serde(default)]
    pub app_cert: Option<SecretString>,
    #[serde(default)]
    pub alipay_cert: Option<SecretString>,
    #[serde(default)]
    pub alipay_root_cert: Option<SecretString>,
    #[serde(default)]
    pub alipay_product: AlipayProduct,
    #[serde(default)]
    pub precreate_product_code: Option<String>,
}

/// A [`Budget`] of which every key may be left out.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnBudget {
    #[serde(default, deserialize_with = "lenient::optional")]
    orders_per_second: Option<u32>,
    #[serde(default, deserialize_with = "lenient::optional")]
    queries_per_second: Option<u32>,
    #[serde(default, deserialize_with = "lenient::optional")]
    closes_per_second: Option<u32>,
    #[serde(default, deserialize_with = "lenient::optional")]
    refunds_per_second: Option<u32>,
    #[serde(default, deserialize_with = "lenient::optional")]
    failing_refunds_per_second: Option<u32>,
    #[serde(default, deserialize_with = "lenient::optional")]
    refund_queries_per_second: Option<u32>,
    #[serde(default, deserialize_with = "lenient::optional")]
    calls_at_once: Option<u32>,
}

impl OwnBudget {
    fn over(&self, usual: Budget) -> Budget {
        let or = |own: Option<u32>, usual| own.unwrap_or(usual);
        Budget {
            orders_per_second: or(self.orders_per_second, usual.orders_per_second),
            queries_per_second: or(self.queries_per_second, usual.queries_per_second),
            closes_per_second: or(self.closes_per_second, usual.closes_per_second),
            refunds_per_second: or(self.refunds_per_second, usual.refunds_per_second),
            failing_refunds_per_second: or(
                self.failing_refunds_per_second,
                usual.failing_refunds_per_second,
            ),
            refund_queries_per_second: or(
                self.refund_queries_per_second,
                usual.refund_queries_per_second,
            ),
            calls_at_once: or(self.calls_at_once, usual.calls_at_once),
        }
    }
}

impl Account {
    /// How much this account's provider may be asked: its own keys over the provider's.
    pub fn budget(&self, budgets: &Budgets) -> Budget {
        self.budget.over(match self.provider {
            ProviderName::Wechatpay => budgets.wechatpay,
            ProviderName::Alipay => budgets.alipay,
        })
    }

    pub(super) fn validate(&self, index: usize, mode: Mode) -> Vec<Finding> {
        let mut findings = Vec::new();
        let key = |name: &str| format!("account[{index}].{name}");
        let id_fits = !self.id.is_empty()
            && self.id.len() <= 64
            && self
                .id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if !id_fits {
            findings.push(Finding::new(
                &key("id"),
                format!("{:?}", self.id),
                "1 to 64 letters, digits, - and _ (it stands in callback addresses)",
            ));
        }
        let needed: Vec<(&str, bool)> = match self.provider {
            ProviderName::Wechatpay => vec![
                ("mchid", self.mchid.is_some()),
                ("appid", self.appid.is_some()),
                ("app_secret", self.app_secret.is_some()),
                ("api_v3_key", self.api_v3_key.is_some()),
                ("certificate_serial", self.certificate_serial.is_some()),
                ("private_key", self.private_key.is_some()),
            ],
            ProviderName::Alipay => vec![
                ("app_id", self.app_id.is_some()),
                ("private_key", self.private_key.is_some()),
                (
                    "alipay_public_key",
                    self.alipay_public_key.is_some() || self.alipay_cert.is_some(),
                ),
            ],
        };
        for (name, given) in needed {
            if !given {
                findings.push(Finding::new(&key(name), "nothing", "a value"));
            }
        }
        if self.payer_identity && self.alipay_product == AlipayProduct::Wap {
            findings.push(Finding::new(
                &key("payer_identity"),
                "true, with alipay_product = \"wap\"",
                "false, or alipay_product = \"jsapi\" (a wap link shows the payer's number to whoever \
                 scans the code)",
            ));
        }
        if self.platform_public_key.is_some() != self.platform_public_key_id.is_some() {
            findings.push(Finding::new(
                &key("platform_public_key_id"),
                "only one of platform_public_key_id and platform_public_key",
                "both, or neither (then platform certificates are fetched)",
            ));
        }
        for (name, url) in [
            ("base_url", &self.base_url),
            ("oauth_base_url", &self.oauth_base_url),
            ("openid_base_url", &self.openid_base_url),
        ] {
            let Some(url) = url else { continue };
            let fits = url::Url::parse(url).is_ok_and(|parsed| match parsed.scheme() {
                "https" => true,
                "http" => mode == Mode::Demo && is_loopback(&parsed),
                _ => false,
            });
            if !fits {
                findings.push(Finding::new(
                    &key(name),
                    url.clone(),
                    "an https address (http to loopback in demo mode only)",
                ));
            }
        }
        findings
    }
}

fn is_loopback(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}
