//! The phone: who holds it, what a scanned code means, and the payment sheet of either wallet.

pub(super) mod bridge;
pub(super) mod pages;

use actix_web::{HttpRequest, web};

use super::people::{FACES, Person, Wallet};

/// The header by which a built-in browser (or a test) says whose phone this is.
pub(super) const USER_HEADER: &str = "x-simulator-user";

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/", web::get().to(pages::root))
        .route("/wallet", web::get().to(pages::home))
        .route("/wallet/style.css", web::get().to(pages::style))
        .route("/wallet/scan", web::post().to(pages::scan))
        .route("/wallet/open", web::get().to(pages::open))
        .route("/wallet/login", web::post().to(pages::login))
        .route("/wallet/pay", web::get().to(pages::sheet))
        .route("/wallet/pay", web::post().to(pages::pay))
        .route("/wallet/faults", web::get().to(pages::faults))
        .route("/wallet/faults", web::post().to(pages::set_fault))
        .route("/wallet/faults/clear", web::post().to(pages::clear_faults))
        .route(
            "/wallet/{wallet}/{user}/open",
            web::get().to(pages::open_for),
        );
}

/// Whose wallet sends this: by header, else by cookie, else the first face of that wallet if the
/// browser says it is that wallet at all.
pub(super) fn whose(request: &HttpRequest, wallet: Wallet) -> Option<Person> {
    named(request, wallet).or_else(|| {
        let token = match wallet {
            Wallet::Wechat => "MicroMessenger",
            Wallet::Alipay => "AlipayClient",
        };
        let agent = request.headers().get("user-agent")?.to_str().ok()?;
        let (id, ..) = FACES.iter().find(|(_, face, _)| *face == wallet)?;
        agent
            .contains(token)
            .then(|| Person::new(wallet, id))
            .flatten()
    })
}

/// By header or cookie only.
pub(super) fn named(request: &HttpRequest, wallet: Wallet) -> Option<Person> {
    let header = request
        .headers()
        .get(USER_HEADER)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let id = header.or_else(|| {
        request
            .cookie(&format!("simulator_{}", wallet.as_str()))
            .map(|cookie| cookie.value().to_owned())
    })?;
    // A face belongs to one wallet; a stranger to whichever asks.
    match Person::face(&id) {
        Some(person) if person.wallet != wallet => None,
        _ => Person::new(wallet, &id),
    }
}

/// The token inside a provider's own code.
pub(super) fn token_of(content: &str) -> Option<String> {
    let content = content.trim();
    let token = content
        .strip_prefix("weixin://wxpay/bizpayurl?pr=")
        .or_else(|| content.strip_prefix("https://qr.alipay.com/"))?;
    (!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        .then(|| token.to_owned())
}
