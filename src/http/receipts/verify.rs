//! `GET /verify` and `GET /verify/{number}/{code}`: is a receipt real? Whoever holds one may ask; who
//! holds none learns nothing, for the code proves the number before anything is looked up.

use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use subtle::ConstantTimeEq as _;

use super::told::{Told, masks, merchant};
use crate::http::cashier::page::{Frame, payer_label, trouble};
use crate::http::cashier::visitor::{PAGE_POLICY, Visitor, html, zone};
use crate::http::merchant as orders;
use crate::http::problem::{Code, Problem};
use crate::http::words::Words;
use crate::http::{Deps, assets};
use crate::order::OrderId;
use crate::sealing::CHECK_CODE_LENGTH;

/// What a form's member may be at most: a number or a code, and blanks that came with it.
const LONGEST: usize = 64;

#[derive(Template)]
#[template(path = "receipts/verify.html")]
struct Page {
    frame: Frame,
    w: &'static Words,
    css: String,
    /// For the form's hidden member: a language that was chosen stays chosen.
    lang: Option<&'static str>,
    number: String,
    code: String,
    outcome: Outcome,
}

#[derive(Debug)]
enum Outcome {
    /// Nothing was asked yet.
    Asking,
    Unknown,
    Known(Box<Known>),
}

#[derive(Debug)]
struct Known {
    told: Told,
    /// What the payer is called here, and the name as it is shown.
    name: Option<(&'static str, String)>,
    checked_at: String,
}

impl Page {
    fn of(visitor: &Visitor, number: &str, code: &str, outcome: Outcome) -> Self {
        let w = visitor.words();
        let (heading, payee) = match &outcome {
            Outcome::Asking => (w.verify_heading, w.service),
            Outcome::Unknown => (w.no_receipt_heading, w.service),
            Outcome::Known(known) => (w.verified_heading, known.told.payee.as_str()),
        };
        Self {
            frame: Frame::of(visitor, heading, payee, "receipt.js"),
            w,
            css: assets::href("receipt.css"),
            lang: (!visitor.query.is_empty()).then(|| visitor.language.tag()),
            number: number.chars().take(LONGEST).collect(),
            code: code.chars().take(LONGEST).collect(),
            outcome,
        }
    }

    const fn known(&self) -> Option<&Known> {
        match &self.outcome {
            Outcome::Known(known) => Some(known),
            _ => None,
        }
    }

    const fn is_unknown(&self) -> bool {
        matches!(self.outcome, Outcome::Unknown)
    }
}

/// A number and a code as they were meant: capitals, no blanks or dashes, figures for the letters that
/// look like them. `None` where there is no such number or code.
fn meant(number: &str, code: &str) -> Option<(OrderId, String)> {
    let signs = |text: &str| -> String {
        text.chars()
            .filter(|sign| !sign.is_whitespace() && *sign != '-')
            .map(|sign| match sign.to_ascii_uppercase() {
                'I' | 'L' => '1',
                'O' => '0',
                sign => sign,
            })
            .collect()
    };
    let code = signs(code);
    let is_code =
        code.len() == CHECK_CODE_LENGTH && code.bytes().all(|sign| sign.is_ascii_alphanumeric());
    let order = format!("{}{}", OrderId::PREFIX, signs(number))
        .parse()
        .ok()?;
    is_code.then_some((order, code))
}

/// `GET /verify`: the form, and where it leads.
pub async fn form(request: HttpRequest, deps: web::Data<Deps>) -> Result<HttpResponse, Problem> {
    let visitor = Visitor::of(&request, &deps);
    let member = |name: &str| {
        url::form_urlencoded::parse(request.query_string().as_bytes())
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.into_owned())
            .unwrap_or_default()
    };
    let (number, code) = (member("number"), member("code"));
    if number.trim().is_empty() && code.trim().is_empty() {
        let page = Page::of(&visitor, "", "", Outcome::Asking);
        return html(&visitor, &deps, StatusCode::OK, PAGE_POLICY, &page);
    }
    match meant(&number, &code) {
        Some((order, code)) => {
            let address = format!("/verify/{}/{code}{}", order.ulid(), visitor.query);
            Ok(HttpResponse::SeeOther()
                .insert_header((header::LOCATION, address))
                .finish())
        }
        None => unknown(&deps, &visitor, &number, &code),
    }
}

