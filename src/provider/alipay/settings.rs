//! What an Alipay application is configured with (contract §3, `[[account]]`): key material already
//! loaded, addresses not yet checked. [`Checked::new`] is the one place that judges it.

use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use super::certificates;
use crate::order::{AccountId, CodeMode};
use crate::provider::ProviderError;
use crate::provider::http;
use crate::provider::rsa::{PrivateKey, PublicKey};

/// One application. Texts as they stand in the configuration or its files.
#[derive(Clone, Debug)]
pub struct Settings {
    pub id: AccountId,
    pub app_id: String,
    /// 2088…: a notice for another seller is refused then.
    pub seller_id: Option<String>,
    /// The application's key: PKCS#8 or PKCS#1, PEM or bare Base64.
    pub private_key: SecretString,
    /// Alipay's key (not the application's) in key mode; `None` in certificate mode.
    pub alipay_public_key: Option<String>,
    /// Certificate mode: all three files' contents, or none.
    pub app_cert: Option<String>,
    pub alipay_cert: Option<String>,
    pub alipay_root_cert: Option<String>,
    /// The gateway, `…/gateway.do`.
    pub base_url: String,
    pub oauth_base_url: String,
    pub mode: CodeMode,
    /// `alipay_product = "wap"`: the WAP product inside Alipay too.
    pub wap: bool,
    /// Does the contract allow `ext_user_info`?
    pub payer_identity: bool,
    /// By the contract that was signed: `QR_CODE_OFFLINE` or `FACE_TO_FACE_PAYMENT`.
    pub precreate_product_code: String,
    /// How long one call may take in all.
    pub timeout: Duration,
}

impl Settings {
    pub const BASE_URL: &str = "https://openapi.alipay.com/gateway.do";
    pub const OAUTH_BASE_URL: &str = "https://openauth.alipay.com";
    pub const PRECREATE_PRODUCT_CODE: &str = "QR_CODE_OFFLINE";
    pub const TIMEOUT: Duration = http::TIMEOUT;
}

/// The serial numbers (SN) that certificate mode sends and expects.
pub(super) struct Certificates {
    pub app: String,
    pub alipay_root: String,
    pub alipay: String,
}

/// Settings that hold water.
pub(super) struct Checked {
    pub id: AccountId,
    pub app_id: String,
    pub seller_id: Option<String>,
    pub private_key: PrivateKey,
    pub alipay_key: PublicKey,
    pub certificates: Option<Certificates>,
    pub base_url: Url,
    pub oauth_base_url: Url,
    pub precreate_product_code: String,
    pub timeout: Duration,
}

impl Checked {
    pub fn new(settings: &Settings) -> Result<Self, ProviderError> {
        let wrong = |key: &str, expected: &dyn std::fmt::Display| ProviderError::Misconfigured {
            account: settings.id.clone(),
            what: format!("{key}: {expected}"),
        };
        let address =
            |key: &str, text: &str| http::base_url(text).map_err(|expected| wrong(key, &expected));
        let is_number = |text: &str, longest: usize| {
            (1..=longest).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !is_number(&settings.app_id, 32) {
            return Err(wrong(
                "app_id",
                &"expected the application's number, digits only",
            ));
        }
        if let Some(seller) = &settings.seller_id
            && !(is_number(seller, 28) && seller.starts_with("2088"))
        {
            return Err(wrong(
                "seller_id",
                &"expected a number that begins with 2088",
            ));
        }
        let product_code = &settings.precreate_product_code;
        if !(1..=64).contains(&product_code.len())
            || !product_code
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte == b'_')
        {
            return Err(wrong(
                "precreate_product_code",
                &"expected QR_CODE_OFFLINE or FACE_TO_FACE_PAYMENT",
            ));
        }
        let private_key = PrivateKey::parse(&settings.private_key)
            .map_err(|error| wrong("private_key", &error))?;
        let (alipay_key, certificates) = match (
            &settings.alipay_public_key,
            &settings.app_cert,
            &settings.alipay_cert,
            &settings.alipay_root_cert,
        ) {
            (Some(key), None, None, None) => (
                PublicKey::parse(key).map_err(|error| wrong("alipay_public_key", &error))?,
                None,
            ),
            (None, Some(app), Some(alipay), Some(root)) => {
                let (app_cert_sn, app_key) =
                    certificates::certificate(app).map_err(|error| wrong("app_cert", &error))?;
                let probe = b"do key and certificate belong together?";
                if !app_key.verifies(probe, &private_key.sign(probe)) {
                    return Err(wrong(
                        "app_cert",
                        &"expected the certificate of private_key, found one of another key",
                    ));
                }
                let (alipay_cert_sn, alipay_key) = certificates::certificate(alipay)
                    .map_err(|error| wrong("alipay_cert", &error))?;
                let alipay_root_cert_sn = certificates::root_serial_numbers(root)
                    .map_err(|error| wrong("alipay_root_cert", &error))?;
                let certificates = Certificates {
                    app: app_cert_sn,
                    alipay_root: alipay_root_cert_sn,
                    alipay: alipay_cert_sn,
                };
                (alipay_key, Some(certificates))
            }
            _ => {
                return Err(wrong(
                    "alipay_public_key",
                    &"expected either alipay_public_key, or app_cert, alipay_cert and \
                      alipay_root_cert together",
                ));
            }
        };
        Ok(Self {
            id: settings.id.clone(),
            app_id: settings.app_id.clone(),
            seller_id: settings.seller_id.clone(),
            private_key,
            alipay_key,
            certificates,
            base_url: address("base_url", &settings.base_url)?,
            oauth_base_url: address("oauth_base_url", &settings.oauth_base_url)?,
            precreate_product_code: product_code.clone(),
            timeout: settings.timeout,
        })
    }
}
