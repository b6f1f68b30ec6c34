//! RSA and AES-GCM as the providers use them, over aws-lc-rs. Written here a second time on purpose:
//! a mistake in the connectors' own signing must not find its twin on this side of the wire.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use aws_lc_rs::signature::{
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Why key material could not be used. Never says what the material was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("{what}: expected PEM or Base64 of a DER key, found neither")]
    NotPem { what: &'static str },
    #[error("{what}: the key is not an RSA key of at least 2048 bits that can be read")]
    NotRsa { what: &'static str },
    #[error("{what}: the certificate cannot be read")]
    NotCertificate { what: &'static str },
    #[error("the APIv3 key must be exactly 32 bytes, found {found}")]
    ApiKeyLength { found: usize },
    #[error("making a key failed: {why}")]
    Generation { why: String },
}

/// The DER inside PEM armour, or inside bare Base64 as Alipay's tools print keys.
fn der(text: &str, what: &'static str) -> Result<Vec<u8>, KeyError> {
    if text.contains("-----BEGIN") {
        return x509_parser::pem::parse_x509_pem(text.trim_start().as_bytes())
            .map(|(_, pem)| pem.contents)
            .map_err(|_| KeyError::NotPem { what });
    }
    let bare: String = text.split_whitespace().collect();
    STANDARD.decode(bare).map_err(|_| KeyError::NotPem { what })
}

/// An RSA private key that signs with SHA256withRSA (PKCS#1 v1.5).
pub(super) struct SigningKey(RsaKeyPair);

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SigningKey(***)")
    }
}

impl SigningKey {
    pub(super) fn read(text: &str, what: &'static str) -> Result<Self, KeyError> {
        let der = der(text, what)?;
        RsaKeyPair::from_pkcs8(&der)
            .or_else(|_| RsaKeyPair::from_der(&der))
            .map(Self)
            .map_err(|_| KeyError::NotRsa { what })
    }

    /// Base64 of the signature.
    pub(super) fn sign(&self, message: &[u8]) -> String {
        let mut signature = vec![0; self.0.public_modulus_len()];
        // PKCS#1 v1.5 is deterministic: the library takes a generator and does not use it.
        self.0
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                message,
                &mut signature,
            )
            .expect("a buffer as long as the modulus holds the signature");
        STANDARD.encode(signature)
    }

    /// What was sealed for this key with RSAES-OAEP over SHA-1 (wechatpay-v3 §1.4), if anything was.
    pub(super) fn open(&self, sealed_base64: &str) -> Option<String> {
        let sealed = STANDARD.decode(sealed_base64).ok()?;
        let der = self.0.as_der().ok()?;
        let key = PrivateDecryptingKey::from_pkcs8(der.as_ref()).ok()?;
        let key = OaepPrivateDecryptingKey::new(key).ok()?;
        let mut opened = vec![0; key.min_output_size()];
        let text = key
            .decrypt(&OAEP_SHA1_MGF1SHA1, &sealed, &mut opened, None)
            .ok()?;
        String::from_utf8(text.to_vec()).ok()
    }
}

/// SHA-1 in hex: the checksum `WeChat` gives with its bills. It protects nothing.
pub(super) fn sha1(bytes: &[u8]) -> String {
    use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

    hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// An RSA public key, from a `PUBLIC KEY` or a `CERTIFICATE`.
pub(super) struct VerifyingKey(ParsedPublicKey);

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("VerifyingKey")
    }
}

impl VerifyingKey {
    pub(super) fn read(text: &str, what: &'static str) -> Result<Self, KeyError> {
        let mut bytes = der(text, what)?;
        if text.contains("BEGIN CERTIFICATE") {
            let (_, certificate) = x509_parser::parse_x509_certificate(&bytes)
                .map_err(|_| KeyError::NotCertificate { what })?;
            let inner = certificate.public_key().raw.to_vec();
            bytes = inner;
        }
        ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &bytes)
            .map(Self)
            .map_err(|_| KeyError::NotRsa { what })
    }

    pub(super) fn verifies(&self, message: &[u8], signature_base64: &str) -> bool {
        STANDARD
            .decode(signature_base64)
            .is_ok_and(|signature| self.0.verify_sig(message, &signature).is_ok())
    }
}

