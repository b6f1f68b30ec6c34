//! `auth_base` (aggregated-qr §3): the silent redirect with an `auth_code`, and its exchange.

use std::collections::HashMap;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Map, json};

use super::sign::Parameters;
use super::{Refused, members};
use crate::simulator::books::OauthCode;
use crate::simulator::people::{Person, Wallet};
use crate::simulator::world::{World, is_loopback};

const CODE_LIFE: i64 = 5 * 60_000;

/// `GET /oauth2/publicAppAuthorize.htm`
pub(in crate::simulator) async fn authorize(
    world: web::Data<World>,
    request: HttpRequest,
    query: web::Query<HashMap<String, String>>,
) -> HttpResponse {
    let get = |name: &str| query.get(name).map_or("", String::as_str);
    let options = &world.options.alipay;
    if get("app_id") != options.app_id {
        return page("应用不存在", "INVALID_APP_ID");
    }
    if !matches!(get("scope"), "auth_base" | "auth_user") {
        return page("scope 参数不正确", "INVALID_SCOPE");
    }
    let Ok(mut back) = url::Url::parse(get("redirect_uri")) else {
        return page("回调地址不正确", "INVALID_REDIRECT_URI");
    };
    let listed = back.host_str().is_some_and(|host| {
        options
            .oauth_redirect_hosts
            .iter()
            .any(|listed| listed == host)
    });
    if !listed && !is_loopback(&back) {
        return page(
            "回调地址与应用配置的授权回调地址不一致",
            "INVALID_REDIRECT_URI",
        );
    }
    let Some(person) = crate::simulator::wallet::whose(&request, Wallet::Alipay) else {
        return page("请使用支付宝客户端打开", "NOT_IN_ALIPAY");
    };
    let code = world.random.hex::<16>();
    {
        let mut books = world.books();
        books.introduce(person.buyer_id(), &person);
        books.introduce(person.alipay_open_id(&options.app_id), &person);
        books.add_code(
            code.clone(),
            OauthCode {
                wallet: Wallet::Alipay,
                person: person.id,
                dies_at: world.now().plus_ms(CODE_LIFE),
                used: false,
            },
        );
    }
    world.persist().await;
    back.query_pairs_mut()
        .append_pair("app_id", &options.app_id)
        .append_pair("source", "alipay_wallet")
        .append_pair("scope", get("scope"))
        .append_pair("state", get("state"))
        .append_pair("auth_code", &code);
    HttpResponse::Found()
        .insert_header(("Location", back.as_str()))
        .insert_header(("Cache-Control", "no-store"))
        .finish()
}

fn page(message: &str, code: &str) -> HttpResponse {
    crate::simulator::wallet::pages::notice_page(
        StatusCode::OK,
        "支付宝 · 授权失败",
        message,
        &format!("错误码 {code}"),
    )
}

/// `alipay.system.oauth.token`: parameters beside `biz_content`, answer without `code` and `msg`.
pub(super) fn token(
    world: &World,
    parameters: &Parameters,
) -> Result<Map<String, serde_json::Value>, Refused> {
    let get = |name: &str| parameters.get(name).map_or("", String::as_str);
    if get("grant_type") != "authorization_code" {
        return Err(Refused::invalid(
            "isv.grant-type-invalid",
            "grant_type参数不正确",
        ));
    }
    let now = world.now();
    let mut books = world.books();
    let entry = books
        .code_mut(get("code"))
        .filter(|entry| entry.wallet == Wallet::Alipay && !entry.used && now <= entry.dies_at)
        .ok_or_else(|| Refused::invalid("isv.code-invalid", "授权码code无效"))?;
    entry.used = true;
    let person = Person::new(Wallet::Alipay, &entry.person)
        .ok_or_else(|| Refused::invalid("isv.code-invalid", "授权码code无效"))?;
    drop(books);
    let options = &world.options.alipay;
    let mut body = members([
        (
            "access_token",
            json!(format!("authbseB{}", world.random.hex::<16>())),
        ),
        (
            "refresh_token",
            json!(format!("authbseB{}", world.random.hex::<16>())),
        ),
        ("expires_in", json!(1_296_000)),
        ("re_expires_in", json!(2_592_000)),
        ("auth_start", json!(crate::simulator::times::plain(now))),
    ]);
    if options.open_ids {
        body.insert(
            "open_id".to_owned(),
            json!(person.alipay_open_id(&options.app_id)),
        );
    } else {
        body.insert("user_id".to_owned(), json!(person.buyer_id()));
    }
    Ok(body)
}
