//! How a claimant is known again, from any page, with or without cookies: a sealed note of the payer
//! that only this attempt opens, or, where a wallet names nobody (H5, WAP), the claim key itself.

use actix_web::HttpRequest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::http::Deps;
use crate::order::{AttemptId, PayerHash};
use crate::sealing::{Place, Sealed};

/// The cookie; its value begins with the scan token it is for.
pub const CLAIM_COOKIE: &str = "ep_claim";

/// A claim key: 128 random bits of one browser.
pub fn fresh_key(deps: &Deps) -> String {
    format!("k{}", URL_SAFE_NO_PAD.encode(deps.random.bytes::<16>()))
}

/// The note for a payer whom a wallet named.
pub fn seal(deps: &Deps, attempt: AttemptId, payer: PayerHash) -> String {
    let row = attempt.to_string();
    let sealed = deps.sealer.seal(place(&row), &payer.0.to_be_bytes());
    format!("p{}", URL_SAFE_NO_PAD.encode(sealed.0))
}

/// Whom a proof stands for.
pub fn payer(deps: &Deps, attempt: AttemptId, proof: &str) -> Option<PayerHash> {
    if proof.len() > 200 {
        return None;
    }
    if let Some(key) = proof.strip_prefix('k') {
        let is_key = URL_SAFE_NO_PAD
            .decode(key)
            .is_ok_and(|bytes| bytes.len() == 16);
        return is_key.then(|| PayerHash(deps.sealer.index("claim_key", key)));
    }
    let sealed = URL_SAFE_NO_PAD.decode(proof.strip_prefix('p')?).ok()?;
    let row = attempt.to_string();
    let plain = deps.sealer.open(place(&row), &Sealed(sealed)).ok()?;
    let bytes: [u8; 16] = plain.try_into().ok()?;
    Some(PayerHash(u128::from_be_bytes(bytes)))
}

const fn place(row: &str) -> Place<'_> {
    Place {
        table: "attempts",
        column: "claim_proof",
        row,
    }
}

/// What the cookie holds.
pub fn cookie_value(scan_token: &str, proof: &str) -> String {
    format!("{scan_token}.{proof}")
}

/// The proof for this code, from the address or else the cookie.
pub fn given(request: &HttpRequest, scan_token: &str) -> Option<String> {
    let named = url::form_urlencoded::parse(request.query_string().as_bytes())
        .find(|(name, _)| name == "k")
        .map(|(_, value)| value.into_owned());
    named.or_else(|| from_cookie(request, scan_token))
}

pub fn from_cookie(request: &HttpRequest, scan_token: &str) -> Option<String> {
    let cookie = request.cookie(CLAIM_COOKIE)?;
    let (token, proof) = cookie.value().split_once('.')?;
    (token == scan_token).then(|| proof.to_owned())
}
