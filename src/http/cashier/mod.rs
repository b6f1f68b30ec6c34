//! The student's page: `/pay/{token}` and what hangs below it (contract §6).
//!
//! Read [`state::State`] first: the page is a function of the order and the instant. [`panel`] writes
//! it down for pages, JSON and event streams alike; `page` shows it, `actions` are its buttons,
//! `events` keeps it true, `picture` hands out the code.

pub mod actions;
pub mod bills;
pub mod card;
pub mod events;
pub mod page;
pub mod panel;
pub mod picture;
pub mod said;
#[cfg(test)]
mod samples;
pub mod state;
pub mod streams;
pub mod times;
pub mod visitor;

use actix_web::web;

use super::problem;

pub fn routes(config: &mut web::ServiceConfig) {
    let read =
        |path: &str| web::resource(path.to_owned()).default_service(problem::only("GET, HEAD"));
    let press = |path: &str| web::resource(path.to_owned()).default_service(problem::only("POST"));
    config
        .service(
            read("/pay/{token}")
                .route(web::get().to(page::get))
                .route(web::head().to(page::get)),
        )
        .service(read("/pay/{token}/qr.svg").route(web::get().to(picture::svg)))
        .service(read("/pay/{token}/qr.png").route(web::get().to(picture::png)))
        .service(read("/pay/{token}/events").route(web::get().to(events::get)))
        .service(press("/pay/{token}/attempts").route(web::post().to(actions::start)))
        .service(press("/pay/{token}/query").route(web::post().to(actions::query)))
        .service(press("/pay/{token}/cancel").route(web::post().to(actions::cancel)))
        .configure(bills::routes);
}
