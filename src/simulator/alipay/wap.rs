//! `alipay.trade.wap.pay` and `page.pay` (alipay §1.6, §2.3): the browser brings the signed form; the
//! trade is made when somebody logs in; errors are a GBK page that the merchant never sees.

use actix_web::{HttpRequest, HttpResponse};
use serde_json::Value;

use super::sign::Parameters;
use super::trades::{Biz, check_again, read_order};
use super::{Refused, gateway};
use crate::simulator::books::{Product, State, Ticket, Trade};
use crate::simulator::people::Wallet;
use crate::simulator::times;
use crate::simulator::world::World;

/// The cashier for a signed link or form.
pub(super) async fn open(
    world: &World,
    request: &HttpRequest,
    parameters: &Parameters,
) -> HttpResponse {
    let charset_in_query = request.query_string().contains("charset=");
    let token = match gateway::check(world, parameters, charset_in_query)
        .and_then(|()| admit(world, parameters))
    {
        Ok(token) => token,
        Err(refused) => return error_page(&refused),
    };
    world.persist().await;
    crate::simulator::wallet::pages::wap_cashier(world, request, &token)
}

/// Remembers the order, without a trade yet; the same order again gets the same door.
fn admit(world: &World, parameters: &Parameters) -> Result<String, Refused> {
    let product = if parameters["method"] == "alipay.trade.wap.pay" {
        Product::Wap
    } else {
        Product::Page
    };
    let biz: Value = parameters
        .get("biz_content")
        .and_then(|text| serde_json::from_str(text).ok())
        .ok_or_else(|| Refused::invalid("isv.illegal-json", "biz_content不是合法的JSON"))?;
    let object = biz
        .as_object()
        .ok_or_else(|| Refused::invalid("isv.illegal-json", "biz_content不是合法的JSON"))?;
    let common = |name: &str| {
        parameters
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    };
    let trade = read_order(
        world,
        product,
        &Biz {
            object,
            notify_url: common("notify_url"),
            return_url: common("return_url"),
        },
    )?;
    let now = world.now();
    let out_trade_no = trade.out_trade_no.clone();
    let mut books = world.books();
    match books.trade_mut(Wallet::Alipay, &out_trade_no) {
        Some(old) => check_again(old, &trade, now)?,
        None => books.insert(trade),
    }
    let token = format!("wap{}", world.random.hex::<10>());
    books.issue(
        token.clone(),
        Ticket {
            wallet: Wallet::Alipay,
            out_trade_no,
            dies_at: now.plus_ms(2 * 60 * 60_000),
            replaced: false,
        },
        false,
    );
    Ok(token)
}

/// Where the browser goes after the payment, with signed parameters that prove nothing.
pub(in crate::simulator) fn way_back(world: &World, trade: &Trade) -> Option<String> {
    let mut url = url::Url::parse(trade.return_url.as_deref()?).ok()?;
    if trade.state != State::Paid {
        return Some(url.into());
    }
    let options = &world.options.alipay;
    let method = if trade.product == Product::Page {
        "alipay.trade.page.pay.return"
    } else {
        "alipay.trade.wap.pay.return"
    };
    let mut parameters: Parameters = [
        ("app_id", options.app_id.as_str()),
        ("method", method),
        ("charset", "utf-8"),
        ("version", "1.0"),
        ("sign_type", "RSA2"),
        ("seller_id", &options.seller_id),
        ("out_trade_no", &trade.out_trade_no),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    parameters.insert("timestamp".to_owned(), times::plain(world.now()));
    parameters.insert("total_amount".to_owned(), times::yuan(trade.total));
    if let Some(trade_no) = &trade.trade_no {
        parameters.insert("trade_no".to_owned(), trade_no.clone());
    }
    let sign = world.alipay.sign_parameters(&parameters, false);
    parameters.insert("sign".to_owned(), sign);
    url.query_pairs_mut().extend_pairs(&parameters);
    Some(url.into())
}

/// GBK, as the original shows it to the payer and to nobody else.
fn error_page(refused: &Refused) -> HttpResponse {
    let text = format!(
        "<!DOCTYPE html>\n<html><head><meta charset=\"gbk\"><title>支付宝 - 网上支付 安全快速！</title></head>\n<body><h1>抱歉，支付出现问题</h1><p>错误代码 {}</p><p>{}</p></body></html>\n",
        escape(&refused.sub_code),
        escape(&refused.sub_msg)
    );
    let (bytes, _, _) = encoding_rs::GBK.encode(&text);
    HttpResponse::Ok()
        .content_type("text/html;charset=GBK")
        .body(bytes.into_owned())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
