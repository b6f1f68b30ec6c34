//! What a simulator is started with: addresses, delays, and the provider's half of all keys.

use std::net::SocketAddr;
use std::path::PathBuf;

use secrecy::SecretString;

/// Everything [`super::start`] needs. [`Options::new`] fills in a lively demo; tests change fields.
#[derive(Clone, Debug)]
pub struct Options {
    /// Port 0 picks a free one; see [`super::Simulator::address`].
    pub listen: SocketAddr,
    pub wechat: WechatOptions,
    pub alipay: AlipayOptions,
    /// Where the books are kept over a restart; `None` keeps them in memory only.
    pub state_file: Option<PathBuf>,
    /// From a payment to its first notice.
    pub notify_delay_ms: u64,
    /// The providers' real retry schedules divided by this: 1 in truth, 1000 turns 15 s into 15 ms.
    pub retry_divisor: u32,
    /// From an accepted refund to its success.
    pub refund_delay_ms: u64,
    /// Least and greatest time an API call takes.
    pub latency_ms: (u64, u64),
    /// Server threads of the API.
    pub workers: usize,
    /// One more listener for each of the four demo people: their wallet's built-in browser.
    pub wallet_browsers: bool,
}

impl Options {
    pub fn new(listen: SocketAddr, wechat: WechatOptions, alipay: AlipayOptions) -> Self {
        Self {
            listen,
            wechat,
            alipay,
            state_file: None,
            notify_delay_ms: 300,
            retry_divisor: 1,
            refund_delay_ms: 1_000,
            latency_ms: (0, 0),
            workers: 1,
            wallet_browsers: true,
        }
    }
}

/// `WeChat` Pay's knowledge of one merchant, and its own keys.
#[derive(Clone, Debug)]
pub struct WechatOptions {
    pub mchid: String,
    pub appid: String,
    pub app_secret: SecretString,
    /// 32 bytes.
    pub api_v3_key: SecretString,
    /// The merchant's public key: `PUBLIC KEY` or `CERTIFICATE`, PEM.
    pub merchant_public_key_pem: String,
    /// Serial number of the merchant's API certificate, as `serial_no` names it.
    pub merchant_certificate_serial: String,
    /// The platform's private key, of the public key and of the certificate.
    pub platform_private_key_pem: SecretString,
    /// `PUB_KEY_ID_…`
    pub platform_public_key_id: String,
    /// `None`: a merchant without platform certificates, as all new ones are.
    pub platform_certificate_pem: Option<String>,
    /// Which key signs notices.
    pub notices_signed_by: Regime,
    /// Hosts that OAuth may return to, besides loopback ones.
    pub oauth_redirect_hosts: Vec<String>,
    /// How closing an unknown number is answered: 204 (true, as reported) or 404.
    pub close_unknown_is_fine: bool,
    /// What a payment costs, in hundredths of a percent: 60 is 0.60 %.
    pub fee_rate: i64,
    /// Least time between two refunds of one order. 0: the rule "at least a minute apart" is known
    /// (wechatpay-v3 §3.8), but not that the provider refuses what comes earlier.
    pub refund_spacing_ms: i64,
}

impl WechatOptions {
    #[expect(
        clippy::too_many_arguments,
        reason = "nine keys of different kinds, named at the only other call"
    )]
    pub fn new(
        mchid: &str,
        appid: &str,
        app_secret: impl Into<SecretString>,
        api_v3_key: impl Into<SecretString>,
        merchant_public_key_pem: &str,
        merchant_certificate_serial: &str,
        platform_private_key_pem: impl Into<SecretString>,
        platform_public_key_id: &str,
        platform_certificate_pem: Option<String>,
    ) -> Self {
        Self {
            mchid: mchid.to_owned(),
            appid: appid.to_owned(),
            app_secret: app_secret.into(),
            api_v3_key: api_v3_key.into(),
            merchant_public_key_pem: merchant_public_key_pem.to_owned(),
            merchant_certificate_serial: merchant_certificate_serial.to_owned(),
            platform_private_key_pem: platform_private_key_pem.into(),
            platform_public_key_id: platform_public_key_id.to_owned(),
            platform_certificate_pem,
            notices_signed_by: Regime::PublicKey,
            oauth_redirect_hosts: Vec::new(),
            close_unknown_is_fine: true,
            fee_rate: 60,
            refund_spacing_ms: 0,
        }
    }
}

/// Which of `WeChat`'s two keys signs (wechatpay-v3 §1.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Regime {
    #[default]
    PublicKey,
    Certificate,
    /// One after the other, as in the week of the change-over.
    Alternating,
}

/// Alipay's knowledge of one application, and its own key.
#[derive(Clone, Debug)]
pub struct AlipayOptions {
    pub app_id: String,
    /// `2088…`
    pub seller_id: String,
    pub app_public_key_pem: String,
    pub alipay_private_key_pem: SecretString,
    /// Certificate mode, if given.
    pub certificates: Option<AlipayCertificates>,
    /// OAuth and notices name the payer by `open_id` instead of the 2088 number.
    pub open_ids: bool,
    /// Trades live to the end of the minute of their `time_expire`.
    pub round_expiry_up: bool,
    /// Refunds are notified too (contract dependent).
    pub refund_notices: bool,
    /// What a payment costs, in hundredths of a percent: 60 is 0.60 %.
    pub fee_rate: i64,
    /// Hosts that OAuth may return to, besides loopback ones.
    pub oauth_redirect_hosts: Vec<String>,
}

impl AlipayOptions {
    pub fn new(
        app_id: &str,
        seller_id: &str,
        app_public_key_pem: &str,
        alipay_private_key_pem: impl Into<SecretString>,
    ) -> Self {
        Self {
            app_id: app_id.to_owned(),
            seller_id: seller_id.to_owned(),
            app_public_key_pem: app_public_key_pem.to_owned(),
            alipay_private_key_pem: alipay_private_key_pem.into(),
            certificates: None,
            open_ids: false,
            round_expiry_up: false,
            refund_notices: false,
            fee_rate: 60,
            oauth_redirect_hosts: Vec::new(),
        }
    }
}

/// Certificate mode: the three files of the console, PEM.
#[derive(Clone, Debug)]
pub struct AlipayCertificates {
    pub app_certificate_pem: String,
    pub alipay_certificate_pem: String,
    pub root_certificates_pem: String,
}
