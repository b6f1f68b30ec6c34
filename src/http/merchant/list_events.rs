//! `GET /v1/events`: what webhooks carry, for those who poll.

use actix_web::http::header::ContentType;
use actix_web::{HttpResponse, web};
use serde_json::json;

use super::event_cursor;
use super::paging::{DEFAULT_LIMIT, cut, read_limit};
use crate::http::auth::Signed;
use crate::http::problem::{Code, Problem};
use crate::http::{Deps, openapi, refusal};
use crate::order::WebhookType;
use crate::sealing::Place;
use crate::store::OutboxEntry;

#[utoipa::path(
    get,
    path = "/v1/events",
    operation_id = "listEvents",
    tag = "Events",
    summary = "List events",
    description = "The same events that webhooks carry, byte for byte, in the order in which they were \
        committed, oldest first. Keep next and pass it as after to read on, also where data is empty: \
        no event ever appears before a cursor that was handed out. Handle each id once, and keep the \
        highest version of each order. Events that were erased together with a payer's data are left out.",
    params(openapi::EventsQuery),
    responses(
        (status = 200, description = "A page of events", body = openapi::EventListBody),
    ),
)]
pub async fn list_events(deps: web::Data<Deps>, signed: Signed) -> Result<HttpResponse, Problem> {
    let merchant = signed.caller.merchant.id;
    let asked = Asked::read(&deps, &signed)?;
    let mut events = deps
        .store
        .events_after(merchant, asked.after, &asked.kinds, asked.limit + 1)
        .await
        .map_err(|error| refusal::store_failed(&error))?;
    let has_more = cut(&mut events, asked.limit);
    let position = events.last().map_or(asked.after, |(position, _)| *position);
    let left = events.iter().filter(|(_, event)| !event.body.is_erased());
    let bodies: Vec<String> = left
        .map(|(_, event)| stored_body(&deps, event))
        .collect::<Result<_, _>>()?;
    let next = event_cursor::write(&deps.sealer, merchant, position);
    // The bodies go out as they are stored: read and written again they might change.
    let body = format!(
        r#"{{"object":"list","data":[{}],"has_more":{has_more},"next":{}}}"#,
        bodies.join(","),
        json!(next)
    );
    Ok(HttpResponse::Ok()
        .content_type(ContentType::json())
        .body(body))
}

fn unreadable() -> Problem {
    Problem::new(Code::InternalError, "An event's body cannot be read.")
}

fn stored_body(deps: &Deps, event: &OutboxEntry) -> Result<String, Problem> {
    let row = event.id.to_string();
    let place = Place {
        table: "outbox",
        column: "body",
        row: &row,
    };
    let opened = deps.sealer.open(place, &event.body).map_err(|error| {
        tracing::error!(event = %event.id, %error, "an event's body cannot be opened");
    });
    opened
        .and_then(|plain| String::from_utf8(plain).map_err(drop))
        .map_err(|()| unreadable())
}

/// What may stand in the query.
struct Asked {
    after: u64,
    kinds: Vec<WebhookType>,
    limit: usize,
}

impl Asked {
    fn read(deps: &Deps, signed: &Signed) -> Result<Self, Problem> {
        let merchant = signed.caller.merchant.id;
        let mut asked = Self {
            after: 0,
            kinds: Vec::new(),
            limit: DEFAULT_LIMIT,
        };
        super::read_query(&signed.query, |name, value| match name {
            "after" => match event_cursor::read(&deps.sealer, merchant, value) {
                Some(position) => {
                    asked.after = position;
                    None
                }
                None => Some("expected the next of an earlier answer"),
            },
            "types" => match read_kinds(value) {
                Some(kinds) => {
                    asked.kinds = kinds;
                    None
                }
                None => Some(
                    "expected types of events, commas between them, such as order.paid,refund.succeeded",
                ),
            },
            "limit" => read_limit(value, &mut asked.limit),
            _ => Some("unknown parameter; expected after, types or limit"),
        })?;
        Ok(asked)
    }
}

fn read_kinds(text: &str) -> Option<Vec<WebhookType>> {
    text.split(',')
        .map(|word| serde_json::from_value(json!(word)).ok())
        .collect()
}
