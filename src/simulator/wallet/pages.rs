//! The pages a person sees: the phone, the payment sheet, the cashiers of H5 and WAP, the faults.

use std::collections::HashMap;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use super::{named, token_of};
use crate::simulator::books::{Product, Refusal, State, Trade};
use crate::simulator::faults::{Fault, Rule};
use crate::simulator::people::{FACES, Person, Wallet};
use crate::simulator::times;
use crate::simulator::world::{World, is_loopback};

type Shared = web::Data<World>;
type Query = web::Query<HashMap<String, String>>;
type Form = web::Form<HashMap<String, String>>;

const STYLE: &str = include_str!("../../../templates/simulator/style.css");

fn show(status: StatusCode, page: &impl Template) -> HttpResponse {
    match page.render() {
        Ok(text) => HttpResponse::build(status)
            .content_type("text/html; charset=utf-8")
            .insert_header(("Cache-Control", "no-store"))
            .insert_header((
                "Content-Security-Policy",
                "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'",
            ))
            .body(text),
        Err(error) => {
            tracing::error!(%error, "a page of the simulator could not be written");
            HttpResponse::InternalServerError().finish()
        }
    }
}

fn see(path: &str) -> HttpResponse {
    HttpResponse::SeeOther()
        .insert_header(("Location", path))
        .insert_header(("Cache-Control", "no-store"))
        .finish()
}

fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[derive(Template)]
#[template(path = "simulator/notice.html")]
struct NoticePage<'a> {
    title: &'a str,
    message: &'a str,
    small: &'a str,
}

/// A page with one sentence, as both providers show their refusals.
pub(in crate::simulator) fn notice_page(
    status: StatusCode,
    title: &str,
    message: &str,
    small: &str,
) -> HttpResponse {
    show(
        status,
        &NoticePage {
            title,
            message,
            small,
        },
    )
}

fn refusal_page(refusal: Refusal) -> HttpResponse {
    notice_page(
        StatusCode::CONFLICT,
        "无法支付",
        &refusal.to_string(),
        refusal.code(),
    )
}

pub(super) async fn root() -> HttpResponse {
    see("/wallet")
}

pub(super) async fn style() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/css; charset=utf-8")
        .body(STYLE)
}

/// One account to choose.
struct Face {
    id: &'static str,
    name: &'static str,
    /// First letter, for the picture.
    letter: char,
    wallet: &'static str,
    label: &'static str,
    fits: bool,
}

fn faces(fits: impl Fn(Wallet) -> bool) -> Vec<Face> {
    FACES
        .iter()
        .map(|(id, wallet, name)| Face {
            id,
            name,
            letter: name.chars().next().unwrap_or('我'),
            wallet: wallet.as_str(),
            label: wallet.label(),
            fits: fits(*wallet),
        })
        .collect()
}

struct Line {
    wallet: &'static str,
    who: String,
    what: String,
    amount: String,
    when: String,
    state: &'static str,
}

#[derive(Template)]
#[template(path = "simulator/home.html")]
struct HomePage {
    scan: String,
    faces: Vec<Face>,
    lines: Vec<Line>,
    faults: usize,
    browsers: bool,
}