/// The serial number of a PEM certificate, upper-case hex, as `Wechatpay-Serial` has it.
pub(super) fn certificate_serial(pem: &str, what: &'static str) -> Result<String, KeyError> {
    let bytes = der(pem, what)?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&bytes)
        .map_err(|_| KeyError::NotCertificate { what })?;
    Ok(format!("{:X}", certificate.serial))
}

/// The validity of a PEM certificate, Unix seconds.
pub(super) fn certificate_validity(pem: &str, what: &'static str) -> Result<(i64, i64), KeyError> {
    let bytes = der(pem, what)?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&bytes)
        .map_err(|_| KeyError::NotCertificate { what })?;
    let validity = certificate.validity();
    Ok((
        validity.not_before.timestamp(),
        validity.not_after.timestamp(),
    ))
}

/// `AEAD_AES_256_GCM` (wechatpay-v3 §1.5): Base64 of ciphertext and tag. The nonce is 12 ASCII bytes.
pub(super) fn seal(
    api_v3_key: &[u8; 32],
    nonce: &str,
    associated_data: &str,
    plaintext: &[u8],
) -> String {
    let key = LessSafeKey::new(
        UnboundKey::new(&AES_256_GCM, api_v3_key).expect("32 bytes are an AES-256 key"),
    );
    let bytes: [u8; NONCE_LEN] = nonce
        .as_bytes()
        .try_into()
        .expect("callers make nonces of 12 ASCII bytes");
    let mut sealed = plaintext.to_vec();
    key.seal_in_place_append_tag(
        Nonce::assume_unique_for_key(bytes),
        Aad::from(associated_data.as_bytes()),
        &mut sealed,
    )
    .expect("a message far below the limit of AES-GCM is sealed");
    STANDARD.encode(sealed)
}

/// Alipay's certificate serial number (alipay §1.5): MD5 of the issuer, last name first, and the
/// serial number in decimal.
pub(super) fn alipay_certificate_sn(pem: &str, what: &'static str) -> Result<String, KeyError> {
    let bytes = der(pem, what)?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&bytes)
        .map_err(|_| KeyError::NotCertificate { what })?;
    Ok(sn_of(&certificate))
}

/// The joined numbers of the RSA-signed certificates of a root file.
pub(super) fn alipay_root_sn(pems: &str) -> Result<String, KeyError> {
    let what = "alipay root certificates";
    let mut numbers = Vec::new();
    for pem in x509_parser::pem::Pem::iter_from_buffer(pems.as_bytes()) {
        let pem = pem.map_err(|_| KeyError::NotPem { what })?;
        let Ok(certificate) = pem.parse_x509() else {
            continue;
        };
        let algorithm = certificate.signature_algorithm.algorithm.to_id_string();
        if algorithm.starts_with("1.2.840.113549.1.1") {
            numbers.push(sn_of(&certificate));
        }
    }
    Ok(numbers.join("_"))
}

fn sn_of(certificate: &x509_parser::certificate::X509Certificate<'_>) -> String {
    use md5::{Digest as _, Md5};

    let registry = x509_parser::objects::oid_registry();
    let mut names: Vec<String> = certificate
        .issuer()
        .iter_attributes()
        .map(|attribute| {
            let short = x509_parser::objects::oid2abbrev(attribute.attr_type(), registry)
                .map_or_else(|_| attribute.attr_type().to_id_string(), str::to_owned);
            format!("{short}={}", attribute.as_str().unwrap_or_default())
        })
        .collect();
    names.reverse();
    let text = format!("{}{}", names.join(","), certificate.serial);
    hex(&Md5::digest(text.as_bytes()))
}
