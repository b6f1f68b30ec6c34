//! 自学考试: the examination office of the manual whose notes decide the three-minute code. A candidate
//! registers, presses 点击缴费, pays, and 更新缴费结果 asks again. The browser never speaks to the merchant
//! API: the office's server does, with its key.

mod registrations;

use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use serde::Deserialize;

use super::desk::{Desk, RFC3339, beijing};
use super::gateway::{Order, Trouble};
use super::inbox::{Disbelieved, Heard};
use super::page::{
    Notice, StatusWords, go_to, own_address, page, readable, status_answer, to_cashier, wallet,
    yuan,
};
use registrations::{COURSES, Course, Registration, total};

pub use registrations::Registrations;

type Office = Desk<Registrations>;

pub fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/selfstudy", web::get().to(newest))
        .route("/registrations", web::post().to(register))
        .route("/registrations/{number}", web::get().to(show))
        .route("/registrations/{number}/pay", web::post().to(pay))
        .route("/registrations/{number}/refresh", web::post().to(refresh))
        .route("/registrations/{number}/modify", web::post().to(modify))
        .route("/registrations/{number}/status", web::get().to(status))
        .route("/events", web::get().to(events))
        .route("/webhook", web::post().to(webhook));
}

#[derive(Template)]
#[template(path = "demo/selfstudy/payment.html")]
struct PaymentPage<'a> {
    active: &'static str,
    registration: &'a Registration,
    order: Option<&'a Order>,
    status: StatusWords,
    courses: &'static [Course],
    total: i64,
    earlier: Vec<&'a Registration>,
    notice: Option<Notice>,
}

#[derive(Template)]
#[template(path = "demo/selfstudy/events.html")]
struct EventsPage<'a> {
    active: &'static str,
    heard: Vec<&'a Heard>,
    refused: Vec<&'a Disbelieved>,
}

async fn newest(school: web::Data<Office>) -> HttpResponse {
    let newest = {
        let state = school.books.lock().await;
        state.newest().map(|newest| newest.number.clone())
    };
    match newest {
        Some(number) => go_to(&format!("/registrations/{number}")),
        None => school.register().await,
    }
}

async fn register(school: web::Data<Office>) -> HttpResponse {
    school.register().await
}

/// `checked` says that 更新缴费结果 was just pressed.
#[derive(Deserialize)]
struct Shown {
    checked: Option<String>,
}

async fn show(
    school: web::Data<Office>,
    number: web::Path<String>,
    query: web::Query<Shown>,
) -> HttpResponse {
    let checked = query.checked.is_some();
    school
        .show(200, &number, |registration| {
            let at = registration.checked_at.as_deref().filter(|_| checked)?;
            let clock = at.get(11..19).unwrap_or(at);
            let paid = registration.order.as_ref()?.status == "paid";
            Some(if paid {
                Notice {
                    class: "good",
                    text: format!("已查到缴费记录（{clock} 查询） Payment found."),
                }
            } else {
                Notice {
                    class: "info",
                    text: format!(
                        "暂未查到付款记录（{clock} 查询）。如刚付款，请 10 秒后再查 \
                     No payment found yet; if you just paid, check again in 10 s."
                    ),
                }
            })
        })
        .await
}

async fn pay(
    request: HttpRequest,
    school: web::Data<Office>,
    number: web::Path<String>,
) -> HttpResponse {
    // The way back is part of what is asked for, so it is fixed before the first call.
    let body = {
        let mut state = school.books.lock().await;
        let Some(registration) = state.registration_mut(&number) else {
            return super::missing();
        };
        if !registration.asked {
            registration.asked = true;
            registration.return_url = own_address(&request, &format!("/registrations/{number}"));
        }
        let body = registration.order_request();
        if school.save(&state).is_err() {
            return HttpResponse::InternalServerError().finish();
        }
        body
    };
    match school.gateway.create(&body).await {
        Ok(order) => {
            let answer = to_cashier(&order, &format!("/registrations/{number}"));
            school.learn(order).await;
            answer
        }
        Err(trouble) => school.show_trouble(&number, trouble).await,
    }
}

