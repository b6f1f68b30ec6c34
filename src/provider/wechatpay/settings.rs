//! What a WeChat Pay account is configured with (contract §3, `[[account]]`): key material already
//! loaded, addresses not yet checked. [`Checked::new`] is the one place that judges it.

use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use crate::order::{AccountId, CodeMode};
use crate::provider::ProviderError;
use crate::provider::http;
use crate::provider::rsa::{PrivateKey, PublicKey};

/// One merchant number. Texts as they stand in the configuration or its files.
#[derive(Clone, Debug)]
pub struct Settings {
    pub id: AccountId,
    pub mchid: String,
    pub appid: String,
    /// Of the service account; needed in unified mode, where an openid is asked for.
    pub app_secret: Option<SecretString>,
    /// The 32 characters of the APIv3 key.
    pub api_v3_key: SecretString,
    /// The merchant API certificate's private key: PKCS#8 or PKCS#1, PEM or bare Base64.
    pub private_key: SecretString,
    /// The merchant API certificate's serial number: hex, as the console shows it.
    pub certificate_serial: String,
    /// `PUB_KEY_ID_…`, together with `platform_public_key`; without both, platform certificates are
    /// fetched and rotated.
    pub platform_public_key_id: Option<String>,
    pub platform_public_key: Option<String>,
    pub base_url: String,
    pub oauth_base_url: String,
    pub openid_base_url: String,
    pub mode: CodeMode,
    pub h5: bool,
    /// Has the merchant the permission for `payer.identity`?
    pub payer_identity: bool,
    /// How long one call may take in all.
    pub timeout: Duration,
}

impl Settings {
    pub const BASE_URL: &str = "https://api.mch.weixin.qq.com";
    pub const OAUTH_BASE_URL: &str = "https://open.weixin.qq.com";
    pub const OPENID_BASE_URL: &str = "https://api.weixin.qq.com";
    pub const TIMEOUT: Duration = http::TIMEOUT;
}

/// Settings that hold water.
pub(super) struct Checked {
    pub id: AccountId,
    pub mchid: String,
    pub appid: String,
    pub app_secret: Option<SecretString>,
    pub api_v3_key: LessSafeKey,
    pub private_key: PrivateKey,
    pub certificate_serial: String,
    pub platform_public_key: Option<(Box<str>, PublicKey)>,
    pub base_url: Url,
    pub oauth_base_url: Url,
    pub openid_base_url: Url,
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
        let is_word = |text: &str| {
            (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        if !is_word(&settings.mchid) || !settings.mchid.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong("mchid", &"expected the merchant number, digits only"));
        }
        if !is_word(&settings.appid) {
            return Err(wrong(
                "appid",
                &"expected the appid, such as wx8888888888888888",
            ));
        }
        let serial = settings.certificate_serial.trim().to_ascii_uppercase();
        if !(8..=40).contains(&serial.len()) || !serial.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            return Err(wrong(
                "certificate_serial",
                &"expected the merchant API certificate's serial number, 40 hex digits",
            ));
        }
        if settings.mode == CodeMode::Unified && settings.app_secret.is_none() {
            return Err(wrong(
                "app_secret",
                &"expected the service account's secret: unified codes ask for the payer's openid",
            ));
        }
        let platform_public_key = match (
            &settings.platform_public_key_id,
            &settings.platform_public_key,
        ) {
            (None, None) => None,
            (Some(id), Some(key)) => {
                if !id.starts_with("PUB_KEY_ID_") {
                    return Err(wrong(
                        "platform_public_key_id",
                        &"expected an id that begins with PUB_KEY_ID_",
                    ));
                }
                let key =
                    PublicKey::parse(key).map_err(|error| wrong("platform_public_key", &error))?;
                Some((id.as_str().into(), key))
            }
            _ => {
                return Err(wrong(
                    "platform_public_key_id",
                    &"expected both platform_public_key_id and platform_public_key, or neither",
                ));
            }
        };
        Ok(Self {
            id: settings.id.clone(),
            mchid: settings.mchid.clone(),
            appid: settings.appid.clone(),
            app_secret: settings.app_secret.clone(),
            api_v3_key: UnboundKey::new(
                &AES_256_GCM,
                settings.api_v3_key.expose_secret().as_bytes(),
            )
            .map(LessSafeKey::new)
            .map_err(|_| wrong("api_v3_key", &"expected the 32 characters of the APIv3 key"))?,
            private_key: PrivateKey::parse(&settings.private_key)
                .map_err(|error| wrong("private_key", &error))?,
            certificate_serial: serial,
            platform_public_key,
            base_url: address("base_url", &settings.base_url)?,
            oauth_base_url: address("oauth_base_url", &settings.oauth_base_url)?,
            openid_base_url: address("openid_base_url", &settings.openid_base_url)?,
            timeout: settings.timeout,
        })
    }
}