/// `GET /wallet?scan=`
pub(super) async fn home(world: Shared, query: Query) -> HttpResponse {
    let scan = query
        .get("scan")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default();
    let only = if scan.starts_with("weixin://") {
        Some(Wallet::Wechat)
    } else if scan.starts_with("https://qr.alipay.com/") {
        Some(Wallet::Alipay)
    } else {
        None
    };
    let now = world.now();
    let mut books = world.books();
    books.settle(now);
    let mut trades: Vec<&Trade> = books
        .trades()
        .filter(|trade| trade.begun_at.is_some() || !trade.captures.is_empty())
        .collect();
    trades.sort_by_key(|trade| std::cmp::Reverse(trade.created_at));
    let lines = trades
        .into_iter()
        .take(6)
        .map(|trade| Line {
            wallet: trade.wallet.as_str(),
            who: trade
                .buyer
                .as_deref()
                .and_then(|id| Person::new(trade.wallet, id))
                .map(|person| person.name().to_owned())
                .unwrap_or_default(),
            what: trade.description.clone(),
            amount: times::yuan(trade.total),
            when: times::short(
                trade
                    .captures
                    .first()
                    .map_or(trade.created_at, |capture| capture.at),
            ),
            state: match trade.state {
                State::Paid if trade.refunded() >= trade.total => "已退款",
                State::Paid if trade.refunded() > 0 => "部分退款",
                State::Paid => "已支付",
                State::Closed => "已关闭",
                State::Waiting => "待支付",
            },
        })
        .collect();
    drop(books);
    let faults = world
        .faults()
        .rules()
        .iter()
        .filter(|rule| rule.count != Some(0))
        .count();
    show(
        StatusCode::OK,
        &HomePage {
            scan,
            faces: faces(|wallet| only.is_none_or(|only| only == wallet)),
            lines,
            faults,
            browsers: !world.browsers.is_empty(),
        },
    )
}

/// `POST /wallet/scan`: one account scans one code.
pub(super) async fn scan(world: Shared, form: Form) -> HttpResponse {
    let content = form.get("content").map_or("", |text| text.trim());
    let Some(person) = form.get("user").and_then(|id| Person::face(id)) else {
        return notice_page(
            StatusCode::BAD_REQUEST,
            "扫一扫",
            "请先选择一个账号",
            "user",
        );
    };
    if let Some(token) = token_of(content) {
        return see(&format!("/wallet/pay?token={token}&user={}", person.id));
    }
    visit(&world, &person, content)
}

/// `GET /wallet/open?user=&url=`
pub(super) async fn open(world: Shared, query: Query) -> HttpResponse {
    match query.get("user").and_then(|id| Person::face(id)) {
        Some(person) => visit(&world, &person, query.get("url").map_or("", String::as_str)),
        None => notice_page(StatusCode::BAD_REQUEST, "扫一扫", "没有这个账号", "user"),
    }
}

/// `GET /wallet/{wechat|alipay}/{user}/open?url=`
pub(super) async fn open_for(
    world: Shared,
    path: web::Path<(String, String)>,
    query: Query,
) -> HttpResponse {
    let (wallet, user) = path.into_inner();
    match Person::face(&user).filter(|person| person.wallet.as_str() == wallet) {
        Some(person) => visit(&world, &person, query.get("url").map_or("", String::as_str)),
        None => notice_page(StatusCode::NOT_FOUND, "扫一扫", "没有这个账号", "user"),
    }
}

/// Sends the tab to the person's built-in browser, which fetches the page as the wallet would.
fn visit(world: &World, person: &Person, content: &str) -> HttpResponse {
    let Ok(url) = url::Url::parse(content) else {
        return notice_page(
            StatusCode::UNPROCESSABLE_ENTITY,
            "扫一扫",
            "这不是付款码，也不是网址",
            "expected http(s)://…, weixin://wxpay/… or https://qr.alipay.com/…",
        );
    };
    if !is_loopback(&url) || url.scheme() != "http" {
        return notice_page(
            StatusCode::UNPROCESSABLE_ENTITY,
            "扫一扫",
            "模拟钱包只打开本机的网址",
            "the simulated wallet opens http addresses of this machine only",
        );
    }
    match crate::simulator::browser::enter(world, person, &url) {
        Some(address) => see(&address),
        None => notice_page(
            StatusCode::UNPROCESSABLE_ENTITY,
            "扫一扫",
            "没有为该账号启动内置浏览器",
            "wallet_browsers is off",
        ),
    }
}

#[derive(Template)]
#[template(path = "simulator/sheet.html")]
struct SheetPage<'a> {
    wallet: &'a str,
    label: &'a str,
    person: &'a str,
    user: &'a str,
    token: &'a str,
    description: &'a str,
    amount: String,
    out_trade_no: &'a str,
    method: &'a str,
    complaint: &'a str,
}

