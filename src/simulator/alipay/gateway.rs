//! The door `/gateway.do`: always HTTP 200 and `text/html`, the truth is in the body.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Map, Value};

use super::sign::Parameters;
use super::trades::{self, Biz};
use super::{Refused, bills, oauth, refunds, success};
use crate::simulator::answers;
use crate::simulator::faults::{Fault, Rule};
use crate::simulator::people::Wallet;
use crate::simulator::times;
use crate::simulator::world::World;

/// Every request to the gateway.
pub(in crate::simulator) async fn serve(
    world: web::Data<World>,
    request: HttpRequest,
    body: web::Bytes,
) -> HttpResponse {
    let parameters = read(request.query_string(), &body);
    let method = parameters
        .get("method")
        .map_or("", String::as_str)
        .to_owned();
    if matches!(
        method.as_str(),
        "alipay.trade.wap.pay" | "alipay.trade.page.pay"
    ) {
        return super::wap::open(&world, &request, &parameters).await;
    }
    world.latency().await;
    let charset_in_query = url::form_urlencoded::parse(request.query_string().as_bytes())
        .any(|(name, _)| name == "charset");
    let key = if method.is_empty() {
        "error_response".to_owned()
    } else {
        format!("{}_response", method.replace('.', "_"))
    };
    let checked = check(&world, &parameters, charset_in_query).and_then(|()| operation(&method));
    let biz = parameters
        .get("biz_content")
        .and_then(|text| serde_json::from_str::<Value>(text).ok());
    let out_trade_no = biz
        .as_ref()
        .and_then(|biz| biz["out_trade_no"].as_str())
        .map(str::to_owned);
    let rule = match &checked {
        Ok(operation) => world.take_fault(operation, out_trade_no.as_deref(), Fault::for_calls),
        Err(_) => None,
    };
    let fault = rule.as_ref().map(|rule| rule.fault);
    if let Some(answer) = answers::strike_before(rule.as_ref()).await {
        return answer;
    }
    let outcome = match checked {
        Ok(operation) => act(&world, operation, &parameters, biz.as_ref(), rule.as_ref()),
        Err(refused) => Err(refused),
    };
    if outcome.is_ok() {
        world.persist().await;
    }
    if let Ok((_, Some((number, id)))) = &outcome {
        let wait = Duration::from_millis(world.options.notify_delay_ms);
        world.dispatch(Wallet::Alipay, number, id, wait);
    }
    if let Some(answer) = answers::strike_after(rule.as_ref()).await {
        return answer;
    }
    let text = match outcome {
        Ok(_) if fault == Some(Fault::SystemErrorAfter) => {
            world
                .alipay
                .envelope(&key, &system_error().to_json(), fault)
        }
        Ok(_) if fault == Some(Fault::TooManyRequestsAfter) => {
            world
                .alipay
                .envelope(&key, &too_many_requests().to_json(), fault)
        }
        Ok((value, _)) => world.alipay.envelope(&key, &value, fault),
        Err(refused) => {
            let fault = if refused.signed {
                fault
            } else {
                Some(Fault::Unsigned)
            };
            world.alipay.envelope(&key, &refused.to_json(), fault)
        }
    };
    let mut builder = HttpResponse::Ok();
    builder.content_type("text/html;charset=utf-8");
    // The signature over other bytes was made above; the bytes themselves stay as they are.
    let rule = rule.filter(|rule| rule.fault != Fault::TamperedBody);
    answers::finish(builder, text, rule.as_ref())
}

/// Query and form together; both are UTF-8 here.
pub(super) fn read(query: &str, body: &[u8]) -> Parameters {
    url::form_urlencoded::parse(query.as_bytes())
        .chain(url::form_urlencoded::parse(body))
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect()
}

