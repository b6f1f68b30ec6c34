//! Certificates for servers of this machine.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// An authority, and a server's certificate of it; all as PEM.
pub struct Certificates {
    pub authority: String,
    pub server: String,
    /// Of the server.
    pub key: String,
}

impl Certificates {
    /// For `127.0.0.1` and `localhost`.
    pub fn new() -> Self {
        Self::of(&["127.0.0.1", "localhost"])
    }

    pub fn of(names: &[&str]) -> Self {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = ca.self_signed(&ca_key).unwrap().pem();
        let issuer = Issuer::new(ca, ca_key);
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let server = CertificateParams::new(names).unwrap();
        Self {
            authority,
            server: server.signed_by(&key, &issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}
