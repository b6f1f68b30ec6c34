//! `GET /pay/{token}`: the cashier's page, or its state as JSON. Safe: it starts nothing.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::panel::{Panel, Scene, short};
use super::said::{self, Said};
use super::times::Zone;
use super::visitor::{App, PAGE_POLICY, Visitor, html, zone};
use crate::http::Deps;
use crate::http::assets;
use crate::http::merchant as orders;
use crate::http::problem::{Code, Problem};
use crate::http::refusal;
use crate::http::words::{Words, fill};
use crate::order::{CodeMode, Wallet};
use crate::provider::Providers;
use crate::sealing::{TokenKind, token_hash};
use crate::store::{
    DisplayField, Item, MaskedPayer, Merchant, OrderSnapshot, PayerIdentity, StoredOrder,
};
use crate::view::{PERSONAL_SLOT, open_personal};

/// What surrounds every page of the student's side.
#[derive(Clone, Debug)]
pub struct Frame {
    pub lang: &'static str,
    pub title: String,
    pub payee: String,
    pub icon: String,
    pub css: String,
    pub script: String,
    /// `?lang=…` where the language was chosen.
    pub query: &'static str,
    pub other_lang: &'static str,
    pub other_href: String,
}

impl Frame {
    pub fn of(visitor: &Visitor, heading: &str, payee: &str, script: &'static str) -> Self {
        let other = visitor.language.other();
        Self {
            lang: visitor.language.tag(),
            title: format!("{heading} - {}", visitor.words().service),
            payee: payee.to_owned(),
            icon: assets::href("icon.svg"),
            css: assets::href("student.css"),
            script: assets::href(script),
            query: visitor.query,
            other_lang: other.tag(),
            other_href: format!("?lang={}", other.tag()),
        }
    }
}

/// One line of the items table.
#[derive(Clone, Debug)]
pub struct ItemLine {
    pub code: String,
    pub name: String,
    pub note: String,
    pub fee: String,
}

/// What a payer is called: who pays bills need be no candidate of anything.
pub const fn payer_label(w: &Words, snapshot: &OrderSnapshot) -> &'static str {
    if snapshot.bills.is_empty() {
        w.candidate
    } else {
        w.bills_payer
    }
}

/// The items of an order or a bill as they are shown.
pub fn item_lines(items: &[Item]) -> Vec<ItemLine> {
    items
        .iter()
        .map(|item| ItemLine {
            code: item.code.clone().unwrap_or_default(),
            name: item.name.clone(),
            note: item.note.clone().unwrap_or_default(),
            fee: item.amount.to_yuan(),
        })
        .collect()
}

/// A button of a phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    pub via: &'static str,
    pub wechat: bool,
    pub label: &'static str,
}

/// The page of one order.
#[derive(Template)]
#[template(path = "cashier/page.html")]
pub struct Page<'a> {
    frame: Frame,
    w: &'static Words,
    base: String,
    csrf: String,
    app: &'static str,
    panel: &'a Panel,
    panel_json: String,
    client_words: String,
    subject: String,
    amount: String,
    facts: Vec<(String, String)>,
    number: String,
    deadline: Option<String>,
    items: Vec<ItemLine>,
    items_title: String,
    unfold_items: bool,
    has_codes: bool,
    has_notes: bool,
    columns: usize,
    duplicate_href: Option<String>,
    count_before: &'static str,
    count_after: &'static str,
    seconds: i64,
    bar_from: i64,
    has_ways: bool,
    ways: Vec<Way>,
    other_wallet_tip: Option<&'static str>,
    folded: bool,
    code_side: u32,
    accepts_wechat: bool,
    accepts_alipay: bool,
    has_demo_wallet: bool,
    demo_href: String,
    picture_name: String,
    return_href: Option<String>,
    own_href: String,
    help_paying: Option<String>,
    help_fee: Option<String>,
    snapshot_line: String,
}

impl std::fmt::Debug for Page<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Page(***)")
    }
}

