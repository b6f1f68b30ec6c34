//! The page's buttons: a new code, asking the provider, cancelling. A form is answered with 303 back
//! to the page, a script with the state as JSON; nothing else differs.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use tokio::time::Instant;

use super::page::{find, panel_for, show, trouble};
use super::said::{self, Said};
use super::state::State;
use super::visitor::{Form, PAGE_POLICY, Visitor, zone};
use crate::actors::{Reply, Request, Verdict};
use crate::http::attempts::{self, settled};
use crate::http::limits::Limiters;
use crate::http::problem::{Code, Problem};
use crate::http::{Deps, queries, refusal, request_id};
use crate::order::{Command, OrderId, Refusal, Settlement, Wallet};
use crate::store::{Actor, PayerIdentity, StoredOrder, Write};

/// How long a cancel waits for the order's end.
const WAIT_FOR_END: Duration = Duration::from_secs(3);

/// A press that may be answered: its form belongs to this visitor's page.
pub struct Press {
    pub deps: web::Data<Deps>,
    pub visitor: Visitor,
    pub token: String,
    pub form: Form,
    pub stored: Arc<StoredOrder>,
}

impl std::fmt::Debug for Press {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Press(***)")
    }
}

/// How a press ends.
#[derive(Debug)]
pub enum End {
    /// The page as it is now, with an answer or without.
    Page(Arc<StoredOrder>, Option<Said>),
    /// The same, with the problem that scripts are told.
    Refused(Arc<StoredOrder>, Option<Said>, Problem),
    /// Nothing can be shown.
    Trouble(Problem),
    /// Something else altogether.
    Other(HttpResponse),
}

impl From<Problem> for End {
    fn from(problem: Problem) -> Self {
        Self::Trouble(problem)
    }
}

/// Tells the order something in the payer's name.
pub async fn tell(
    deps: &Deps,
    order: OrderId,
    command: Command,
    writes: Vec<Write>,
) -> Result<Reply, Problem> {
    let told = deps.orders.tell(order, by_payer(command, writes)).await;
    told.map_err(|error| refusal::unanswered(&error, &deps.view()))
}

fn by_payer(command: Command, writes: Vec<Write>) -> Request {
    Request {
        command,
        actor: Actor::Payer,
        request_id: request_id::current().map(|id| id.to_string()),
        writes,
    }
}

/// Reads the press, does the work, writes the answer.
pub async fn answer(
    request: HttpRequest,
    payload: web::Payload,
    token: String,
    deps: web::Data<Deps>,
    work: impl AsyncFnOnce(&Press) -> End,
) -> Result<HttpResponse, Problem> {
    let visitor = Visitor::of(&request, &deps);
    let read = async {
        let form = Form::read(&request, payload, &deps).await?;
        let stored = find(&deps, &token).await?;
        Ok((form, stored))
    };
    let (form, stored) = match read.await {
        Ok(read) => read,
        Err(problem) => return trouble(&deps, &visitor, problem),
    };
    if !visitor.check_csrf(&deps, &token, form.get("csrf")) {
        let problem = Problem::new(
            Code::PageStale,
            "Expected the csrf member and the cookie of a page that this browser loaded.",
        );
        if visitor.json {
            return Err(problem);
        }
        let status = StatusCode::FORBIDDEN;
        return show(&deps, &visitor, &token, &stored, Some(Said::Stale), status).await;
    }
    let press = Press {
        deps,
        visitor,
        token,
        form,
        stored,
    };
    match work(&press).await {
        End::Other(response) => Ok(response),
        End::Trouble(problem) => trouble(&press.deps, &press.visitor, problem),
        End::Page(stored, said) if press.visitor.json => Ok(json(&press, &stored, said)),
        End::Refused(stored, said, problem) if press.visitor.json => {
            let mut panel = panel_for(&press.deps, &press.visitor, &stored);
            panel.answer = said.map(|said| said.write(press.visitor.words(), zone(&press.deps)));
            let panel = serde_json::to_value(panel).unwrap_or_default();
            Err(problem.with("panel", panel))
        }
        End::Page(_, said) | End::Refused(_, said, _) => Ok(back(&press, said)),
    }
}

fn json(press: &Press, stored: &StoredOrder, said: Option<Said>) -> HttpResponse {
    let mut panel = panel_for(&press.deps, &press.visitor, stored);
    panel.answer = said.map(|said| said.write(press.visitor.words(), zone(&press.deps)));
    let mut response = HttpResponse::Ok();
    press.visitor.dress(&press.deps, &mut response, PAGE_POLICY);
    response.json(panel)
}

/// 303 to the page that the press came from.
fn back(press: &Press, said: Option<Said>) -> HttpResponse {
    let place = format!("/pay/{}{}", press.token, press.visitor.query);
    let mut response = HttpResponse::SeeOther();
    press.visitor.dress(&press.deps, &mut response, PAGE_POLICY);
    let mut response = response.insert_header((header::LOCATION, place)).finish();
    if let Some(said) = said {
        said::remember(
            &press.deps,
            &mut response,
            &format!("/pay/{}", press.token),
            said,
        );
    }
    response
}

/// `POST /pay/{token}/attempts`
pub async fn start(
    request: HttpRequest,
    payload: web::Payload,
    path: web::Path<String>,
    deps: web::Data<Deps>,
    limiters: web::Data<Limiters>,
) -> Result<HttpResponse, Problem> {
    answer(request, payload, path.into_inner(), deps, async |press| {
        start_code(press, &limiters).await
    })
    .await
}

