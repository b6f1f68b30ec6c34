//! 学费: a university that uploads what is owed. Its student comes to the finance site from a computer, by a
//! code, or from the official account's menu, opens 账单缴费, ticks and pays, and finds the vouchers under
//! 我的发票. Logging in and face capture are the university's own; here they are for show.

mod ledger;

use actix_web::cookie::{Cookie, SameSite};
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::json;

use super::desk::Desk;
use super::gateway::{Order, Trouble};
use super::inbox::{Disbelieved, Heard};
use super::page::{Notice, StatusWords, go_to, is_web, own_address, page, readable, wallet, yuan};
use crate::qr::Qr;
use ledger::{Owed, STUDENT, Student, payer};

pub use ledger::Ledger;

type University = Desk<Ledger>;

/// Says that the student has logged in to the finance site.
const LOGIN: &str = "tuition_login";

pub fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/tuition", web::get().to(space))
        .route("/tuition/entry", web::post().to(entry))
        .route("/tuition/account", web::get().to(account))
        .route("/tuition/finance", web::get().to(finance))
        .route("/tuition/finance/login", web::post().to(login))
        .route("/tuition/finance/logout", web::post().to(logout))
        .route("/tuition/finance/bills", web::post().to(bills))
        .route("/tuition/finance/mine", web::get().to(mine))
        .route("/tuition/office", web::get().to(office))
        .route("/tuition/office/bills", web::post().to(issue))
        .route("/tuition/webhook", web::post().to(webhook));
}

#[derive(Template)]
#[template(path = "demo/tuition/space.html")]
struct SpacePage {
    active: &'static str,
    /// After the face was captured: the code, and where it leads.
    entry: Option<(String, String)>,
    student: &'static Student,
}

#[derive(Template)]
#[template(path = "demo/tuition/account.html")]
struct AccountPage {
    active: &'static str,
}

#[derive(Template)]
#[template(path = "demo/tuition/login.html")]
struct LoginPage {
    active: &'static str,
    notice: Option<Notice>,
}

#[derive(Template)]
#[template(path = "demo/tuition/finance.html")]
struct FinancePage {
    active: &'static str,
    student: &'static Student,
    notice: Option<Notice>,
}

#[derive(Template)]
#[template(path = "demo/tuition/mine.html")]
struct MinePage<'a> {
    active: &'static str,
    paid: Vec<&'a Order>,
}

struct Line<'a> {
    owed: &'a Owed,
    status: StatusWords,
    order: Option<&'a Order>,
}

#[derive(Template)]
#[template(path = "demo/tuition/office.html")]
struct OfficePage<'a> {
    active: &'static str,
    notice: Option<Notice>,
    lines: Vec<Line<'a>>,
    heard: Vec<&'a Heard>,
    refused: Vec<&'a Disbelieved>,
}

async fn space() -> HttpResponse {
    page(
        200,
        &SpacePage {
            active: "space",
            entry: None,
            student: &STUDENT,
        },
    )
}

/// After the face was captured: the code that leads a phone to the finance site.
async fn entry(request: HttpRequest) -> HttpResponse {
    let address =
        own_address(&request, "/tuition/finance").unwrap_or_else(|| "/tuition/finance".to_owned());
    let Ok(code) = Qr::of(&address) else {
        return HttpResponse::InternalServerError().finish();
    };
    page(
        200,
        &SpacePage {
            active: "space",
            entry: Some((code.svg("财务缴费二维码"), address)),
            student: &STUDENT,
        },
    )
}

async fn account() -> HttpResponse {
    page(200, &AccountPage { active: "account" })
}

async fn finance(request: HttpRequest, desk: web::Data<University>) -> HttpResponse {
    if logged_in(&request, &desk).await {
        page(
            200,
            &FinancePage {
                active: "finance",
                student: &STUDENT,
                notice: None,
            },
        )
    } else {
        page(
            200,
            &LoginPage {
                active: "finance",
                notice: None,
            },
        )
    }
}

#[derive(Deserialize)]
struct Login {
    account: String,
    password: String,
}

