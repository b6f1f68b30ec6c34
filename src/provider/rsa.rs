//! RSA keys in every form that providers' consoles hand out (PKCS#8 and PKCS#1, PEM and bare Base64,
//! certificates), SHA256withRSA and the sealing of single fields over aws-lc-rs.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, PublicEncryptingKey};
use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

/// Why a text is not the key that was expected. Never quotes the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("expected a PEM block or bare Base64, found neither")]
    NotPem,
    #[error("expected an RSA private key of at least 2048 bits, as PKCS#8 or PKCS#1")]
    NotAPrivateKey,
    #[error("expected an RSA public key of at least 2048 bits, or a certificate with one")]
    NotAPublicKey,
    #[error("expected an X.509 certificate in PEM form")]
    NotACertificate,
}

/// A key that signs. Cheap to clone.
#[derive(Clone)]
pub struct PrivateKey(Arc<KeyPair>);

impl fmt::Debug for PrivateKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PrivateKey(***)")
    }
}

impl PrivateKey {
    /// Reads PKCS#8 or PKCS#1, as PEM or as bare Base64.
    pub fn parse(text: &SecretString) -> Result<Self, KeyError> {
        let der = Zeroizing::new(first_der(text.expose_secret())?);
        KeyPair::from_pkcs8(&der)
            .or_else(|_| KeyPair::from_der(&der))
            .map(|pair| Self(Arc::new(pair)))
            .map_err(|_| KeyError::NotAPrivateKey)
    }

    /// The Base64 of the SHA256withRSA (PKCS#1 v1.5) signature. About half a millisecond of work.
    pub fn sign(&self, message: &[u8]) -> String {
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                message,
                &mut signature,
            )
            .expect("a parsed key signs into a buffer of its own length");
        STANDARD.encode(signature)
    }

    /// [`Self::sign`] away from the threads that serve requests.
    pub async fn sign_aside(&self, message: Vec<u8>) -> Option<String> {
        let key = self.clone();
        tokio::task::spawn_blocking(move || key.sign(&message))
            .await
            .ok()
    }
}

/// A key that verifies. Cheap to clone.
#[derive(Clone)]
pub struct PublicKey(Arc<ParsedPublicKey>);

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PublicKey")
    }
}

impl PublicKey {
    /// Reads a `PUBLIC KEY`, an `RSA PUBLIC KEY` or a certificate, as PEM or as bare Base64.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let der = first_der(text)?;
        match X509Certificate::from_der(&der) {
            Ok((_, certificate)) => Self::of_certificate(&certificate),
            Err(_) => Self::from_der(&der),
        }
    }

    pub fn of_certificate(certificate: &X509Certificate<'_>) -> Result<Self, KeyError> {
        // The inner RSAPublicKey: some certificates carry odd algorithm parameters around it.
        Self::from_der(&certificate.public_key().subject_public_key.data)
    }

    fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der)
            .map(|key| Self(Arc::new(key)))
            .map_err(|_| KeyError::NotAPublicKey)
    }

    /// Does the Base64 `signature` fit these bytes? Anything unreadable does not.
    pub fn verifies(&self, message: &[u8], signature: &str) -> bool {
        STANDARD
            .decode(signature)
            .is_ok_and(|signature| self.0.verify_sig(message, &signature).is_ok())
    }

    /// Encrypts a short text for the key's owner: Base64 of RSAES-OAEP with SHA-1 and MGF1-SHA-1, without
    /// a label (WeChat Pay protocol §1.4; a FAQ of WeChat's recommends SHA-256, its
    /// reference page says SHA-1 and is followed). `None` where it is too long: 214 bytes for 2048 bits.
    pub fn seal(&self, text: &[u8]) -> Option<String> {
        let der = self.0.as_der().ok()?;
        let key = PublicEncryptingKey::from_der(der.as_ref()).ok()?;
        let key = OaepPublicEncryptingKey::new(key).ok()?;
        let mut sealed = vec![0; key.ciphertext_size()];
        let sealed = key
            .encrypt(&OAEP_SHA1_MGF1SHA1, text, &mut sealed, None)
            .ok()?;
        Some(STANDARD.encode(sealed))
    }
}

