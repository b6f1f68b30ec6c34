//! The door of `/v3/…`: routes, signatures, faults, and the signed answer.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::Value;

use super::orders::{self, Which};
use super::sign::{Call, Signer, authenticate};
use super::{Done, Refused, bills, refunds};
use crate::simulator::answers;
use crate::simulator::books::{Product, Refund};
use crate::simulator::faults::{Fault, Rule};
use crate::simulator::people::Wallet;
use crate::simulator::world::World;

/// What a path and method ask for.
enum Route {
    Prepay(Product),
    Query(String),
    QueryById(String),
    Close(String),
    Refund,
    RefundQuery(String),
    /// By the provider's number.
    AbnormalRefund(String),
    TradeBill,
    FundFlowBill,
    BillFile,
    Certificates,
}

impl Route {
    fn operation(&self) -> &'static str {
        match self {
            Self::Prepay(_) => "wechat.prepay",
            Self::Query(_) | Self::QueryById(_) => "wechat.query",
            Self::Close(_) => "wechat.close",
            Self::Refund => "wechat.refund",
            Self::RefundQuery(_) => "wechat.refund_query",
            Self::AbnormalRefund(_) => "wechat.abnormal_refund",
            Self::TradeBill => "wechat.trade_bill",
            Self::FundFlowBill => "wechat.fund_flow_bill",
            Self::BillFile => "wechat.bill_file",
            Self::Certificates => "wechat.certificates",
        }
    }

    /// Paths that answer 400 without a `User-Agent` before they look at anything else.
    fn wants_user_agent(&self) -> bool {
        !matches!(
            self,
            Self::Prepay(_) | Self::Query(_) | Self::QueryById(_) | Self::Close(_)
        )
    }

    /// What a query or close of a number nobody knows is answered.
    fn unknown(&self) -> Refused {
        match self {
            Self::Refund | Self::RefundQuery(_) | Self::AbnormalRefund(_) => {
                Refused::new(404, "RESOURCE_NOT_EXISTS", "退款单不存在")
            }
            _ => Refused::new(404, "ORDER_NOT_EXIST", "订单不存在"),
        }
    }
}

/// `Err` is the bare status: 404 for an unknown path, 405 for a wrong method.
fn route(method: &str, path: &str) -> Result<Route, StatusCode> {
    let segments: Vec<String> = path.split('/').skip(1).map(percent_decode).collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let (wanted, route) = match segments[..] {
        ["v3", "pay", "transactions", "native"] => ("POST", Route::Prepay(Product::Native)),
        ["v3", "pay", "transactions", "jsapi"] => ("POST", Route::Prepay(Product::Jsapi)),
        ["v3", "pay", "transactions", "h5"] => ("POST", Route::Prepay(Product::H5)),
        ["v3", "pay", "transactions", "out-trade-no", number] => {
            ("GET", Route::Query(number.to_owned()))
        }
        ["v3", "pay", "transactions", "id", id] => ("GET", Route::QueryById(id.to_owned())),
        ["v3", "pay", "transactions", "out-trade-no", number, "close"] => {
            ("POST", Route::Close(number.to_owned()))
        }
        ["v3", "refund", "domestic", "refunds"] => ("POST", Route::Refund),
        ["v3", "refund", "domestic", "refunds", number] => {
            ("GET", Route::RefundQuery(number.to_owned()))
        }
        [
            "v3",
            "refund",
            "domestic",
            "refunds",
            id,
            "apply-abnormal-refund",
        ] => ("POST", Route::AbnormalRefund(id.to_owned())),
        ["v3", "bill", "tradebill"] => ("GET", Route::TradeBill),
        ["v3", "bill", "fundflowbill"] => ("GET", Route::FundFlowBill),
        ["v3", "billdownload", "file"] => ("GET", Route::BillFile),
        ["v3", "certificates"] => ("GET", Route::Certificates),
        _ => return Err(StatusCode::NOT_FOUND),
    };
    if method == wanted {
        Ok(route)
    } else {
        Err(StatusCode::METHOD_NOT_ALLOWED)
    }
}

fn percent_decode(segment: &str) -> String {
    // A form decoder would turn `+` into a blank; a path keeps it.
    let guarded = segment.replace('+', "%2B");
    url::form_urlencoded::parse(guarded.as_bytes())
        .next()
        .map(|(name, _)| name.into_owned())
        .unwrap_or_default()
}

