//! The phone's side: `/s/{scan_token}`, what a unified code holds (contract §6).
//!
//! `page` is the address itself: safe, repeatable, nothing personal. It sends a wallet to its OAuth
//! page and back; `claim` is the scan, and its answer the first page that shows a person; `pay` hands
//! out pay parameters from a committed state; `release` gives the code up. [`proof`] is how a claimant
//! is known again, [`standing`] what a phone is told of an attempt. `go` are the buttons of `/pay/`.

pub mod claim;
pub mod go;
pub mod page;
pub mod pay;
pub mod proof;
pub mod release;
pub mod standing;

use actix_web::web;

use super::problem;

pub fn routes(config: &mut web::ServiceConfig) {
    let press = |path: &str| web::resource(path.to_owned()).default_service(problem::only("POST"));
    config
        .service(
            web::resource("/s/{token}")
                .route(web::get().to(page::get))
                .route(web::head().to(page::get))
                .default_service(problem::only("GET, HEAD")),
        )
        .service(press("/s/{token}/claim").route(web::post().to(claim::post)))
        .service(press("/s/{token}/pay").route(web::post().to(pay::post)))
        .service(press("/s/{token}/release").route(web::post().to(release::post)))
        .service(press("/pay/{token}/go").route(web::post().to(go::post)));
}