/// `GET /verify/{number}/{code}`: what a receipt's QR code holds.
pub async fn get(
    request: HttpRequest,
    path: web::Path<(String, String)>,
    deps: web::Data<Deps>,
) -> Result<HttpResponse, Problem> {
    let visitor = Visitor::of(&request, &deps);
    let (number, code) = path.into_inner();
    match known(&deps, &visitor, &number, &code).await {
        Ok(known) => {
            let page = Page::of(&visitor, &number, &code, Outcome::Known(Box::new(known)));
            html(&visitor, &deps, StatusCode::OK, PAGE_POLICY, &page)
        }
        Err(problem) if problem.code() == Code::NotFound => {
            unknown(&deps, &visitor, &number, &code)
        }
        Err(problem) => trouble(&deps, &visitor, problem),
    }
}

fn unknown(
    deps: &Deps,
    visitor: &Visitor,
    number: &str,
    code: &str,
) -> Result<HttpResponse, Problem> {
    let page = Page::of(visitor, number, code, Outcome::Unknown);
    html(visitor, deps, StatusCode::NOT_FOUND, PAGE_POLICY, &page)
}

async fn known(deps: &Deps, visitor: &Visitor, number: &str, code: &str) -> Result<Known, Problem> {
    let (order, code) = meant(number, code).ok_or_else(Problem::not_found)?;
    let ours = deps.view().check_code(order);
    if !bool::from(ours.as_bytes().ct_eq(code.as_bytes())) {
        return Err(Problem::not_found());
    }
    let stored = orders::read(deps, order).await?;
    let payment = stored.order.payment().ok_or_else(Problem::not_found)?;
    let merchant = merchant(deps, &stored).await?;
    let zone = zone(deps);
    Ok(Known {
        told: Told::of(&stored, payment, merchant.as_ref(), visitor.words(), zone),
        name: masks(deps, &stored)
            .await?
            .name
            .map(|name| (payer_label(visitor.words(), &stored.snapshot), name)),
        checked_at: zone.date_and_clock(deps.clock.now()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_person_types_is_read_as_meant() {
        let number = "01KAH8Z6D0W2F4M6P8R0T2V4X6";
        let (order, code) = meant(number, "7K3M9Q2F0A1T").unwrap();
        for (number, code_typed) in [
            (" 01kah8z6d0w2f4m6p8r0t2v4x6 ", "7k3m-9q2f-0a1t"),
            ("O1KAH8Z6DO W2F4 M6P8 R0T2 V4X6", "7K3M 9Q2F OAIT"),
            ("01KAH8Z6D0-W2F4M6P8R0T2V4X6", "7K3M9Q2F0ALT"),
        ] {
            assert_eq!(
                meant(number, code_typed),
                Some((order, code.clone())),
                "{number}"
            );
        }
        for (number, code) in [
            ("", ""),
            (number, ""),
            (number, "7K3M9Q2F0A1"),
            (number, "7K3M9Q2F0A1TT"),
            (number, "../../../pay"),
            (number, "七K3M9Q2F0A1"),
            ("ord_01KAH8Z6D0W2F4M6P8R0T2V4X6", "7K3M9Q2F0A1T"),
            ("81KAH8Z6D0W2F4M6P8R0T2V4X6", "7K3M9Q2F0A1T"),
        ] {
            assert_eq!(meant(number, code), None, "{number} {code}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_number_and_a_code_or_neither(number: String, code: String) {
            let _ = meant(&number, &code);
        }
    }
}
