//! `/bills/{token}`: one payer's bills in three lists, by a link that their school's system asked for.
//! Every list is a page of its own and every button a form: nothing here needs a script.

mod actions;
mod page;

use actix_web::web;

use crate::http::problem::{self, Code, Problem};
use crate::http::{Deps, refusal};
use crate::sealing::{TokenKind, token_hash};
use crate::store::bills::BillStatus;
use crate::store::{Merchant, PayerLink};

pub fn routes(config: &mut web::ServiceConfig) {
    config
        .service(
            web::resource("/bills/{token}")
                .route(web::get().to(page::get))
                .route(web::head().to(page::get))
                .default_service(problem::only("GET, HEAD")),
        )
        .service(
            web::resource("/bills/{token}/orders")
                .route(web::post().to(actions::make))
                .default_service(problem::only("POST")),
        )
        .service(
            web::resource("/bills/{token}/cancel")
                .route(web::post().to(actions::cancel))
                .default_service(problem::only("POST")),
        );
}

/// 待缴费, 缴费中, 已完成.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum List {
    #[default]
    Unpaid,
    Paying,
    Paid,
}

impl List {
    const ALL: [Self; 3] = [Self::Unpaid, Self::Paying, Self::Paid];

    const fn status(self) -> BillStatus {
        match self {
            Self::Unpaid => BillStatus::Unpaid,
            Self::Paying => BillStatus::Paying,
            Self::Paid => BillStatus::Paid,
        }
    }

    fn of(query: &str) -> Self {
        let named = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "list");
        named
            .and_then(|(_, list)| {
                Self::ALL
                    .into_iter()
                    .find(|known| known.status().as_str() == list)
            })
            .unwrap_or_default()
    }

    /// The list's address; `chosen` is the language's part of the query, or nothing.
    fn href(self, token: &str, chosen: &str) -> String {
        let list = self.status().as_str();
        format!("/bills/{token}?list={list}{}", chosen.replace('?', "&"))
    }
}

/// Whose bills a token leads to, and whose fee it is.
struct Entered {
    link: PayerLink,
    merchant: Merchant,
}

async fn enter(deps: &Deps, token: &str) -> Result<Entered, Problem> {
    let link = deps
        .store
        .payer_link(token_hash(TokenKind::Bills, token))
        .await
        .map_err(|error| refusal::store_failed(&error))?
        .ok_or_else(Problem::not_found)?;
    if link.expires_at <= deps.clock.now() {
        return Err(Problem::new(
            Code::LinkExpired,
            "The link is past its time: enter again from the school's system.",
        )
        .with("expired_at", deps.view().time(link.expires_at)));
    }
    let merchant = deps
        .store
        .merchant(link.merchant)
        .await
        .map_err(|error| refusal::store_failed(&error))?
        .ok_or_else(Problem::not_found)?;
    Ok(Entered { link, merchant })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_named_by_the_query() {
        assert_eq!(List::of(""), List::Unpaid);
        assert_eq!(List::of("list=nonsense"), List::Unpaid);
        for list in List::ALL {
            for chosen in ["", "?lang=en"] {
                let href = list.href("t", chosen);
                let (path, query) = href.split_once('?').unwrap();
                assert_eq!(path, "/bills/t");
                assert_eq!(List::of(query), list);
                assert_eq!(query.contains("lang=en"), !chosen.is_empty());
            }
        }
    }
}