/// Every request below `/v3`.
pub(in crate::simulator) async fn serve(
    world: web::Data<World>,
    request: HttpRequest,
    body: web::Bytes,
) -> HttpResponse {
    let target = request
        .uri()
        .path_and_query()
        .map_or("/", actix_web::http::uri::PathAndQuery::as_str);
    let route = match route(request.method().as_str(), request.uri().path()) {
        Ok(route) => route,
        Err(status) => return HttpResponse::new(status),
    };
    world.latency().await;
    let header = |name: &str| {
        request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let text = String::from_utf8_lossy(&body);
    let json = serde_json::from_str::<Value>(&text);
    let out_trade_no = match &route {
        Route::Query(number) | Route::Close(number) => Some(number.clone()),
        Route::RefundQuery(number) => order_of(&world, |refund| refund.number == *number),
        Route::AbnormalRefund(id) => order_of(&world, |refund| refund.id == *id),
        _ => json
            .as_ref()
            .ok()
            .and_then(|json| json["out_trade_no"].as_str())
            .map(str::to_owned),
    };
    let call = Call {
        method: request.method().as_str(),
        target,
        body: &text,
        authorization: header("authorization"),
    };
    let checked = checks(&world, &route, &call, &header);
    let rule = match &checked {
        // Faults are for calls that would have worked.
        Ok(()) => world.take_fault(route.operation(), out_trade_no.as_deref(), Fault::for_calls),
        Err(_) => None,
    };
    if let Some(answer) = answers::strike_before(rule.as_ref()).await {
        return answer;
    }
    let outcome = match checked {
        Ok(()) => act(
            &world,
            &route,
            json,
            &request,
            rule.as_ref(),
            header("wechatpay-serial"),
        ),
        Err(refused) => Err(refused),
    };
    if outcome.is_ok() {
        world.persist().await;
    }
    if let Ok((_, Some(to_tell))) = &outcome {
        let wait = world.options.refund_delay_ms + world.options.notify_delay_ms;
        world.dispatch(
            Wallet::Wechat,
            &to_tell.out_trade_no,
            &to_tell.notice_id,
            Duration::from_millis(wait),
        );
    }
    if let Some(answer) = answers::strike_after(rule.as_ref()).await {
        return answer;
    }
    let signer = signer(&world, header("wechatpay-serial"));
    match (outcome, rule.as_ref().map(|rule| rule.fault)) {
        (Ok(_), Some(Fault::SystemErrorAfter)) => refuse(&world, &system_error()),
        (Ok(_), Some(Fault::TooManyRequestsAfter)) => refuse(&world, &too_many_requests()),
        (Ok((Done::File(file), _)), _) => {
            let mut builder = HttpResponse::Ok();
            builder.content_type("application/octet-stream");
            answers::finish(builder, file, rule.as_ref())
        }
        (Ok((done, _)), _) => signed(&world, &signer, &done, rule.as_ref()),
        (Err(refused), _) => refuse(&world, &refused),
    }
}

/// The order whose refund this is.
fn order_of(world: &World, wanted: impl Fn(&Refund) -> bool) -> Option<String> {
    let mut books = world.books();
    let (trade, _) = books.refunding(Wallet::Wechat, wanted)?;
    Some(trade.out_trade_no.clone())
}

fn system_error() -> Refused {
    Refused::new(500, "SYSTEM_ERROR", "系统异常，请稍后重试")
}

fn too_many_requests() -> Refused {
    Refused::new(429, "FREQUENCY_LIMITED", "请求频率过高，请稍后重试")
}

/// What comes before the work: headers, then the signature.
fn checks<'a>(
    world: &World,
    route: &Route,
    call: &Call<'_>,
    header: &impl Fn(&str) -> Option<&'a str>,
) -> Result<(), Refused> {
    if route.wants_user_agent() && header("user-agent").is_none_or(str::is_empty) {
        return Err(Refused::invalid("Http头缺少Accept或User-Agent"));
    }
    let accepts = header("accept")
        .is_some_and(|accept| accept.contains("application/json") || accept.contains("*/*"));
    if !accepts {
        return Err(Refused::invalid("Http头缺少Accept或User-Agent"));
    }
    authenticate(world, call)?;
    if call.method == "POST"
        && !header("content-type").is_some_and(|kind| kind.starts_with("application/json"))
    {
        return Err(Refused::invalid("Http头Content-Type须为application/json"));
    }
    if let Some(serial) = header("wechatpay-serial")
        && serial.starts_with("PUB_KEY_ID_")
        && serial != world.options.wechat.platform_public_key_id
    {
        return Err(Refused::invalid("Http头Wechatpay-Serial中的公钥ID有误"));
    }
    Ok(())
}

type Acted = Result<(Done, Option<refunds::ToTell>), Refused>;