async fn login(desk: web::Data<University>, form: web::Form<Login>) -> HttpResponse {
    let account = form.account.trim();
    let is_student = account == STUDENT.number || account == STUDENT.id_number;
    if !is_student || form.password != STUDENT.first_password() {
        return page(
            422,
            &LoginPage {
                active: "finance",
                notice: Some(Notice::bad(
                    "账号或密码不正确 The account or the password is not right.",
                )),
            },
        );
    }
    let token = URL_SAFE_NO_PAD.encode(desk.random.bytes::<16>());
    {
        let mut books = desk.books.lock().await;
        books.log_in(token.clone());
        if desk.save(&books).is_err() {
            return HttpResponse::InternalServerError().finish();
        }
    }
    let cookie = Cookie::build(LOGIN, token)
        .path("/tuition")
        .http_only(true)
        .same_site(SameSite::Lax)
        .finish();
    let mut answer = go_to("/tuition/finance");
    if answer.add_cookie(&cookie).is_err() {
        return HttpResponse::InternalServerError().finish();
    }
    answer
}

async fn logout(request: HttpRequest, desk: web::Data<University>) -> HttpResponse {
    if let Some(cookie) = request.cookie(LOGIN) {
        let mut books = desk.books.lock().await;
        books.log_out(cookie.value());
        let _ = desk.save(&books);
    }
    go_to("/tuition/finance")
}

/// 账单缴费: the university signs the student in, asks the gateway for the student's own link, and leads there.
async fn bills(request: HttpRequest, desk: web::Data<University>) -> HttpResponse {
    if !logged_in(&request, &desk).await {
        return go_to("/tuition/finance");
    }
    let link = match desk.upload(false).await {
        Ok(()) => {
            let asked = json!({
                "payer": payer(),
                "return_url": own_address(&request, "/tuition/finance"),
            });
            desk.gateway.payer_link(&asked).await
        }
        Err(trouble) => Err(trouble),
    };
    match link {
        Ok(url) if is_web(&url) => go_to(&url),
        Ok(_) => HttpResponse::BadGateway().finish(),
        Err(trouble) => page(
            502,
            &FinancePage {
                active: "finance",
                student: &STUDENT,
                notice: Some(Notice::bad(trouble.to_string())),
            },
        ),
    }
}

async fn mine(request: HttpRequest, desk: web::Data<University>) -> HttpResponse {
    if !logged_in(&request, &desk).await {
        return go_to("/tuition/finance");
    }
    let books = desk.books.lock().await;
    page(
        200,
        &MinePage {
            active: "mine",
            paid: books.paid().collect(),
        },
    )
}

async fn office(desk: web::Data<University>) -> HttpResponse {
    let trouble = desk.upload(false).await.err();
    desk.office(trouble).await
}

/// 上传账单: another year's bills.
async fn issue(desk: web::Data<University>) -> HttpResponse {
    match desk.upload(true).await {
        Ok(()) => go_to("/tuition/office"),
        Err(trouble) => desk.office(Some(trouble)).await,
    }
}

async fn webhook(
    request: HttpRequest,
    desk: web::Data<University>,
    body: web::Bytes,
) -> HttpResponse {
    desk.webhook(&request, &body).await
}

async fn logged_in(request: &HttpRequest, desk: &University) -> bool {
    match request.cookie(LOGIN) {
        Some(cookie) => desk.books.lock().await.is_logged_in(cookie.value()),
        None => false,
    }
}

impl University {
    /// Tells the gateway of all bills that it does not know; of a new year's first, where `another` asks for
    /// it or there never was one.
    async fn upload(&self, another: bool) -> Result<(), Trouble> {
        let missing = {
            let mut books = self.books.lock().await;
            if another || books.bills().next().is_none() {
                books.issue(self.now_ms(), &*self.random);
                let _ = self.save(&books);
            }
            books.to_upload()
        };
        let Some((numbers, bills)) = missing else {
            return Ok(());
        };
        self.gateway.upload(&bills).await?;
        let mut books = self.books.lock().await;
        books.uploaded(&numbers);
        let _ = self.save(&books);
        Ok(())
    }

    async fn office(&self, trouble: Option<Trouble>) -> HttpResponse {
        let books = self.books.lock().await;
        let lines = books
            .bills()
            .map(|owed| Line {
                owed,
                status: books.status_of(owed),
                order: books.order_of(owed),
            })
            .collect();
        let status = if trouble.is_some() { 502 } else { 200 };
        page(
            status,
            &OfficePage {
                active: "office",
                notice: trouble.map(|trouble| Notice::bad(trouble.to_string())),
                lines,
                heard: books.received().heard().take(100).collect(),
                refused: books.received().refused().collect(),
            },
        )
    }
}
