//! 学士学位外语考试: registered and paid on one phone. The registration does not open inside WeChat; the code
//! is saved to the album and scanned from there; who pays must be who registered; the deadline is the
//! registration's. What the manual ends with, uploading a screenshot of the bill, is not needed: a signed
//! notice says that it is paid, and the receipt proves it to anybody.

mod applications;

use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use serde::Deserialize;

use super::desk::Desk;
use super::gateway::{Order, Trouble};
use super::inbox::{Disbelieved, Heard};
use super::page::{
    Notice, StatusWords, go_to, in_wechat, own_address, page, readable, status_answer, to_cashier,
    wallet, yuan,
};
use applications::{Application, CANDIDATE, Candidate, FEE, FEE_NAME, Payer, SUBJECTS};

pub use applications::Applications;

type Office = Desk<Applications>;

pub fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/language", web::get().to(home))
        .route("/language/applications", web::post().to(apply))
        .route("/language/applications/{number}", web::get().to(show))
        .route("/language/applications/{number}/save", web::post().to(save))
        .route("/language/applications/{number}/pay", web::post().to(pay))
        .route(
            "/language/applications/{number}/refresh",
            web::post().to(refresh),
        )
        .route(
            "/language/applications/{number}/status",
            web::get().to(status),
        )
        .route(
            "/language/applications/{number}/ticket",
            web::get().to(ticket),
        )
        .route("/language/office", web::get().to(office))
        .route("/language/office/deadline", web::post().to(deadline))
        .route("/language/webhook", web::post().to(webhook));
}

#[derive(Template)]
#[template(path = "demo/language/home.html")]
struct HomePage<'a> {
    active: &'static str,
    in_wechat: bool,
    applications: Vec<&'a Application>,
}

#[derive(Template)]
#[template(path = "demo/language/application.html")]
struct ApplicationPage<'a> {
    active: &'static str,
    application: &'a Application,
    candidate: &'static Candidate,
    subjects: &'static [&'static str],
    fee_name: &'static str,
    fee: i64,
    payer: Payer,
    status: StatusWords,
    /// Past the deadline.
    closed: bool,
    notice: Option<Notice>,
}

#[derive(Template)]
#[template(path = "demo/language/ticket.html")]
struct TicketPage<'a> {
    active: &'static str,
    application: &'a Application,
    candidate: &'static Candidate,
}

#[derive(Template)]
#[template(path = "demo/language/office.html")]
struct OfficePage<'a> {
    active: &'static str,
    open_minutes: i64,
    applications: Vec<(&'a Application, StatusWords)>,
    heard: Vec<&'a Heard>,
    refused: Vec<&'a Disbelieved>,
}

async fn home(request: HttpRequest, desk: web::Data<Office>) -> HttpResponse {
    let books = desk.books.lock().await;
    page(
        200,
        &HomePage {
            active: "home",
            in_wechat: in_wechat(&request),
            applications: books.all().take(20).collect(),
        },
    )
}

async fn apply(desk: web::Data<Office>) -> HttpResponse {
    let mut books = desk.books.lock().await;
    let number = books.apply(desk.now_ms(), &*desk.random);
    if desk.save(&books).is_err() {
        return HttpResponse::InternalServerError().finish();
    }
    go_to(&format!("/language/applications/{number}"))
}

async fn show(desk: web::Data<Office>, number: web::Path<String>) -> HttpResponse {
    desk.show(200, &number, None, None).await
}

#[derive(Deserialize)]
struct Details {
    subject: String,
    graduated: Option<String>,
}

const CLOSED: &str =
    "报名已截止，不能再修改或缴费 Registration is closed: nothing can be changed or paid.";

/// 修改报考信息: what is registered may change while registration is open; what is paid stays paid.
async fn save(
    desk: web::Data<Office>,
    number: web::Path<String>,
    form: web::Form<Details>,
) -> HttpResponse {
    let Some(subject) = SUBJECTS.iter().find(|subject| **subject == form.subject) else {
        return HttpResponse::BadRequest().finish();
    };
    let paid = {
        let mut books = desk.books.lock().await;
        let Some(application) = books.find_mut(&number) else {
            return super::missing();
        };
        if application.is_closed(desk.now_ms()) {
            drop(books);
            let notice = Notice::bad(CLOSED);
            return desk.show(422, &number, Some(notice), None).await;
        }
        (*subject).clone_into(&mut application.subject);
        application.graduated = form.graduated.is_some();
        application.edits = application.edits.saturating_add(1);
        let paid = application.is_paid();
        if desk.save(&books).is_err() {
            return HttpResponse::InternalServerError().finish();
        }
        paid
    };
    let text = if paid {
        "已保存。报名费已缴，凭证继续有效，切勿重新支付 Saved. The fee is paid and the receipt stays valid: do not pay again."
    } else {
        "已保存 Saved."
    };
    let notice = Notice {
        class: "good",
        text: text.to_owned(),
    };
    desk.show(200, &number, Some(notice), None).await
}

#[derive(Deserialize)]
struct Paying {
    payer_name: String,
    payer_phone: String,
}

