//! Signatures (wechatpay-v3 §1.2–1.5): the merchant's are checked in the provider's own order, the
//! provider's are made under the serial the request asked for.

use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::Refused;
use crate::clock::Clock;
use crate::random::Random;
use crate::simulator::crypto::{
    KeyError, SigningKey, VerifyingKey, certificate_serial, certificate_validity, seal,
};
use crate::simulator::faults::Fault;
use crate::simulator::options::WechatOptions;
use crate::simulator::times;
use crate::simulator::world::World;

const SCHEME: &str = "WECHATPAY2-SHA256-RSA2048";
/// Farthest a request's timestamp may lie from our clock, seconds.
const WINDOW: i64 = 300;

/// The parsed keys.
#[derive(Debug)]
pub(in crate::simulator) struct WechatPay {
    merchant: VerifyingKey,
    api_v3_key: [u8; 32],
    public_key: SigningKey,
    /// Oldest first; the last one signs. Empty: this merchant has no platform certificates.
    certificates: RwLock<Vec<PlatformCertificate>>,
    /// Nobody's key: for forgeries.
    stranger: SigningKey,
}

#[derive(Debug)]
struct PlatformCertificate {
    serial: String,
    pem: String,
    key: SigningKey,
}

/// Which name the signature goes under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::simulator) enum Signer {
    PublicKey,
    Certificate,
}

impl WechatPay {
    pub(in crate::simulator) fn new(
        options: &WechatOptions,
        stranger: SigningKey,
    ) -> Result<Self, KeyError> {
        let secret = options.api_v3_key.expose_secret().as_bytes();
        let api_v3_key: [u8; 32] = secret.try_into().map_err(|_| KeyError::ApiKeyLength {
            found: secret.len(),
        })?;
        let what = "wechat platform private key";
        let private = options.platform_private_key_pem.expose_secret();
        let certificates = match &options.platform_certificate_pem {
            Some(pem) => vec![PlatformCertificate {
                serial: certificate_serial(pem, "wechat platform certificate")?,
                pem: pem.clone(),
                key: SigningKey::read(private, what)?,
            }],
            None => Vec::new(),
        };
        Ok(Self {
            merchant: VerifyingKey::read(
                &options.merchant_public_key_pem,
                "wechat merchant public key",
            )?,
            api_v3_key,
            public_key: SigningKey::read(private, what)?,
            certificates: RwLock::new(certificates),
            stranger,
        })
    }

    fn certificates(&self) -> RwLockReadGuard<'_, Vec<PlatformCertificate>> {
        self.certificates
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn has_certificates(&self) -> bool {
        !self.certificates().is_empty()
    }

    /// A new platform certificate signs from now on; the old ones stay listed. Returns its serial.
    pub(in crate::simulator) fn rotate(
        &self,
        clock: &dyn Clock,
        random: &dyn Random,
    ) -> Result<String, KeyError> {
        let key = crate::simulator::keys::rsa_key()?;
        let (pem, serial) = crate::simulator::keys::certificate(
            &key,
            "enrollpay simulated platform",
            clock,
            random,
        )?;
        let certificate = PlatformCertificate {
            serial: serial.clone(),
            pem,
            key: SigningKey::read(&key.serialize_pem(), "rotated platform key")?,
        };
        self.certificates
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(certificate);
        Ok(serial)
    }

    /// What the merchant sealed for the key of this serial or id.
    pub(super) fn open(&self, public_key_id: &str, serial: &str, sealed: &str) -> Option<String> {
        if serial == public_key_id {
            return self.public_key.open(sealed);
        }
        self.certificates()
            .iter()
            .find(|certificate| certificate.serial == serial)?
            .key
            .open(sealed)
    }

    pub(in crate::simulator) fn merchant_signed(&self, message: &str, signature: &str) -> bool {
        self.merchant.verifies(message.as_bytes(), signature)
    }

    /// Base64 of the sealed plaintext under a nonce of 12 characters.
    pub(super) fn seal(&self, nonce: &str, associated_data: &str, plaintext: &str) -> String {
        seal(
            &self.api_v3_key,
            nonce,
            associated_data,
            plaintext.as_bytes(),
        )
    }

    /// `GET /v3/certificates`.
    pub(super) fn certificates_json(&self, random: &dyn Random) -> Value {
        let list: Vec<Value> = self
            .certificates()
            .iter()
            .map(|certificate| {
                let nonce = random.hex::<6>();
                let (from, to) = certificate_validity(&certificate.pem, "platform certificate")
                    .unwrap_or_default();
                let at = |seconds| times::rfc3339(crate::order::Timestamp::from_seconds(seconds));
                json!({
                    "serial_no": certificate.serial,
                    "effective_time": at(from),
                    "expire_time": at(to),
                    "encrypt_certificate": {
                        "algorithm": "AEAD_AES_256_GCM",
                        "nonce": nonce,
                        "associated_data": "certificate",
                        "ciphertext": self.seal(&nonce, "certificate", &certificate.pem),
                    }
                })
            })
            .collect();
        json!({ "data": list })
    }