/// `app_id` first, then the signature, then the rest.
pub(super) fn check(
    world: &World,
    parameters: &Parameters,
    charset_in_query: bool,
) -> Result<(), Refused> {
    let get = |name: &str| {
        parameters
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    };
    match get("app_id") {
        None => {
            return Err(Refused::missing("isv.missing-app-id", "缺少AppID参数").unsigned());
        }
        Some(id) if id != world.options.alipay.app_id => {
            return Err(Refused::invalid("isv.invalid-app-id", "无效的AppID参数").unsigned());
        }
        Some(_) => {}
    }
    match get("sign_type") {
        None => {
            return Err(Refused::missing(
                "isv.missing-signature-type",
                "缺少签名类型参数",
            ));
        }
        Some("RSA2") => {}
        Some(_) => {
            return Err(Refused::invalid(
                "isv.invalid-signature-type",
                "无效的签名类型",
            ));
        }
    }
    world.alipay.check(parameters)?;
    if !charset_in_query || !get("charset").is_some_and(|name| name.eq_ignore_ascii_case("utf-8")) {
        return Err(Refused::invalid("isv.invalid-charset", "字符集错误"));
    }
    match get("timestamp") {
        None => {
            return Err(Refused::missing("isv.missing-timestamp", "缺少时间戳参数"));
        }
        Some(text) if text.len() != 19 || times::parse_plain(text).is_none() => {
            return Err(Refused::invalid(
                "isv.invalid-timestamp",
                "非法的时间戳参数",
            ));
        }
        Some(_) => {}
    }
    if get("version") != Some("1.0") {
        return Err(Refused::missing("isv.missing-version", "缺少版本参数"));
    }
    if get("format").is_some_and(|format| !format.eq_ignore_ascii_case("json")) {
        return Err(Refused::invalid("isv.invalid-format", "无效的数据格式"));
    }
    Ok(())
}

fn operation(method: &str) -> Result<&'static str, Refused> {
    Ok(match method {
        "alipay.trade.precreate" => "alipay.precreate",
        "alipay.trade.create" => "alipay.create",
        "alipay.trade.query" => "alipay.query",
        "alipay.trade.close" => "alipay.close",
        "alipay.trade.cancel" => "alipay.cancel",
        "alipay.trade.refund" => "alipay.refund",
        "alipay.trade.fastpay.refund.query" => "alipay.refund_query",
        "alipay.data.dataservice.bill.downloadurl.query" => "alipay.bill",
        "alipay.system.oauth.token" => "alipay.oauth",
        "" => return Err(Refused::missing("isv.missing-method", "缺少方法名参数")),
        _ => return Err(Refused::invalid("isv.invalid-method", "不存在的方法名")),
    })
}

fn system_error() -> Refused {
    Refused::new(
        "20000",
        "Service Currently Unavailable",
        "isp.unknow-error",
        "系统繁忙",
    )
}

fn too_many_requests() -> Refused {
    Refused::new(
        "40005",
        "Call Limited",
        "isv.app-call-limited",
        "应用调用次数超限",
    )
}

type Acted = Result<(Value, Option<(String, String)>), Refused>;

fn act(
    world: &World,
    operation: &str,
    parameters: &Parameters,
    biz: Option<&Value>,
    rule: Option<&Rule>,
) -> Acted {
    match rule.map(|rule| rule.fault) {
        Some(Fault::SystemErrorBefore) => return Err(system_error()),
        Some(Fault::TooManyRequests) => return Err(too_many_requests()),
        Some(Fault::NotExist) => return Err(trades::not_exist()),
        Some(Fault::NotEnough) => {
            return Err(Refused::business(
                "SELLER_BALANCE_NOT_ENOUGH",
                "卖家余额不足",
            ));
        }
        Some(Fault::UserAccountAbnormal) => {
            return Err(Refused::business(
                "BUYER_ENABLE_STATUS_FORBID",
                "买家状态不可用",
            ));
        }
        Some(Fault::Refused) => {
            let code = rule.and_then(|rule| rule.code.as_deref());
            if operation == "alipay.bill" {
                return Err(Refused::bill(code.unwrap_or("UNKNOWN_ERROR"), "按要求拒绝"));
            }
            return Err(Refused::business(
                code.unwrap_or("ACCESS_FORBIDDEN")
                    .trim_start_matches("ACQ."),
                "按要求拒绝",
            ));
        }
        _ => {}
    }
    if operation == "alipay.oauth" {
        return oauth::token(world, parameters).map(|body| (Value::Object(body), None));
    }
    let object: &Map<String, Value> = biz
        .and_then(Value::as_object)
        .ok_or_else(|| Refused::invalid("isv.illegal-json", "biz_content不是合法的JSON"))?;
    let common = |name: &str| {
        parameters
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    };
    let biz = Biz {
        object,
        notify_url: common("notify_url"),
        return_url: common("return_url"),
    };
    let (body, to_tell) = match operation {
        "alipay.precreate" => (trades::precreate(world, &biz)?, None),
        "alipay.create" => (trades::create(world, &biz)?, None),
        "alipay.query" => (trades::query(world, &biz, rule)?, None),
        "alipay.close" => trades::close(world, &biz, rule)?,
        "alipay.cancel" => (trades::cancel(world, &biz)?, None),
        "alipay.refund" => refunds::refund(world, &biz)?,
        "alipay.bill" => (bills::query(world, &biz)?, None),
        _ => (refunds::query(world, &biz)?, None),
    };
    Ok((success(body), to_tell))
}
