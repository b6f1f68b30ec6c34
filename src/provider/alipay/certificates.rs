//! Serial numbers of Alipay's certificate mode (protocol §1.5): MD5 of issuer and serial, as lower-case
//! hex. MD5 by Alipay's definition; nothing here relies on its strength.

use std::fmt::Write as _;

use md5::{Digest as _, Md5};
use x509_parser::prelude::{FromDer as _, X509Certificate, X509Name};

use crate::provider::rsa::{self, KeyError, PublicKey};

const RSA_SIGNATURES: &str = "1.2.840.113549.1.1";

/// `app_cert_sn` or `alipay_cert_sn` of the first certificate of a PEM file, and its key.
pub fn certificate(pem: &str) -> Result<(String, PublicKey), KeyError> {
    let all = rsa::certificates(pem)?;
    let first = all.first().ok_or(KeyError::NotACertificate)?;
    let (_, certificate) =
        X509Certificate::from_der(first).map_err(|_| KeyError::NotACertificate)?;
    let key = PublicKey::of_certificate(&certificate)?;
    serial_number(&certificate)
        .map(|number| (number, key))
        .ok_or(KeyError::NotACertificate)
}

/// `alipay_root_cert_sn`: the RSA-signed certificates of the root file in file order; SM2 and ECDSA roots
/// are passed over.
pub fn root_serial_numbers(pem: &str) -> Result<String, KeyError> {
    let mut numbers = Vec::new();
    for der in rsa::certificates(pem)? {
        let (_, certificate) =
            X509Certificate::from_der(&der).map_err(|_| KeyError::NotACertificate)?;
        let algorithm = certificate.signature_algorithm.algorithm.to_id_string();
        if algorithm.starts_with(RSA_SIGNATURES) {
            numbers.push(serial_number(&certificate).ok_or(KeyError::NotACertificate)?);
        }
    }
    if numbers.is_empty() {
        return Err(KeyError::NotACertificate);
    }
    Ok(numbers.join("_"))
}

fn serial_number(certificate: &X509Certificate<'_>) -> Option<String> {
    let mut text = issuer(certificate.issuer())?;
    write!(text, "{}", certificate.tbs_certificate.serial).ok()?;
    let mut number = String::new();
    for byte in Md5::digest(text.as_bytes()) {
        write!(number, "{byte:02x}").ok()?;
    }
    Some(number)
}

/// `CN=…,OU=…,O=…,C=…`: the last part first, no blank after the commas.
fn issuer(name: &X509Name<'_>) -> Option<String> {
    let mut parts = name
        .iter_attributes()
        .map(|attribute| {
            let kind = attribute.attr_type().to_id_string();
            let kind = match kind.as_str() {
                "2.5.4.3" => "CN",
                "2.5.4.6" => "C",
                "2.5.4.7" => "L",
                "2.5.4.8" => "ST",
                "2.5.4.10" => "O",
                "2.5.4.11" => "OU",
                other => other,
            };
            Some(format!("{kind}={}", attribute.as_str().ok()?))
        })
        .collect::<Option<Vec<_>>>()?;
    parts.reverse();
    Some(parts.join(","))
}