/// Everything that a page is made of.
#[derive(Debug)]
pub struct Ingredients<'a> {
    pub visitor: &'a Visitor,
    pub csrf: String,
    pub token: &'a str,
    pub stored: &'a StoredOrder,
    pub merchant: Option<&'a Merchant>,
    pub display_fields: &'a [DisplayField],
    pub panel: &'a Panel,
    pub ways: Vec<Way>,
    pub zone: Zone,
    pub public_url: &'a str,
    pub has_demo_wallet: bool,
    pub duplicate_href: Option<String>,
}

impl<'a> Page<'a> {
    pub fn of(from: Ingredients<'a>) -> Self {
        let visitor = from.visitor;
        let w = visitor.words();
        let snapshot = &from.stored.snapshot;
        let order = &from.stored.order;
        let panel = from.panel;
        let payee = from
            .merchant
            .map_or(w.service, |merchant| merchant.display_name.as_str());
        let person = &snapshot.payer_masked;
        let mut facts: Vec<(String, String)> = vec![(w.payee.to_owned(), payee.to_owned())];
        for (label, value) in [
            (payer_label(w, snapshot), &person.name),
            (w.id_number, &person.id_number),
            (w.phone, &person.phone),
        ] {
            if let Some(value) = value {
                facts.push((label.to_owned(), value.clone()));
            }
        }
        let more = registrant_facts(w, person);
        facts.extend(more.map(|(label, value)| (label.to_owned(), value)));
        if snapshot.payer_identity == PayerIdentity::Provider {
            facts.push((w.payer_account.to_owned(), w.own_account.to_owned()));
        }
        for field in from.display_fields {
            facts.push((field.label.clone(), field.value.clone()));
        }
        let items = item_lines(&snapshot.items);
        let has_codes = items.iter().any(|item| !item.code.is_empty());
        let has_notes = items.iter().any(|item| !item.note.is_empty());
        let (count_before, count_after) = w
            .countdown
            .split_once("{seconds}")
            .unwrap_or((w.countdown, ""));
        let left = panel.remaining_ms.unwrap_or_default();
        let phone = visitor.app != App::Computer;
        let accepts = |wallet| order.terms.offer(wallet).is_some();
        Self {
            frame: Frame::of(visitor, &panel.heading, payee, "cashier.js"),
            w,
            base: format!("/pay/{}", from.token),
            csrf: from.csrf,
            app: match visitor.app {
                App::Wechat => "wechat",
                App::Alipay => "alipay",
                App::Phone => "phone",
                App::Computer => "computer",
            },
            panel_json: serde_json::to_string(&panel.without_picture()).unwrap_or_default(),
            client_words: client_words(w).to_string(),
            subject: snapshot.subject.clone(),
            amount: order.terms.amount.to_string(),
            facts,
            number: snapshot.merchant_order_no.clone(),
            deadline: order
                .terms
                .pay_before
                .map(|deadline| from.zone.date_and_minute(deadline)),
            items_title: fill(w.details, &[("count", &items.len().to_string())]),
            unfold_items: !phone && items.len() <= 12,
            columns: 1 + usize::from(has_codes) + usize::from(has_notes),
            items,
            has_codes,
            has_notes,
            duplicate_href: from.duplicate_href,
            count_before,
            count_after,
            seconds: left / 1000 + i64::from(left % 1000 > 0),
            bar_from: (left * 1000 / panel.total_ms.max(1)).clamp(0, 1000),
            has_ways: !from.ways.is_empty(),
            folded: visitor.app == App::Phone && !from.ways.is_empty(),
            other_wallet_tip: match visitor.app {
                App::Wechat if accepts(Wallet::Alipay) => Some(w.in_wechat_alipay),
                App::Alipay if accepts(Wallet::Wechat) => Some(w.in_alipay_wechat),
                _ => None,
            },
            ways: from.ways,
            code_side: panel.code.as_ref().map_or(1, |code| code.side),
            accepts_wechat: accepts(Wallet::Wechat),
            accepts_alipay: accepts(Wallet::Alipay),
            has_demo_wallet: from.has_demo_wallet,
            demo_href: panel
                .code
                .as_ref()
                .and_then(|code| code.demo.clone())
                .unwrap_or_default(),
            picture_name: format!("{}.png", snapshot.merchant_order_no),
            return_href: snapshot.return_url.clone(),
            own_href: format!("{}/pay/{}", from.public_url, from.token),
            help_paying: from
                .merchant
                .and_then(|merchant| merchant.help_lines[0].clone()),
            help_fee: from
                .merchant
                .and_then(|merchant| merchant.help_lines[1].clone()),
            snapshot_line: fill(w.snapshot, &[("hash", &short(&snapshot.hash))]),
            panel,
        }
    }
}