async fn refresh(school: web::Data<Office>, number: web::Path<String>) -> HttpResponse {
    let id = {
        let state = school.books.lock().await;
        let order = state
            .registration(&number)
            .and_then(|registration| registration.order.as_ref());
        match order {
            Some(order) => order.id.clone(),
            None => return go_to(&format!("/registrations/{number}")),
        }
    };
    match school.gateway.query(&id).await {
        Ok(order) => {
            let now = beijing(school.now_ms(), RFC3339);
            school.learn(order).await;
            school.checked(&number, now).await;
            go_to(&format!("/registrations/{number}?checked=1"))
        }
        Err(trouble) => school.show_trouble(&number, trouble).await,
    }
}

/// 修改报考: nothing can be changed in an order (it is a snapshot), so the old one is ended, surely, and a new
/// registration takes its place. Money that came meanwhile stays where it is.
async fn modify(school: web::Data<Office>, number: web::Path<String>) -> HttpResponse {
    let order = {
        let state = school.books.lock().await;
        match state.registration(&number) {
            None => return super::missing(),
            Some(registration) => registration.order.clone(),
        }
    };
    let Some(order) = order else {
        return school.register().await;
    };
    match school.gateway.cancel(&order.id).await {
        Ok(order) if order.status == "closed" => {
            school.learn(order).await;
            school.register().await
        }
        Ok(order) => {
            school.learn(order).await;
            let waits = |_: &Registration| {
                Some(Notice {
                    class: "info",
                    text: "正在关闭原订单，请稍后再试 The old order is being closed; try again in a moment."
                        .to_owned(),
                })
            };
            school.show(200, &number, waits).await
        }
        Err(trouble) => {
            if let Ok(order) = school.gateway.read(&order.id).await {
                school.learn(order).await;
            }
            school.show_trouble(&number, trouble).await
        }
    }
}

/// What the page's script asks now and then.
async fn status(school: web::Data<Office>, number: web::Path<String>) -> HttpResponse {
    let state = school.books.lock().await;
    let Some(registration) = state.registration(&number) else {
        return HttpResponse::NotFound().finish();
    };
    status_answer(registration.order.as_ref())
}

async fn events(school: web::Data<Office>) -> HttpResponse {
    let state = school.books.lock().await;
    page(
        200,
        &EventsPage {
            active: "events",
            heard: state.received().heard().take(100).collect(),
            refused: state.received().refused().collect(),
        },
    )
}

async fn webhook(
    request: HttpRequest,
    school: web::Data<Office>,
    body: web::Bytes,
) -> HttpResponse {
    school.webhook(&request, &body).await
}

impl Office {
    /// A new registration, and its page.
    async fn register(&self) -> HttpResponse {
        let mut state = self.books.lock().await;
        let number = state.register(self.now_ms(), &*self.random);
        if self.save(&state).is_err() {
            return HttpResponse::InternalServerError().finish();
        }
        go_to(&format!("/registrations/{number}"))
    }

    async fn checked(&self, number: &str, at: String) {
        let mut state = self.books.lock().await;
        if let Some(registration) = state.registration_mut(number) {
            registration.checked_at = Some(at);
        }
        let _ = self.save(&state);
    }

    async fn show_trouble(&self, number: &str, trouble: Trouble) -> HttpResponse {
        tracing::warn!(%trouble, "the gateway refused the demo");
        let notice = |_: &Registration| {
            Some(Notice {
                class: "bad",
                text: trouble.to_string(),
            })
        };
        self.show(502, number, notice).await
    }

    async fn show(
        &self,
        status: u16,
        number: &str,
        notice: impl FnOnce(&Registration) -> Option<Notice>,
    ) -> HttpResponse {
        let state = self.books.lock().await;
        let Some(registration) = state.registration(number) else {
            return super::missing();
        };
        let order = registration.order.as_ref();
        let others = state.registrations().filter(|one| one.number != number);
        page(
            status,
            &PaymentPage {
                active: "payment",
                registration,
                order,
                status: StatusWords::of(order),
                courses: &COURSES,
                total: total(),
                earlier: others.take(20).collect(),
                notice: notice(registration),
            },
        )
    }
}