fn sheet_page(token: &str, person: &Person, trade: &Trade, complaint: &str) -> HttpResponse {
    show(
        StatusCode::OK,
        &SheetPage {
            wallet: person.wallet.as_str(),
            label: person.wallet.label(),
            person: person.name(),
            user: &person.id,
            token,
            description: &trade.description,
            amount: times::yuan(trade.total),
            out_trade_no: &trade.out_trade_no,
            method: match person.wallet {
                Wallet::Wechat => "零钱",
                Wallet::Alipay => "账户余额",
            },
            complaint,
        },
    )
}

/// Opens a code for a person: this is the scan, or the login of WAP.
async fn begin(world: &World, token: &str, person: &Person) -> Result<Trade, Refusal> {
    let (wallet, number) = {
        let books = world.books();
        books.redeem(token, world.now())?
    };
    let trade = world.begin(wallet, &number, person)?;
    world.persist().await;
    Ok(trade)
}

/// `GET /wallet/pay?token=&user=`
pub(super) async fn sheet(world: Shared, query: Query) -> HttpResponse {
    let token = query.get("token").map_or("", String::as_str);
    let Some(person) = query.get("user").and_then(|id| Person::face(id)) else {
        return notice_page(StatusCode::BAD_REQUEST, "付款", "没有这个账号", "user");
    };
    match begin(&world, token, &person).await {
        Ok(trade) => sheet_page(token, &person, &trade, ""),
        Err(refusal) => refusal_page(refusal),
    }
}

/// `POST /wallet/login`: H5 and WAP ask who is paying.
pub(super) async fn login(world: Shared, form: Form) -> HttpResponse {
    let get = |name: &str| form.get(name).map_or("", String::as_str);
    let Some(person) = Person::face(get("user")) else {
        return notice_page(StatusCode::BAD_REQUEST, "登录", "没有这个账号", "user");
    };
    match begin(&world, get("token"), &person).await {
        Ok(trade) => sheet_page(get("token"), &person, &trade, ""),
        Err(refusal) => refusal_page(refusal),
    }
}

#[derive(Template)]
#[template(path = "simulator/done.html")]
struct DonePage<'a> {
    wallet: &'a str,
    label: &'a str,
    amount: String,
    description: &'a str,
    back: String,
}

/// `POST /wallet/pay`
pub(super) async fn pay(world: Shared, form: Form) -> HttpResponse {
    let get = |name: &str| form.get(name).map_or("", String::as_str);
    let Some(person) = Person::face(get("user")) else {
        return notice_page(StatusCode::BAD_REQUEST, "付款", "没有这个账号", "user");
    };
    // A sheet that is open outlives its code: only the trade's own time ends it.
    let found = world
        .books()
        .ticket(get("token"))
        .map(|ticket| (ticket.wallet, ticket.out_trade_no.clone()));
    let Some((wallet, number)) = found else {
        return refusal_page(Refusal::Unknown);
    };
    let trade = |world: &World| world.books().trade(wallet, &number).cloned();
    match get("action") {
        "pay" => match world.pay(wallet, &number, &person, None).await {
            Ok(_) => match trade(&world) {
                Some(trade) => done_page(&world, &person, &trade),
                None => refusal_page(Refusal::Unknown),
            },
            Err(refusal) => refusal_page(refusal),
        },
        "poor" => match trade(&world) {
            Some(trade) => sheet_page(get("token"), &person, &trade, "余额不足，请更换付款方式"),
            None => refusal_page(Refusal::Unknown),
        },
        _ => match trade(&world).and_then(|trade| way_back(&world, &trade)) {
            Some(back) => see(&back),
            None => see("/wallet"),
        },
    }
}

fn done_page(world: &World, person: &Person, trade: &Trade) -> HttpResponse {
    show(
        StatusCode::OK,
        &DonePage {
            wallet: person.wallet.as_str(),
            label: person.wallet.label(),
            amount: times::yuan(trade.total),
            description: &trade.description,
            back: way_back(world, trade).unwrap_or_else(|| "/wallet".to_owned()),
        },
    )
}

