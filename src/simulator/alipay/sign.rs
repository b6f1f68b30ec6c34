//! RSA2 (alipay §1.2–1.5): the application's signature over sorted parameters is checked, Alipay's own
//! is made over the raw text of the answer.

use std::collections::BTreeMap;

use secrecy::ExposeSecret as _;

use super::Refused;
use crate::simulator::crypto::{
    KeyError, SigningKey, VerifyingKey, alipay_certificate_sn, alipay_root_sn,
};
use crate::simulator::faults::Fault;
use crate::simulator::options::AlipayOptions;

pub(super) type Parameters = BTreeMap<String, String>;

/// The parsed keys.
#[derive(Debug)]
pub(in crate::simulator) struct Alipay {
    application: VerifyingKey,
    own: SigningKey,
    stranger: SigningKey,
    numbers: Option<Numbers>,
}

/// Serial numbers of certificate mode.
#[derive(Debug)]
struct Numbers {
    app: String,
    alipay: String,
    root: String,
}

impl Alipay {
    pub(in crate::simulator) fn new(
        options: &AlipayOptions,
        stranger: SigningKey,
    ) -> Result<Self, KeyError> {
        let numbers = match &options.certificates {
            Some(files) => Some(Numbers {
                app: alipay_certificate_sn(&files.app_certificate_pem, "app certificate")?,
                alipay: alipay_certificate_sn(&files.alipay_certificate_pem, "alipay certificate")?,
                root: alipay_root_sn(&files.root_certificates_pem)?,
            }),
            None => None,
        };
        let application = match &options.certificates {
            Some(files) => &files.app_certificate_pem,
            None => &options.app_public_key_pem,
        };
        Ok(Self {
            application: VerifyingKey::read(application, "alipay application public key")?,
            own: SigningKey::read(
                options.alipay_private_key_pem.expose_secret(),
                "alipay private key",
            )?,
            stranger,
            numbers,
        })
    }

    /// Signature, then the certificate numbers. The refusal quotes what should have been signed.
    pub(super) fn check(&self, parameters: &Parameters) -> Result<(), Refused> {
        let Some(sign) = parameters.get("sign").filter(|sign| !sign.is_empty()) else {
            return Err(Refused::missing("isv.missing-signature", "缺少签名参数"));
        };
        let message = joined(parameters, &["sign"]);
        if !self.application.verifies(message.as_bytes(), sign) {
            return Err(Refused::invalid(
                "isv.invalid-signature",
                &format!(
                    "验签出错，建议检查签名字符串或签名私钥与应用公钥是否匹配，网关生成的验签字符串为：{}",
                    message.replace('&', "&amp;")
                ),
            ));
        }
        let Some(numbers) = &self.numbers else {
            return Ok(());
        };
        if parameters.get("app_cert_sn") != Some(&numbers.app) {
            return Err(Refused::invalid(
                "isv.missing-app-cert-sn",
                "应用公钥证书SN缺失或不匹配",
            ));
        }
        if parameters.get("alipay_root_cert_sn") != Some(&numbers.root) {
            return Err(Refused::invalid(
                "isv.missing-alipay-root-cert-sn",
                "支付宝根证书SN缺失或不匹配",
            ));
        }
        Ok(())
    }

    /// The whole answer: the object's text with `\/`, its signature over exactly that text.
    pub(super) fn envelope(
        &self,
        key: &str,
        object: &serde_json::Value,
        fault: Option<Fault>,
    ) -> String {
        let raw = object.to_string().replace('/', "\\/");
        if fault == Some(Fault::Unsigned) {
            return format!("{{\"{key}\":{raw}}}");
        }
        let mut sign = match fault {
            Some(Fault::WrongSignature | Fault::UnknownSerial | Fault::Forged) => {
                self.stranger.sign(raw.as_bytes())
            }
            Some(Fault::TamperedBody) => self.own.sign(format!("{raw} ").as_bytes()),
            _ => self.own.sign(raw.as_bytes()),
        };
        if fault == Some(Fault::SignatureProbe) {
            sign.replace_range(..8, "SIGNTEST");
        }
        match &self.numbers {
            Some(numbers) => {
                let number = if fault == Some(Fault::UnknownSerial) {
                    "00000000000000000000000000000000"
                } else {
                    &numbers.alipay
                };
                format!("{{\"{key}\":{raw},\"alipay_cert_sn\":\"{number}\",\"sign\":\"{sign}\"}}")
            }
            None => format!("{{\"{key}\":{raw},\"sign\":\"{sign}\"}}"),
        }
    }

    /// Signs a notice or the parameters of a `return_url`: without `sign` and `sign_type`.
    pub(super) fn sign_parameters(&self, parameters: &Parameters, forged: bool) -> String {
        let message = joined(parameters, &["sign", "sign_type"]);
        if forged {
            self.stranger.sign(message.as_bytes())
        } else {
            self.own.sign(message.as_bytes())
        }
    }
}

/// `a=1&b=2`, sorted, without empty values.
fn joined(parameters: &Parameters, without: &[&str]) -> String {
    parameters
        .iter()
        .filter(|(name, value)| !without.contains(&name.as_str()) && !value.is_empty())
        .map(|(name, value)| format!("{name}={value}"))
        .collect::<Vec<_>>()
        .join("&")
}
