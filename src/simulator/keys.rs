//! Key material of both sides for the demo, made once at first start and kept in one JSON file:
//! the merchant's and the provider's halves, so that connectors and simulators are configured from
//! the same place. Never fit for production; `serve` refuses it there.

use std::fmt::{self, Write as _};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, PKCS_RSA_SHA256,
    RsaKeySize, SerialNumber,
};
use serde::{Deserialize, Serialize};

use super::crypto::KeyError;
use super::options::{AlipayOptions, WechatOptions};
use crate::clock::Clock;
use crate::random::Random;

/// Everything both sides of the simulated wires need. Serialises to one JSON object.
#[derive(Clone, Serialize, Deserialize)]
pub struct DemoKeys {
    pub wechat: WechatDemoKeys,
    pub alipay: AlipayDemoKeys,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct WechatDemoKeys {
    pub mchid: String,
    pub appid: String,
    pub app_secret: String,
    /// 32 ASCII characters.
    pub api_v3_key: String,
    pub merchant_private_key_pem: String,
    pub merchant_certificate_pem: String,
    /// Upper-case hex: `serial_no` of the `Authorization` header.
    pub merchant_certificate_serial: String,
    pub platform_private_key_pem: String,
    /// `PUB_KEY_ID_…`
    pub platform_public_key_id: String,
    pub platform_public_key_pem: String,
    pub platform_certificate_pem: String,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct AlipayDemoKeys {
    pub app_id: String,
    pub seller_id: String,
    pub app_private_key_pem: String,
    pub app_public_key_pem: String,
    pub alipay_private_key_pem: String,
    pub alipay_public_key_pem: String,
}

impl fmt::Debug for DemoKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("DemoKeys(***)")
    }
}

impl fmt::Debug for WechatDemoKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("WechatDemoKeys(***)")
    }
}

impl fmt::Debug for AlipayDemoKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AlipayDemoKeys(***)")
    }
}

impl DemoKeys {
    /// The same as [`generate`].
    pub fn generate(clock: &dyn Clock, random: &dyn Random) -> Result<Self, KeyError> {
        generate(clock, random)
    }

    /// The provider's half of the `WeChat` keys.
    pub fn wechat_options(&self) -> WechatOptions {
        let keys = &self.wechat;
        WechatOptions::new(
            &keys.mchid,
            &keys.appid,
            keys.app_secret.clone(),
            keys.api_v3_key.clone(),
            &keys.merchant_certificate_pem,
            &keys.merchant_certificate_serial,
            keys.platform_private_key_pem.clone(),
            &keys.platform_public_key_id,
            Some(keys.platform_certificate_pem.clone()),
        )
    }

    /// The provider's half of the Alipay keys.
    pub fn alipay_options(&self) -> AlipayOptions {
        let keys = &self.alipay;
        AlipayOptions::new(
            &keys.app_id,
            &keys.seller_id,
            &keys.app_public_key_pem,
            keys.alipay_private_key_pem.clone(),
        )
    }
}

/// Makes fresh keys: four RSA keys of 2048 bits and two certificates, some tenths of a second.
pub fn generate(clock: &dyn Clock, random: &dyn Random) -> Result<DemoKeys, KeyError> {
    let merchant = rsa_key()?;
    let platform = rsa_key()?;
    let app = rsa_key()?;
    let alipay = rsa_key()?;
    let (merchant_certificate_pem, merchant_certificate_serial) =
        certificate(&merchant, "enrollpay demo merchant", clock, random)?;
    let (platform_certificate_pem, _) =
        certificate(&platform, "enrollpay simulated platform", clock, random)?;
    Ok(DemoKeys {
        wechat: WechatDemoKeys {
            mchid: "1900000001".to_owned(),
            appid: format!("wx{}", random.hex::<8>()),
            app_secret: random.hex::<16>(),
            api_v3_key: random.hex::<16>(),
            merchant_private_key_pem: merchant.serialize_pem(),
            merchant_certificate_pem,
            merchant_certificate_serial,
            platform_private_key_pem: platform.serialize_pem(),
            platform_public_key_id: format!("PUB_KEY_ID_01{:032}", random.below(u64::MAX)),
            platform_public_key_pem: platform.public_key_pem(),
            platform_certificate_pem,
        },
        alipay: AlipayDemoKeys {
            app_id: "2021000000000001".to_owned(),
            seller_id: "2088000000000001".to_owned(),
            app_private_key_pem: app.serialize_pem(),
            app_public_key_pem: app.public_key_pem(),
            alipay_private_key_pem: alipay.serialize_pem(),
            alipay_public_key_pem: alipay.public_key_pem(),
        },
    })
}

pub(super) fn rsa_key() -> Result<KeyPair, KeyError> {
    KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)
        .map_err(|error| generation(&error))
}

fn generation(error: &rcgen::Error) -> KeyError {
    KeyError::Generation {
        why: error.to_string(),
    }
}

/// A self-signed certificate of five years: PEM and serial number.
pub(super) fn certificate(
    key: &KeyPair,
    name: &str,
    clock: &dyn Clock,
    random: &dyn Random,
) -> Result<(String, String), KeyError> {
    let mut serial = random.bytes::<20>();
    // A positive number of full length, so that its hex has the 40 digits people expect.
    serial[0] = serial[0] & 0x3f | 0x40;
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    let today = super::times::civil_date(clock.now());
    params.not_before = rcgen::date_time_ymd(today.0, today.1, 1);
    params.not_after = rcgen::date_time_ymd(today.0 + 5, today.1, 1);
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject.push(DnType::OrganizationName, "enrollpay simulator");
    subject.push(DnType::CountryName, "CN");
    params.distinguished_name = subject;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params
        .self_signed(key)
        .map_err(|error| generation(&error))?;
    let number = serial.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02X}");
        hex
    });
    Ok((certificate.pem(), number))
}