/// The sentences that the page's script says by itself.
fn client_words(w: &'static Words) -> serde_json::Value {
    json!({
        "service": w.service,
        "amount_paid": w.amount_paid,
        "copied": w.copied,
        "copy": w.copy,
        "loading": [w.loading_heading, w.loading_text],
        "confirming": [w.confirming_heading, w.confirming_text],
        "offline": [w.offline_heading, w.offline_text],
        "busy": [w.busy_heading, w.busy_text],
        "warning": w.warning_heading,
        "returning": w.returning,
        "countdown": w.countdown,
        "newer": w.newer_code,
    })
}

impl Panel {
    pub fn start_needs_tick(&self) -> bool {
        self.start.as_ref().is_some_and(|start| start.tick)
    }

    pub fn start_is_primary(&self) -> bool {
        self.start.as_ref().is_some_and(|start| start.primary)
    }

    pub fn offers(&self, wallet: &str) -> bool {
        self.wallets.contains(&wallet)
    }
}

/// Who is registered, where that is somebody else than the payer.
pub fn registrant_facts(
    words: &'static Words,
    payer: &MaskedPayer,
) -> impl Iterator<Item = (&'static str, String)> {
    let registrant = payer.registrant.clone().filter(|it| it.differs);
    registrant.into_iter().flat_map(|it| {
        [
            (words.registrant, it.name),
            (words.registrant_id_number, it.id_number),
            (words.registrant_phone, it.phone),
        ]
        .into_iter()
        .filter_map(|(label, value)| Some((label, value?)))
    })
}

/// How a phone can pay this order where it is.
pub fn ways(
    stored: &StoredOrder,
    app: App,
    providers: &Providers,
    words: &'static Words,
) -> Vec<Way> {
    let order = &stored.order;
    if order.terms.mode == CodeMode::Native {
        return Vec::new();
    }
    let account = |wallet| {
        let offer = order.terms.offer(wallet)?;
        Some(providers.get(&offer.account)?.account().clone())
    };
    let wechat = account(Wallet::Wechat);
    let alipay = account(Wallet::Alipay);
    let way = |via, wechat, label| Way { via, wechat, label };
    match app {
        App::Computer => Vec::new(),
        App::Wechat => wechat
            .map(|_| way("jsapi", true, words.pay_in_wechat))
            .into_iter()
            .collect(),
        App::Alipay => alipay
            .map(|_| way("alipay", false, words.pay_in_alipay))
            .into_iter()
            .collect(),
        App::Phone => {
            let wap = alipay
                .filter(|_| may_leave_by_wap(stored))
                .map(|_| way("wap", false, words.open_alipay));
            let h5 = wechat
                .filter(|account| account.h5)
                .map(|_| way("h5", true, words.open_wechat));
            wap.into_iter().chain(h5).collect()
        }
    }
}

/// A WAP link carries all that is asked of Alipay, and would tell whoever scanned the code the whole
/// name and number of the person who must pay.
pub fn may_leave_by_wap(stored: &StoredOrder) -> bool {
    stored.snapshot.payer_identity != PayerIdentity::Provider
}

/// The order behind a `/pay/` token.
pub async fn find(deps: &Deps, token: &str) -> Result<std::sync::Arc<StoredOrder>, Problem> {
    find_by(deps, TokenKind::Pay, token).await
}