fn act(
    world: &World,
    route: &Route,
    json: Result<Value, serde_json::Error>,
    request: &HttpRequest,
    rule: Option<&Rule>,
    serial: Option<&str>,
) -> Acted {
    match rule.map(|rule| rule.fault) {
        Some(Fault::SystemErrorBefore) => return Err(system_error()),
        Some(Fault::TooManyRequests) => return Err(too_many_requests()),
        Some(Fault::NotExist) => return Err(route.unknown()),
        Some(Fault::NotEnough) => {
            return Err(Refused::new(
                403,
                "NOT_ENOUGH",
                "基本账户余额不足，请充值后重新发起",
            ));
        }
        Some(Fault::UserAccountAbnormal) => {
            return Err(Refused::new(
                403,
                "USER_ACCOUNT_ABNORMAL",
                "退款请求失败，用户账户异常或已注销",
            ));
        }
        Some(Fault::Refused) => {
            let code = rule.and_then(|rule| rule.code.as_deref());
            let status = rule.and_then(|rule| rule.status);
            return Err(Refused::new(
                status.unwrap_or(400),
                code.unwrap_or("INVALID_REQUEST"),
                "按要求拒绝",
            ));
        }
        _ => {}
    }
    let body = || json.map_err(|_| Refused::new(400, "PARAM_ERROR", "请求报文不是合法的JSON"));
    let query: Vec<(String, String)> =
        url::form_urlencoded::parse(request.query_string().as_bytes())
            .into_owned()
            .collect();
    let mchid = || {
        let (_, value) = query.iter().find(|(name, _)| name == "mchid")?;
        Some(value.clone())
    };
    let plain = |done: Done| (done, None);
    match route {
        Route::Prepay(product) => orders::prepay(world, *product, &body()?, serial).map(plain),
        Route::Query(number) => {
            orders::query(world, &Which::OutTradeNo(number), mchid().as_deref(), rule).map(plain)
        }
        Route::QueryById(id) => {
            orders::query(world, &Which::TransactionId(id), mchid().as_deref(), rule).map(plain)
        }
        Route::Close(number) => orders::close(world, number, &body()?, rule).map(plain),
        Route::Refund => refunds::refund(world, &body()?, rule),
        Route::RefundQuery(number) => refunds::query(world, number).map(plain),
        Route::AbnormalRefund(id) => refunds::second_way(world, id, &body()?, serial),
        Route::TradeBill => bills::trade_bill(world, &query).map(plain),
        Route::FundFlowBill => bills::fund_flow(world, &query).map(plain),
        Route::BillFile => bills::file(world, &query).map(plain),
        Route::Certificates if world.wechat.has_certificates() => Ok(plain(Done::Json(
            world.wechat.certificates_json(&*world.random),
        ))),
        Route::Certificates => Err(Refused::new(
            404,
            "RESOURCE_NOT_EXISTS",
            "无可用的平台证书，请在商户平台-API安全申请使用微信支付公钥",
        )),
    }
}

/// The public key where the request names it, the certificate otherwise (§1.4).
fn signer(world: &World, serial: Option<&str>) -> Signer {
    if serial == Some(&world.options.wechat.platform_public_key_id) {
        Signer::PublicKey
    } else {
        Signer::Certificate
    }
}

fn request_id(world: &World) -> String {
    format!("08{}-0", world.nonce())
}

fn signed(world: &World, signer: &Signer, done: &Done, rule: Option<&Rule>) -> HttpResponse {
    let (status, body) = match done {
        Done::Json(value) => (StatusCode::OK, value.to_string()),
        Done::Accepted(value) => (StatusCode::ACCEPTED, value.to_string()),
        Done::NoContent | Done::File(_) => (StatusCode::NO_CONTENT, String::new()),
    };
    let mut builder = HttpResponse::build(status);
    builder.insert_header(("Request-ID", request_id(world)));
    let fault = rule.map(|rule| rule.fault);
    for (name, value) in world.wechat.headers(world, signer, &body, fault) {
        builder.insert_header((name, value));
    }
    if matches!(done, Done::NoContent) {
        return builder.finish();
    }
    builder.content_type("application/json; charset=utf-8");
    answers::finish(builder, body, rule)
}

/// 4xx and 5xx are never signed.
fn refuse(world: &World, refused: &Refused) -> HttpResponse {
    let status = StatusCode::from_u16(refused.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut builder = HttpResponse::build(status);
    if status != StatusCode::UNAUTHORIZED {
        builder.insert_header(("Request-ID", request_id(world)));
    }
    builder
        .content_type("application/json; charset=utf-8")
        .body(refused.body().to_string())
}