async fn pay(
    request: HttpRequest,
    desk: web::Data<Office>,
    number: web::Path<String>,
    form: web::Form<Paying>,
) -> HttpResponse {
    let typed = Payer {
        name: form.payer_name.trim().to_owned(),
        phone: form.payer_phone.trim().to_owned(),
    };
    let (payer, body) = {
        let mut books = desk.books.lock().await;
        let Some(application) = books.find_mut(&number) else {
            return super::missing();
        };
        if application.is_closed(desk.now_ms()) {
            drop(books);
            let notice = Notice::bad(CLOSED);
            return desk.show(422, &number, Some(notice), Some(typed)).await;
        }
        if application.return_url.is_none() {
            application.return_url =
                own_address(&request, &format!("/language/applications/{number}"));
        }
        let payer = application.payer.clone().unwrap_or_else(|| typed.clone());
        let body = application.order_request(&payer);
        if desk.save(&books).is_err() {
            return HttpResponse::InternalServerError().finish();
        }
        (payer, body)
    };
    match desk.gateway.create(&body).await {
        Ok(order) => {
            let answer = to_cashier(&order, &format!("/language/applications/{number}"));
            desk.took(&number, payer, order).await;
            answer
        }
        Err(trouble) => {
            let (status, text) = match &trouble {
                Trouble::Refused { code, .. } if code == "payer_mismatch" => (
                    422,
                    "缴费人与报名人信息不一致，不能缴费，请改为本人信息 The payer is not the person who registered: nothing can be paid.".to_owned(),
                ),
                other => (502, other.to_string()),
            };
            desk.show(status, &number, Some(Notice::bad(text)), Some(typed))
                .await
        }
    }
}

async fn refresh(desk: web::Data<Office>, number: web::Path<String>) -> HttpResponse {
    let order = {
        let books = desk.books.lock().await;
        books.find(&number).and_then(|one| one.order.clone())
    };
    let Some(order) = order else {
        return go_to(&format!("/language/applications/{number}"));
    };
    match desk.gateway.query(&order.id).await {
        Ok(order) => {
            desk.learn(order).await;
            go_to(&format!("/language/applications/{number}"))
        }
        Err(trouble) => {
            desk.show(502, &number, Some(Notice::bad(trouble.to_string())), None)
                .await
        }
    }
}

/// What the page's script asks now and then.
async fn status(desk: web::Data<Office>, number: web::Path<String>) -> HttpResponse {
    let books = desk.books.lock().await;
    let Some(application) = books.find(&number) else {
        return HttpResponse::NotFound().finish();
    };
    status_answer(application.order.as_ref())
}

/// 准考证, once it is paid.
async fn ticket(desk: web::Data<Office>, number: web::Path<String>) -> HttpResponse {
    let books = desk.books.lock().await;
    match books.find(&number) {
        Some(application) if application.is_paid() => page(
            200,
            &TicketPage {
                active: "home",
                application,
                candidate: &CANDIDATE,
            },
        ),
        _ => super::missing(),
    }
}

async fn office(desk: web::Data<Office>) -> HttpResponse {
    let books = desk.books.lock().await;
    page(
        200,
        &OfficePage {
            active: "office",
            open_minutes: books.open_minutes(),
            applications: books
                .all()
                .take(50)
                .map(|one| (one, StatusWords::of(one.order.as_ref())))
                .collect(),
            heard: books.received().heard().take(100).collect(),
            refused: books.received().refused().collect(),
        },
    )
}

#[derive(Deserialize)]
struct Deadline {
    minutes: i64,
}

async fn deadline(desk: web::Data<Office>, form: web::Form<Deadline>) -> HttpResponse {
    let mut books = desk.books.lock().await;
    books.stay_open(form.minutes.clamp(0, 365 * 24 * 60));
    if desk.save(&books).is_err() {
        return HttpResponse::InternalServerError().finish();
    }
    go_to("/language/office")
}

async fn webhook(request: HttpRequest, desk: web::Data<Office>, body: web::Bytes) -> HttpResponse {
    desk.webhook(&request, &body).await
}

impl Office {
    /// The gateway took the order: who pays is fixed from now on.
    async fn took(&self, number: &str, payer: Payer, order: Order) {
        let mut books = self.books.lock().await;
        if let Some(application) = books.find_mut(number) {
            application.payer = Some(payer);
        }
        super::desk::Books::learn(&mut *books, order);
        let _ = self.save(&books);
    }

    async fn show(
        &self,
        status: u16,
        number: &str,
        notice: Option<Notice>,
        typed: Option<Payer>,
    ) -> HttpResponse {
        let books = self.books.lock().await;
        let Some(application) = books.find(number) else {
            return super::missing();
        };
        let payer = application
            .payer
            .clone()
            .or(typed)
            .unwrap_or_else(|| Payer {
                name: CANDIDATE.name.to_owned(),
                phone: CANDIDATE.phone.to_owned(),
            });
        page(
            status,
            &ApplicationPage {
                active: "home",
                application,
                candidate: &CANDIDATE,
                subjects: &SUBJECTS,
                fee_name: FEE_NAME,
                fee: FEE,
                payer,
                status: StatusWords::of(application.order.as_ref()),
                closed: application.is_closed(self.now_ms()),
                notice,
            },
        )
    }
}