/// The order behind a token of its own.
pub async fn find_by(
    deps: &Deps,
    kind: TokenKind,
    token: &str,
) -> Result<std::sync::Arc<StoredOrder>, Problem> {
    let target = deps
        .store
        .token(kind, token_hash(kind, token))
        .await
        .map_err(|error| refusal::store_failed(&error))?
        .ok_or_else(Problem::not_found)?;
    orders::read(deps, target.order).await
}

fn demo_wallet_url(deps: &Deps) -> Option<&str> {
    let settings = &deps.settings;
    settings
        .demo_wallet_url
        .as_deref()
        .filter(|_| settings.demo)
}

/// What changes, for one visitor, now.
pub fn panel_for(deps: &Deps, visitor: &Visitor, stored: &StoredOrder) -> Panel {
    let words = visitor.words();
    let ways = ways(stored, visitor.app, &deps.providers, words);
    Panel::of(
        stored,
        Scene {
            words,
            zone: zone(deps),
            view: &deps.view(),
            now: deps.clock.now(),
            pays_here: !ways.is_empty(),
            demo_wallet_url: demo_wallet_url(deps),
        },
    )
}

/// The page of an order, as an answer.
pub async fn show(
    deps: &Deps,
    visitor: &Visitor,
    token: &str,
    stored: &StoredOrder,
    answer: Option<Said>,
    status: StatusCode,
) -> Result<HttpResponse, Problem> {
    let mut panel = panel_for(deps, visitor, stored);
    panel.answer = answer.map(|said| said.write(visitor.words(), zone(deps)));
    let view = deps.view();
    let merchant = deps
        .store
        .merchant(stored.order.terms.merchant)
        .await
        .map_err(|error| refusal::store_failed(&error))?;
    let display_fields = if stored.snapshot.has_display_fields {
        display_fields(deps, stored).await
    } else {
        Vec::new()
    };
    let page = Page::of(Ingredients {
        visitor,
        csrf: visitor.csrf(deps, token),
        token,
        stored,
        merchant: merchant.as_ref(),
        display_fields: &display_fields,
        panel: &panel,
        ways: ways(stored, visitor.app, &deps.providers, visitor.words()),
        zone: zone(deps),
        public_url: &deps.settings.public_url,
        has_demo_wallet: demo_wallet_url(deps).is_some(),
        duplicate_href: stored
            .snapshot
            .possible_duplicate
            .filter(|_| stored.order.is_open())
            .map(|other| format!("/pay/{}", view.pay_token(other))),
    });
    html(visitor, deps, status, PAGE_POLICY, &page)
}