/// The DER of the certificates of a PEM file, in file order.
pub fn certificates(text: &str) -> Result<Vec<Vec<u8>>, KeyError> {
    let blocks = pem_blocks(text).ok_or(KeyError::NotACertificate)?;
    let certificates: Vec<_> = blocks
        .into_iter()
        .filter(|(label, _)| label == "CERTIFICATE")
        .map(|(_, der)| der)
        .collect();
    if certificates.is_empty() {
        return Err(KeyError::NotACertificate);
    }
    Ok(certificates)
}

fn first_der(text: &str) -> Result<Vec<u8>, KeyError> {
    if text.contains("-----BEGIN") {
        return pem_blocks(text)
            .and_then(|blocks| blocks.into_iter().next())
            .map(|(_, der)| der)
            .ok_or(KeyError::NotPem);
    }
    let bare: Zeroizing<String> = Zeroizing::new(text.split_ascii_whitespace().collect());
    if bare.is_empty() {
        return Err(KeyError::NotPem);
    }
    STANDARD
        .decode(bare.as_bytes())
        .map_err(|_| KeyError::NotPem)
}

fn pem_blocks(text: &str) -> Option<Vec<(String, Vec<u8>)>> {
    // Windows line ends and indentation come with files that were mailed around.
    let tidy = Zeroizing::new(text.lines().map(str::trim).collect::<Vec<_>>().join("\n"));
    x509_parser::pem::Pem::iter_from_buffer(tidy.as_bytes())
        .map(|block| block.ok().map(|block| (block.label, block.contents)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> serde_json::Value {
        serde_json::from_str(include_str!("../../tests/vectors/alipay-derived.json")).unwrap()
    }

    fn text(name: &str) -> String {
        keys()["keys"][name].as_str().unwrap().to_owned()
    }

    fn bare(pem: &str) -> String {
        pem.lines().filter(|line| !line.starts_with('-')).collect()
    }

    #[test]
    fn reads_every_form_of_one_key() {
        let pkcs8 = text("app_private_key_pem");
        let der = STANDARD.decode(bare(&pkcs8)).unwrap();
        // The PKCS#1 key is the last octet string of the PKCS#8 wrapping.
        let pkcs1 = STANDARD.encode(&der[26..]);
        let armoured = format!(
            "-----BEGIN RSA PRIVATE KEY-----\r\n{pkcs1}\r\n-----END RSA PRIVATE KEY-----\r\n"
        );
        let public = PublicKey::parse(&text("app_public_key_pem")).unwrap();
        let bare_public = PublicKey::parse(&bare(&text("app_public_key_pem"))).unwrap();
        let of_certificate = PublicKey::parse(&text("app_certificate_pem")).unwrap();
        for form in [pkcs8.clone(), bare(&pkcs8), pkcs1, armoured] {
            let signature = PrivateKey::parse(&form.into()).unwrap().sign(b"message");
            for key in [&public, &bare_public, &of_certificate] {
                assert!(key.verifies(b"message", &signature));
                assert!(!key.verifies(b"massage", &signature));
            }
        }
    }

    #[test]
    fn says_what_it_wanted_instead() {
        let public = text("app_public_key_pem");
        assert_eq!(
            PrivateKey::parse(&public.into()).unwrap_err(),
            KeyError::NotAPrivateKey
        );
        for nonsense in ["", "-----BEGIN PRIVATE KEY-----", "*", "\u{feff}"] {
            assert!(PrivateKey::parse(&nonsense.to_owned().into()).is_err());
            assert!(PublicKey::parse(nonsense).is_err());
            assert!(certificates(nonsense).is_err());
        }
        assert!(
            !format!(
                "{:?}",
                PrivateKey::parse(&text("app_private_key_pem").into())
            )
            .contains("MII")
        );
    }

    #[test]
    fn no_signature_is_no_signature() {
        let key = PublicKey::parse(&text("app_public_key_pem")).unwrap();
        for nonsense in ["", "====", "AAAA", "签名", "WECHATPAY/SIGNTEST/AAAA"] {
            assert!(!key.verifies(b"message", nonsense));
        }
    }
}