async fn start_code(press: &Press, limiters: &Limiters) -> End {
    let Press {
        deps, form, stored, ..
    } = press;
    let stored = Arc::clone(stored);
    let wallet = match form.get("wallet") {
        None | Some("") => None,
        Some("wechat") => Some(Wallet::Wechat),
        Some("alipay") => Some(Wallet::Alipay),
        Some(_) => {
            let problem = Problem::new(Code::ValidationFailed, "The wallet is not known.")
                .at("/wallet", "expected \"wechat\" or \"alipay\"");
            return End::Refused(stored, Some(Said::NotOffered), problem);
        }
    };
    // A page that starts by itself ends nothing that somebody else started.
    if form.get("auto") == Some("1") {
        let state = State::of(&stored.order, &stored.snapshot, deps.clock.now());
        if !matches!(state, State::Ready | State::Superseded) {
            return End::Page(stored, None);
        }
    }
    let unticked = stored.snapshot.payer_identity == PayerIdentity::Confirm
        && stored.order.attempts.is_empty()
        && form.get("checked") != Some("1");
    if unticked && stored.order.is_open() {
        let problem = Problem::new(
            Code::ValidationFailed,
            "The payer confirms the details before the first code.",
        )
        .at("/checked", "expected \"1\"");
        return End::Refused(stored, Some(Said::TickFirst), problem);
    }
    start_attempt(press, limiters, wallet).await
}

/// Starts a code in place of whatever is live.
pub async fn start_attempt(press: &Press, limiters: &Limiters, wallet: Option<Wallet>) -> End {
    let deps = &press.deps;
    let stored = Arc::clone(&press.stored);
    let id = stored.order.id;
    if let Err(problem) = limiters.attempt(id).await {
        let said = Said::TooMany { seconds: 60 };
        return End::Refused(stored, Some(said), problem);
    }
    let view = deps.view();
    let started = attempts::start(
        deps,
        &view,
        Arc::clone(&stored),
        wallet,
        async |command, writes| tell(deps, id, command, writes).await,
    )
    .await;
    let started = match started {
        Ok(started) => attempts::with_code(deps, started).await,
        Err(problem) => Err(problem),
    };
    match started {
        Ok(started) => End::Page(started.stored, None),
        Err(problem) => match problem.code().entry().status {
            400..500 => {
                let said = match problem.code() {
                    Code::AttemptClosing => Some(Said::Closing),
                    Code::ValidationFailed => Some(Said::NotOffered),
                    _ => None,
                };
                match find(deps, &press.token).await {
                    Ok(stored) => End::Refused(stored, said, problem),
                    Err(problem) => End::Trouble(problem),
                }
            }
            _ => End::Trouble(problem),
        },
    }
}

/// `POST /pay/{token}/query`
pub async fn query(
    request: HttpRequest,
    payload: web::Payload,
    path: web::Path<String>,
    deps: web::Data<Deps>,
) -> Result<HttpResponse, Problem> {
    answer(request, payload, path.into_inner(), deps, async |press| {
        ask(press).await
    })
    .await
}

async fn ask(press: &Press) -> End {
    let deps = &press.deps;
    let id = press.stored.order.id;
    let asked = queries::ask(deps, &deps.view(), &press.stored, async || {
        let request = by_payer(Command::Query, Vec::new());
        let asked = deps.orders.query(id, request).await;
        asked.map_err(|error| refusal::unanswered(&error, &deps.view()))
    })
    .await;
    let asked = match asked {
        Ok(asked) => asked,
        Err(problem) => return End::Trouble(problem),
    };
    let at = asked.as_of.unwrap_or_else(|| deps.clock.now());
    let said = match asked.stored.order.settlement {
        Settlement::Paid { .. } => Said::Paid(at),
        _ if asked.answered => Said::Unpaid(at),
        _ => Said::Unreachable,
    };
    End::Page(asked.stored, Some(said))
}

/// `POST /pay/{token}/cancel`
pub async fn cancel(
    request: HttpRequest,
    payload: web::Payload,
    path: web::Path<String>,
    deps: web::Data<Deps>,
) -> Result<HttpResponse, Problem> {
    answer(
        request,
        payload,
        path.into_inner(),
        deps,
        async |press| match cancel_order(press).await {
            Ok(end) => end,
            Err(problem) => End::Trouble(problem),
        },
    )
    .await
}

async fn cancel_order(press: &Press) -> Result<End, Problem> {
    let deps = &press.deps;
    let (stored, refusal) = end_order(deps, press.stored.order.id).await?;
    let Some(refusal) = refusal else {
        return Ok(End::Page(stored, None));
    };
    let now = deps.clock.now();
    let problem = refusal::refused(&refusal, &stored, &deps.view(), now);
    let said = matches!(refusal, Refusal::AlreadyPaid).then_some(Said::Paid(now));
    Ok(End::Refused(stored, said, problem))
}

/// Asks for the order's end and waits a while for it: the provider has the last word.
pub async fn end_order(
    deps: &Deps,
    id: OrderId,
) -> Result<(Arc<StoredOrder>, Option<Refusal>), Problem> {
    let mut watch = deps.orders.watch(id);
    let deadline = Instant::now() + WAIT_FOR_END;
    let reply = tell(deps, id, Command::Cancel, Vec::new()).await?;
    if let Verdict::Refused(refusal) = reply.verdict {
        return Ok((reply.stored, Some(refusal)));
    }
    let mut stored = reply.stored;
    while stored.order.is_open() && Instant::now() < deadline {
        watch.borrow_and_update();
        let newer = deps
            .orders
            .read(id)
            .await
            .map_err(|error| refusal::unanswered(&error, &deps.view()))?
            .ok_or_else(Problem::not_found)?;
        if newer.order.version == stored.order.version {
            settled(&mut watch, deadline).await;
        }
        stored = newer;
    }
    Ok((stored, None))
}
