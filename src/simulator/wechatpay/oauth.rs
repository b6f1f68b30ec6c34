//! `snsapi_base` (wechatpay-v3 §2.1, aggregated-qr §3): a silent redirect with a code, and the
//! exchange of the code for an openid. The codes live five minutes and work once.

use std::collections::HashMap;

use actix_web::{HttpRequest, HttpResponse, web};
use secrecy::ExposeSecret as _;
use serde_json::json;

use crate::simulator::books::OauthCode;
use crate::simulator::faults::Fault;
use crate::simulator::people::{Person, Wallet};
use crate::simulator::world::{World, is_loopback};

const CODE_LIFE: i64 = 5 * 60_000;
type Query = web::Query<HashMap<String, String>>;

/// `GET /connect/oauth2/authorize`
pub(in crate::simulator) async fn authorize(
    world: web::Data<World>,
    request: HttpRequest,
    query: Query,
) -> HttpResponse {
    let get = |name: &str| query.get(name).map_or("", String::as_str);
    if get("appid") != world.options.wechat.appid {
        return page("AppID 参数错误", "10013");
    }
    if get("response_type") != "code" {
        return page("response_type 参数错误", "10004");
    }
    if !matches!(get("scope"), "snsapi_base" | "snsapi_userinfo") {
        return page("该公众号没有这个 scope 的权限", "10005");
    }
    let Ok(mut back) = url::Url::parse(get("redirect_uri")) else {
        return page("redirect_uri 参数错误", "10003");
    };
    let listed = back.host_str().is_some_and(|host| {
        world
            .options
            .wechat
            .oauth_redirect_hosts
            .iter()
            .any(|listed| listed == host)
    });
    if !listed && !is_loopback(&back) {
        return page("redirect_uri 参数错误：域名与后台配置不一致", "10003");
    }
    let Some(person) = crate::simulator::wallet::whose(&request, Wallet::Wechat) else {
        return page("请在微信客户端打开链接", "10016");
    };
    let code = format!("0{}", world.random.hex::<16>());
    {
        let mut books = world.books();
        books.introduce(person.openid(&world.options.wechat.appid), &person);
        books.add_code(
            code.clone(),
            OauthCode {
                wallet: Wallet::Wechat,
                person: person.id,
                dies_at: world.now().plus_ms(CODE_LIFE),
                used: false,
            },
        );
    }
    world.persist().await;
    back.query_pairs_mut()
        .append_pair("code", &code)
        .append_pair("state", get("state"));
    HttpResponse::Found()
        .insert_header(("Location", back.as_str()))
        .insert_header(("Cache-Control", "no-store"))
        .finish()
}

fn page(message: &str, code: &str) -> HttpResponse {
    crate::simulator::wallet::pages::notice_page(
        actix_web::http::StatusCode::OK,
        "微信 · Oops!",
        message,
        &format!("错误码 {code}"),
    )
}

/// `GET /sns/oauth2/access_token`
pub(in crate::simulator) async fn access_token(
    world: web::Data<World>,
    query: Query,
) -> HttpResponse {
    let get = |name: &str| query.get(name).map_or("", String::as_str);
    let rule = world.take_fault("wechat.oauth", None, Fault::for_calls);
    if let Some(answer) = crate::simulator::answers::strike_before(rule.as_ref()).await {
        return answer;
    }
    if let Some(rule) = rule.as_ref().filter(|rule| rule.fault == Fault::Refused) {
        let code = rule.code.as_deref().and_then(|code| code.parse().ok());
        return failed(code.unwrap_or(-1), "system error");
    }
    let options = &world.options.wechat;
    let answer = if get("appid") != options.appid {
        failed(40013, "invalid appid")
    } else if get("secret") != options.app_secret.expose_secret() {
        failed(40125, "invalid appsecret")
    } else if get("grant_type") != "authorization_code" {
        failed(40002, "invalid grant_type")
    } else {
        redeem(&world, get("code"))
    };
    world.persist().await;
    crate::simulator::answers::strike_after(rule.as_ref())
        .await
        .unwrap_or(answer)
}

fn redeem(world: &World, code: &str) -> HttpResponse {
    let now = world.now();
    let mut books = world.books();
    let Some(entry) = books
        .code_mut(code)
        .filter(|entry| entry.wallet == Wallet::Wechat)
    else {
        return failed(40029, "invalid code");
    };
    if entry.used {
        return failed(40163, "code been used");
    }
    if now > entry.dies_at {
        return failed(40029, "invalid code, expired");
    }
    entry.used = true;
    let Some(person) = Person::new(Wallet::Wechat, &entry.person) else {
        return failed(40029, "invalid code");
    };
    // text/plain, as the original answers it.
    HttpResponse::Ok().content_type("text/plain").body(
        json!({
            "access_token": world.random.hex::<32>(),
            "expires_in": 7200,
            "refresh_token": world.random.hex::<32>(),
            "openid": person.openid(&world.options.wechat.appid),
            "scope": "snsapi_base",
        })
        .to_string(),
    )
}

fn failed(code: i64, message: &str) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain")
        .body(json!({ "errcode": code, "errmsg": message }).to_string())
}
