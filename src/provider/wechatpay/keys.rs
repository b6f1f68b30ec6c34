//! The keys that WeChat signs with: one table for both regimes, public key and platform certificates,
//! chosen per message by `Wechatpay-Serial` (protocol §1.4). Old and new live side by side; a
//! certificate goes when it expires.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::aead::LessSafeKey;
use serde::Deserialize;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::sign::Resource;
use crate::order::Timestamp;
use crate::provider::rsa::{self, PublicKey};

/// Serial → key.
#[derive(Clone, Debug, Default)]
pub struct KeyTable(BTreeMap<Box<str>, PlatformKey>);

#[derive(Clone, Debug)]
struct PlatformKey {
    key: PublicKey,
    /// A public key has no term, a certificate has.
    term: Option<Term>,
}

#[derive(Clone, Copy, Debug)]
struct Term {
    not_before: Timestamp,
    not_after: Timestamp,
}

impl PlatformKey {
    fn has_expired(&self, now: Timestamp) -> bool {
        self.term.is_some_and(|term| now > term.not_after)
    }
}

impl KeyTable {
    pub fn with_public_key(id: Box<str>, key: PublicKey) -> Self {
        let term = None;
        Self(BTreeMap::from([(id, PlatformKey { key, term })]))
    }

    /// By the exact text of the serial.
    pub fn get(&self, serial: &str, now: Timestamp) -> Option<&PublicKey> {
        self.0
            .get(serial)
            .filter(|entry| !entry.has_expired(now))
            .map(|entry| &entry.key)
    }

    /// The key to encrypt for: the public key, or the certificate that became valid last.
    pub fn newest(&self, now: Timestamp) -> Option<(&str, &PublicKey)> {
        let started = |entry: &PlatformKey| {
            let not_before = entry.term.map(|term| term.not_before);
            not_before.is_none_or(|start| start <= now)
        };
        self.0
            .iter()
            .filter(|(_, entry)| !entry.has_expired(now) && started(entry))
            .max_by_key(|(_, entry)| {
                let not_before = entry.term.map(|term| term.not_before);
                (not_before.is_none(), not_before)
            })
            .map(|(serial, entry)| (&**serial, &entry.key))
    }

    /// Takes in what was fetched and lets go of what has expired.
    #[must_use]
    pub fn merged(&self, fetched: Self, now: Timestamp) -> Self {
        let mut all = self.0.clone();
        all.extend(fetched.0);
        all.retain(|_, entry| !entry.has_expired(now));
        Self(all)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When the last certificate ends; `None` without certificates.
    pub fn last_end(&self) -> Option<Timestamp> {
        let ends = self.0.values().filter_map(|entry| entry.term);
        ends.map(|term| term.not_after).max()
    }

    /// Reads the answer of GET /v3/certificates. Members that cannot be opened, are no certificate, or
    /// bear another serial than they are announced with are left out.
    pub fn of_answer(body: &[u8], api_v3_key: &LessSafeKey) -> Option<Self> {
        let answer: Certificates = serde_json::from_slice(body).ok()?;
        let mut table = BTreeMap::new();
        for announced in answer.data {
            let opened = announced
                .encrypt_certificate
                .open(api_v3_key)
                .and_then(|plain| String::from_utf8(plain).ok())
                .and_then(|pem| certificate_key(&pem, &announced.serial_no));
            if let Some(entry) = opened {
                table.insert(announced.serial_no.into_boxed_str(), entry);
            }
        }
        Some(Self(table))
    }
}

fn certificate_key(pem: &str, serial: &str) -> Option<PlatformKey> {
    let der = rsa::certificates(pem).ok()?.into_iter().next()?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    let own = certificate.tbs_certificate.serial.to_str_radix(16);
    if !own.eq_ignore_ascii_case(serial.trim_start_matches('0')) {
        return None;
    }
    Some(PlatformKey {
        key: PublicKey::of_certificate(&certificate).ok()?,
        term: Some(Term {
            not_before: Timestamp::from_seconds(certificate.validity().not_before.timestamp()),
            not_after: Timestamp::from_seconds(certificate.validity().not_after.timestamp()),
        }),
    })
}

#[derive(Deserialize)]
struct Certificates {
    data: Vec<Announced>,
}

#[derive(Deserialize)]
struct Announced {
    serial_no: String,
    encrypt_certificate: Resource,
}

/// The table as it stands now, replaced whole.
#[derive(Debug, Default)]
pub struct Keys(RwLock<Arc<KeyTable>>);

impl Keys {
    pub fn new(table: KeyTable) -> Self {
        Self(RwLock::new(Arc::new(table)))
    }

    pub fn table(&self) -> Arc<KeyTable> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn replace(&self, table: KeyTable) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
    }
}
