//! The student's page: `/pay/{token}` and what hangs below it (contract §6).
//!
//! Read [`state::State`] first: the page is a function of the order and the instant. [`panel`] writes
//! it down for pages, JSON and event streams alike; `page` shows it, `actions` are its buttons,
//! `events` keeps it true, `picture` hands out the code.

pub mod code;
pub mod page;
pub mod panel;
#[cfg(test)]
mod samples;
pub mod state;
pub mod streams;
pub mod times;
pub mod visitor;

use actix_web::web;

use super::problem;

pub fn routes(config: &mut web::ServiceConfig) {
    config.service(
        web::resource("/pay/{token}")
            .route(web::get().to(page::get))
            .route(web::head().to(page::get))
            .default_service(problem::only("GET, HEAD")),
    );
}