/// The merchant's own labelled fields. Where they cannot be opened, or were erased, the page goes
/// without them.
async fn display_fields(deps: &Deps, stored: &StoredOrder) -> Vec<DisplayField> {
    match deps.store.personal(stored.order.id, PERSONAL_SLOT).await {
        Ok(Some(sealed)) => open_personal(&deps.sealer, stored.order.id, &sealed)
            .map(|personal| personal.display_fields)
            .unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// The state as JSON, with an `ETag` over everything but the running time.
pub fn state(request: &HttpRequest, deps: &Deps, visitor: &Visitor, panel: &Panel) -> HttpResponse {
    let tag = tag(panel);
    let known = request
        .headers()
        .get(header::IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|tags| tags.split(',').any(|known| known.trim() == tag));
    let mut response = if known {
        HttpResponse::NotModified()
    } else {
        HttpResponse::Ok()
    };
    visitor.dress(deps, &mut response, PAGE_POLICY);
    if let Ok(value) = HeaderValue::from_str(&tag) {
        response.insert_header((header::ETAG, value));
    }
    if known {
        response.finish()
    } else {
        response.json(panel)
    }
}

fn tag(panel: &Panel) -> String {
    let bytes = serde_json::to_vec(&panel.standing()).unwrap_or_default();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
    format!("W/\"{}\"", URL_SAFE_NO_PAD.encode(&digest.as_ref()[..12]))
}

/// A page of one heading and one sentence.
#[derive(Debug, Template)]
#[template(path = "cashier/message.html")]
struct Message {
    frame: Frame,
    w: &'static Words,
    tone: &'static str,
    heading: &'static str,
    text: &'static str,
}

/// A problem as the student reads it: a page, or the problem document for the page's script.
pub fn trouble(deps: &Deps, visitor: &Visitor, problem: Problem) -> Result<HttpResponse, Problem> {
    if visitor.json {
        return Err(problem);
    }
    let w = visitor.words();
    let entry = problem.code().entry();
    let (heading, text, tone) = match problem.code() {
        Code::NotFound => (w.bad_link_heading, w.bad_link_text, "bad"),
        Code::LinkExpired => (w.link_expired_heading, w.link_expired_text, "bad"),
        _ => (w.trouble_heading, w.trouble_text, "wait"),
    };
    let page = Message {
        frame: Frame::of(visitor, heading, w.service, "cashier.js"),
        w,
        tone,
        heading,
        text,
    };
    let status = StatusCode::from_u16(entry.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = html(visitor, deps, status, PAGE_POLICY, &page)?;
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    }
    Ok(response)
}

/// The handler.
pub async fn get(
    request: HttpRequest,
    path: web::Path<String>,
    deps: web::Data<Deps>,
) -> Result<HttpResponse, Problem> {
    let visitor = Visitor::of(&request, &deps);
    let token = path.into_inner();
    let stored = match find(&deps, &token).await {
        Ok(stored) => stored,
        Err(problem) => return trouble(&deps, &visitor, problem),
    };
    if visitor.json {
        let panel = panel_for(&deps, &visitor, &stored);
        return Ok(state(&request, &deps, &visitor, &panel));
    }
    let said = said::from(&request);
    match show(&deps, &visitor, &token, &stored, said, StatusCode::OK).await {
        Ok(mut response) => {
            if said.is_some() {
                said::forget(&deps, &mut response, &format!("/pay/{token}"));
            }
            Ok(response)
        }
        Err(problem) => trouble(&deps, &visitor, problem),
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::super::state::State;
    use super::*;
    use crate::http::words::Language;
    use std::process::{Command, Stdio};

    fn page(stored: &StoredOrder, visitor: &Visitor, ways: Vec<Way>) -> String {
        let panel = samples::panel(stored, visitor.language, !ways.is_empty());
        let merchant = samples::merchant();
        Page::of(Ingredients {
            visitor,
            csrf: "c".repeat(22),
            token: samples::TOKEN,
            stored,
            merchant: Some(&merchant),
            display_fields: &[DisplayField {
                label: "考区".to_owned(),
                value: "乌鲁木齐".to_owned(),
            }],
            panel: &panel,
            ways,
            zone: Zone::new(480),
            public_url: "https://pay.example.edu.cn",
            has_demo_wallet: true,
            duplicate_href: stored
                .snapshot
                .possible_duplicate
                .map(|_| "/pay/other".to_owned()),
        })
        .render()
        .unwrap()
    }

    fn phone_ways(words: &'static Words) -> Vec<Way> {
        vec![
            Way {
                via: "wap",
                wechat: false,
                label: words.open_alipay,
            },
            Way {
                via: "h5",
                wechat: true,
                label: words.open_wechat,
            },
        ]
    }

    fn gzipped(bytes: &[u8]) -> usize {
        use std::io::Write as _;
        let mut gzip = Command::new("gzip")
            .args(["-9", "-c"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("gzip is part of every system these tests run on");
        let mut input = gzip.stdin.take().unwrap();
        let bytes = bytes.to_vec();
        let writer = std::thread::spawn(move || input.write_all(&bytes).unwrap());
        let output = gzip.wait_with_output().unwrap();
        writer.join().unwrap();
        output.stdout.len()
    }

    /// Every state in both languages says its own heading and sentence, carries the same state for
    /// its script, and stays within the budget.
    #[test]
    fn every_state_in_both_languages() {
        let mut headings = std::collections::BTreeSet::new();
        for language in Language::ALL {
            let visitor = Visitor::sample(language, App::Computer);
            for state in State::ALL {
                let stored = samples::sample(state);
                let panel = samples::panel(&stored, language, false);
                assert_eq!(panel.state, state.name());
                headings.insert((language.tag(), panel.heading.clone(), panel.text.clone()));
                let text = page(&stored, &visitor, Vec::new());
                let escaped = |text: &str| text.replace('\'', "&#39;");
                assert!(text.contains(&escaped(&panel.heading)), "{state:?}");
                assert!(
                    text.contains(&escaped(&panel.text)),
                    "{state:?} {}",
                    panel.text
                );
                assert!(!panel.text.contains('{') && !panel.heading.contains('{'));
                assert!(text.contains(&format!("lang=\"{}\"", language.tag())));
                assert!(!text.contains("style="), "the policy forbids inline styles");
                let code_path_is_drawn = text.contains("id=\"qr-path\" d=\"M");
                assert_eq!(
                    code_path_is_drawn,
                    matches!(state, State::Awaiting | State::Warning),
                    "{state:?}"
                );
                let size = gzipped(text.as_bytes());
                assert!(size <= 12 * 1024, "{state:?}: {size} bytes");
            }
        }
        assert_eq!(headings.len(), 2 * State::ALL.len());
    }

    #[test]
    fn static_files_keep_their_budgets() {
        let css = gzipped(include_bytes!("../../../static/student.css"));
        let receipt = gzipped(include_bytes!("../../../static/receipt.css"));
        let cashier = gzipped(include_bytes!("../../../static/cashier.js"));
        let scan = gzipped(include_bytes!("../../../static/scan.js"));
        // A receipt needs both.
        assert!(css + receipt <= 5 * 1024, "css: {css} + {receipt} bytes");
        assert!(cashier <= 7 * 1024, "cashier.js: {cashier} bytes");
        assert!(scan <= 7 * 1024, "scan.js: {scan} bytes");
    }

    #[test]
    fn the_tag_ignores_the_running_time() {
        let stored = samples::sample(State::Awaiting);
        let panel = samples::panel(&stored, Language::Chinese, false);
        let mut later = panel.clone();
        later.remaining_ms = Some(1);
        later.checked = "x".to_owned();
        assert_eq!(tag(&panel), tag(&later));
        later.text = "x".to_owned();
        assert_ne!(tag(&panel), tag(&later));
    }

    /// Writes every page to a folder, to be looked at.
    #[test]
    fn preview() {
        let Some(folder) = std::env::var_os("ENROLLPAY_PREVIEW").map(std::path::PathBuf::from)
        else {
            return;
        };
        let pages = folder.join("pay");
        let files = folder.join("static");
        std::fs::create_dir_all(&pages).unwrap();
        std::fs::create_dir_all(&files).unwrap();
        for name in [
            "student.css",
            "cashier.js",
            "bills.js",
            "scan.js",
            "icon.svg",
        ] {
            let hashed = assets::href(name);
            std::fs::copy(
                std::path::Path::new("static").join(name),
                files.join(hashed.trim_start_matches("/static/")),
            )
            .unwrap();
        }
        for language in Language::ALL {
            for (app, ways, kind) in [
                (App::Computer, Vec::new(), "computer"),
                (App::Phone, phone_ways(language.words()), "phone"),
            ] {
                let visitor = Visitor::sample(language, app);
                for state in State::ALL {
                    let text = page(&samples::sample(state), &visitor, ways.clone());
                    let name = format!("{}-{kind}-{}.html", state.name(), language.tag());
                    std::fs::write(pages.join(name), text).unwrap();
                }
            }
            let visitor = Visitor::sample(language, App::Computer);
            let native = samples::native(Wallet::Wechat, "weixin://wxpay/bizpayurl?pr=abcdefg00");
            let text = page(&native, &visitor, Vec::new());
            std::fs::write(pages.join(format!("native-{}.html", language.tag())), text).unwrap();
        }
    }
}