    /// The five `Wechatpay-*` headers over a body, spoiled as the fault says.
    pub(super) fn headers(
        &self,
        world: &World,
        signer: &Signer,
        body: &str,
        fault: Option<Fault>,
    ) -> Vec<(&'static str, String)> {
        if fault == Some(Fault::Unsigned) {
            return Vec::new();
        }
        let mut seconds = world.now().as_seconds();
        if fault == Some(Fault::OldTimestamp) {
            seconds -= WINDOW + 1;
        }
        let nonce = world.nonce();
        let message = format!("{seconds}\n{nonce}\n{body}\n");
        let certificates = self.certificates();
        let (mut serial, key) = match (signer, certificates.last()) {
            (Signer::Certificate, Some(certificate)) => {
                (certificate.serial.clone(), &certificate.key)
            }
            _ => (
                world.options.wechat.platform_public_key_id.clone(),
                &self.public_key,
            ),
        };
        let mut signature = match fault {
            Some(Fault::Forged | Fault::WrongSignature | Fault::UnknownSerial) => {
                self.stranger.sign(message.as_bytes())
            }
            _ => key.sign(message.as_bytes()),
        };
        drop(certificates);
        match fault {
            Some(Fault::SignatureProbe) => {
                signature.replace_range(..19, "WECHATPAY/SIGNTEST/");
            }
            Some(Fault::UnknownSerial) => serial = format!("PUB_KEY_ID_{:034}", 0),
            _ => {}
        }
        vec![
            ("Wechatpay-Timestamp", seconds.to_string()),
            ("Wechatpay-Nonce", nonce),
            ("Wechatpay-Signature", signature),
            ("Wechatpay-Serial", serial),
            ("Wechatpay-Signature-Type", SCHEME.to_owned()),
        ]
    }
}

/// A request as it came over the wire.
pub(super) struct Call<'a> {
    pub(super) method: &'a str,
    /// Path and query, raw.
    pub(super) target: &'a str,
    pub(super) body: &'a str,
    pub(super) authorization: Option<&'a str>,
}

struct Credentials<'a> {
    mchid: &'a str,
    nonce: &'a str,
    timestamp: i64,
    serial: &'a str,
    signature: &'a str,
}

/// Exactly five items, any order, none twice.
fn parse(header: &str) -> Option<Credentials<'_>> {
    let items = header.strip_prefix(SCHEME)?.strip_prefix(' ')?;
    let (mut mchid, mut nonce, mut timestamp, mut serial, mut signature) =
        (None, None, None, None, None);
    for item in items.split(',') {
        let (name, value) = item.split_once('=')?;
        let value = value.strip_prefix('"')?.strip_suffix('"')?;
        let place = match name {
            "mchid" => &mut mchid,
            "nonce_str" => &mut nonce,
            "timestamp" => &mut timestamp,
            "serial_no" => &mut serial,
            "signature" => &mut signature,
            _ => return None,
        };
        if place.replace(value).is_some() {
            return None;
        }
    }
    Some(Credentials {
        mchid: mchid?,
        nonce: nonce?,
        timestamp: timestamp?.parse().ok()?,
        serial: serial?,
        signature: signature?,
    })
}

/// Format, then time, then signature: all 401 `SIGN_ERROR`, told apart by their texts only.
/// Returns the `mchid` that signed.
pub(super) fn authenticate(world: &World, call: &Call<'_>) -> Result<String, Refused> {
    let error = |message: &str| Refused::new(401, "SIGN_ERROR", message);
    let payments = call.target.starts_with("/v3/pay/transactions/");
    let Some(header) = call.authorization else {
        return Err(error(if payments {
            "签名信息错误，验签失败"
        } else {
            "Http头Authorization值格式错误，请参考《微信支付商户API v3签名规则》"
        }));
    };
    let credentials = parse(header).ok_or_else(|| {
        error("Http头Authorization值格式错误，请参考《微信支付商户API v3签名规则》")
    })?;
    if (world.now().as_seconds() - credentials.timestamp).abs() > WINDOW {
        return Err(error(
            "Http头Authorization中的timestamp与发起请求的时间不得超过5分钟",
        ));
    }
    let options = &world.options.wechat;
    if credentials.mchid != options.mchid {
        return Err(error("商户号与签名不符"));
    }
    if credentials.serial != options.merchant_certificate_serial {
        return Err(error("商户证书序列号有误"));
    }
    let message = format!(
        "{}\n{}\n{}\n{}\n{}\n",
        call.method, call.target, credentials.timestamp, credentials.nonce, call.body
    );
    if !world
        .wechat
        .merchant_signed(&message, credentials.signature)
    {
        return Err(error("签名错误，请检查后再试"));
    }
    Ok(credentials.mchid.to_owned())
}