/// Where the payer goes afterwards: WAP's signed `return_url`, H5's `redirect_url`.
fn way_back(world: &World, trade: &Trade) -> Option<String> {
    match trade.wallet {
        Wallet::Alipay => crate::simulator::alipay::wap::way_back(world, trade),
        Wallet::Wechat => trade
            .return_url
            .as_deref()
            .filter(|address| address.starts_with("http://") || address.starts_with("https://"))
            .map(str::to_owned),
    }
}

#[derive(Template)]
#[template(path = "simulator/cashier.html")]
struct CashierPage<'a> {
    wallet: &'a str,
    label: &'a str,
    token: &'a str,
    description: &'a str,
    amount: String,
    faces: Vec<Face>,
}

fn cashier(world: &World, wallet: Wallet, token: &str) -> HttpResponse {
    let trade = {
        let books = world.books();
        books
            .redeem(token, world.now())
            .and_then(|(wallet, number)| {
                books
                    .trade(wallet, &number)
                    .cloned()
                    .ok_or(Refusal::Unknown)
            })
    };
    match trade {
        Ok(trade) => show(
            StatusCode::OK,
            &CashierPage {
                wallet: wallet.as_str(),
                label: wallet.label(),
                token,
                description: &trade.description,
                amount: times::yuan(trade.total),
                faces: faces(|face| face == wallet),
            },
        ),
        Err(refusal) => refusal_page(refusal),
    }
}

/// Alipay's page behind a WAP link: inside Alipay the person is known, elsewhere one logs in.
pub(in crate::simulator) fn wap_cashier(
    world: &World,
    request: &HttpRequest,
    token: &str,
) -> HttpResponse {
    match named(request, Wallet::Alipay) {
        Some(person) => see(&format!(
            "/wallet/pay?token={token}&user={}",
            encoded(&person.id)
        )),
        None => cashier(world, Wallet::Alipay, token),
    }
}

/// `GET /cgi-bin/mmpayweb-bin/checkmweb?prepay_id=&redirect_url=`: five minutes, with a `Referer`.
pub(in crate::simulator) async fn h5_cashier(
    world: Shared,
    request: HttpRequest,
    query: Query,
) -> HttpResponse {
    let complain = |message: &str| {
        notice_page(
            StatusCode::OK,
            "微信支付",
            message,
            "参数格式有误时请联系商家解决",
        )
    };
    let agent = request
        .headers()
        .get("user-agent")
        .and_then(|agent| agent.to_str().ok())
        .unwrap_or_default();
    if agent.contains("MicroMessenger") {
        return complain("请在微信外打开订单，进行支付");
    }
    if request.headers().get("referer").is_none() {
        return complain("商家参数格式有误，请联系商家解决（缺少Referer）");
    }
    let token = query.get("prepay_id").map_or("", String::as_str);
    let found = world.books().redeem(token, world.now());
    let Ok((wallet, number)) = found else {
        return complain("支付请求已失效，请重新发起支付");
    };
    if let Some(back) = query.get("redirect_url")
        && let Some(trade) = world
            .books()
            .trade_mut(wallet, &number)
            .filter(|trade| trade.product == Product::H5)
    {
        trade.return_url = Some(back.clone());
    }
    cashier(&world, Wallet::Wechat, token)
}

/// A switch of the faults page: what it is called, and the rule it sets.
struct Switch {
    key: &'static str,
    title: &'static str,
    english: &'static str,
    operations: &'static [&'static str],
    fault: Fault,
    always: bool,
}

const NOTICES: &[&str] = &["wechat.notice", "alipay.notice"];
const MAKING: &[&str] = &["wechat.prepay", "alipay.create", "alipay.precreate"];
const CLOSING: &[&str] = &["wechat.close", "alipay.close"];
const QUERIES: &[&str] = &["wechat.query", "alipay.query"];

