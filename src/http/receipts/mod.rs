//! Receipts: what a payment is proved by, from the moment it is made, and the pages where anybody can
//! check one (contract §6). `voucher` is the receipt itself, `verify` the check; both show what `told`
//! takes from the order. A fiscal e-receipt is the school's own affair: it is linked to once there is one.

pub mod capitals;
pub mod told;
pub mod verify;
pub mod voucher;

use actix_web::web;

use super::problem;

pub fn routes(config: &mut web::ServiceConfig) {
    let read =
        |path: &str| web::resource(path.to_owned()).default_service(problem::only("GET, HEAD"));
    config
        .service(
            read("/receipts/{token}")
                .route(web::get().to(voucher::get))
                .route(web::head().to(voucher::get)),
        )
        .service(
            read("/verify")
                .route(web::get().to(verify::form))
                .route(web::head().to(verify::form)),
        )
        .service(
            read("/verify/{number}/{code}")
                .route(web::get().to(verify::get))
                .route(web::head().to(verify::get)),
        );
}