const SWITCHES: &[Switch] = &[
    Switch {
        key: "lost",
        title: "支付通知全部丢失",
        english: "every notice is lost",
        operations: NOTICES,
        fault: Fault::Lost,
        always: true,
    },
    Switch {
        key: "late",
        title: "下一个通知晚 5 秒",
        english: "the next notice is 5 s late",
        operations: NOTICES,
        fault: Fault::Delayed,
        always: false,
    },
    Switch {
        key: "double",
        title: "下一个通知同时到达 10 次",
        english: "the next notice comes ten times at once",
        operations: NOTICES,
        fault: Fault::DoubledAtOnce,
        always: false,
    },
    Switch {
        key: "order",
        title: "下一个通知排到别的通知之后",
        english: "the next notice comes after another one",
        operations: NOTICES,
        fault: Fault::Reordered,
        always: false,
    },
    Switch {
        key: "forged",
        title: "下一个通知是伪造的（密钥不对）",
        english: "the next notice is forged",
        operations: NOTICES,
        fault: Fault::Forged,
        always: false,
    },
    Switch {
        key: "probe",
        title: "下一个通知是验签探测 SIGNTEST",
        english: "the next notice is a signature probe",
        operations: NOTICES,
        fault: Fault::SignatureProbe,
        always: false,
    },
    Switch {
        key: "amount",
        title: "下一个通知金额不符",
        english: "the next notice has a wrong amount",
        operations: NOTICES,
        fault: Fault::WrongAmount,
        always: false,
    },
    Switch {
        key: "timeout",
        title: "下一次下单：没有应答，但已经生效",
        english: "next order: done, no answer",
        operations: MAKING,
        fault: Fault::ResetAfter,
        always: false,
    },
    Switch {
        key: "refuse",
        title: "下一次下单：网关 502",
        english: "next order: 502 from a proxy",
        operations: MAKING,
        fault: Fault::Html502,
        always: false,
    },
    Switch {
        key: "unsigned",
        title: "下一次查询：应答没有签名",
        english: "next query: unsigned answer",
        operations: QUERIES,
        fault: Fault::Unsigned,
        always: false,
    },
    Switch {
        key: "stale",
        title: "查询结果滞后 3 秒",
        english: "queries lag 3 s behind",
        operations: QUERIES,
        fault: Fault::StaleQuery,
        always: true,
    },
    Switch {
        key: "early",
        title: "5 分钟内不许关单",
        english: "close is refused in the first five minutes",
        operations: CLOSING,
        fault: Fault::CloseTooEarly,
        always: true,
    },
    Switch {
        key: "lie",
        title: "下一次关单：说关了，其实没关",
        english: "next close says yes and does nothing",
        operations: CLOSING,
        fault: Fault::CloseLies,
        always: false,
    },
];

struct RuleLine {
    operation: String,
    fault: String,
    left: String,
    hits: u64,
}

#[derive(Template)]
#[template(path = "simulator/faults.html")]
struct FaultsPage {
    switches: &'static [Switch],
    rules: Vec<RuleLine>,
}

/// `GET /wallet/faults`
pub(super) async fn faults(world: Shared) -> HttpResponse {
    let rules = world
        .faults()
        .rules()
        .iter()
        .map(|rule| RuleLine {
            operation: rule.operation.clone(),
            fault: rule.fault.word(),
            left: rule
                .count
                .map_or_else(|| "∞".to_owned(), |left| left.to_string()),
            hits: rule.hits,
        })
        .collect();
    show(
        StatusCode::OK,
        &FaultsPage {
            switches: SWITCHES,
            rules,
        },
    )
}

/// `POST /wallet/faults`
pub(super) async fn set_fault(world: Shared, form: Form) -> HttpResponse {
    let wanted = form.get("key").map_or("", String::as_str);
    if let Some(switch) = SWITCHES.iter().find(|switch| switch.key == wanted) {
        let mut faults = world.faults();
        for operation in switch.operations {
            let rule = Rule::new(operation, switch.fault);
            faults.add(if switch.always { rule.always() } else { rule });
        }
    }
    see("/wallet/faults")
}

/// `POST /wallet/faults/clear`
pub(super) async fn clear_faults(world: Shared) -> HttpResponse {
    world.faults().clear();
    see("/wallet/faults")
}
