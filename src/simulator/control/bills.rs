//! The levers of what comes after the payments: bookings at a stroke, refunds by hand, wrong bills.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};

use super::{Shared, failed, handle, one_or_many, read, refused, unreadable};
use crate::simulator::bills::{Plant, PlantError};
use crate::simulator::booking::{Booking, ConsoleRefund};

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/control/bookings", web::post().to(book))
        .route("/control/console_refund", web::post().to(console_refund))
        .route("/control/bills/plant", web::post().to(plant))
        .route("/control/bills/planted", web::get().to(planted))
        .route("/control/bills/planted", web::delete().to(clear_plants));
}

async fn book(world: Shared, body: web::Bytes) -> HttpResponse {
    let bookings: Vec<Booking> = match one_or_many(read!(body)) {
        Ok(bookings) => bookings,
        Err(error) => return unreadable(&error),
    };
    match handle(&world).book(bookings).await {
        Ok(captures) => HttpResponse::Ok().json(captures),
        Err(refusal) => refused(refusal),
    }
}

async fn console_refund(world: Shared, body: web::Bytes) -> HttpResponse {
    let asked: ConsoleRefund = read!(body);
    match handle(&world).refund_by_hand(&asked).await {
        Ok(refund) => HttpResponse::Ok().json(refund),
        Err(refusal) => refused(refusal),
    }
}

async fn plant(world: Shared, body: web::Bytes) -> HttpResponse {
    let plants: Vec<Plant> = match one_or_many(read!(body)) {
        Ok(plants) => plants,
        Err(error) => return unreadable(&error),
    };
    let handle = handle(&world);
    let mut planted = Vec::new();
    for plant in plants {
        match handle.plant(plant).await {
            Ok(done) => planted.push(done),
            Err(error) => {
                let status = match error {
                    PlantError::NoSuchLine => StatusCode::NOT_FOUND,
                    PlantError::Again => StatusCode::CONFLICT,
                    _ => StatusCode::BAD_REQUEST,
                };
                return failed(status, "not_planted", &error.to_string());
            }
        }
    }
    HttpResponse::Ok().json(planted)
}

async fn planted(world: Shared) -> HttpResponse {
    HttpResponse::Ok().json(handle(&world).planted())
}

async fn clear_plants(world: Shared) -> HttpResponse {
    handle(&world).clear_plants().await;
    HttpResponse::NoContent().finish()
}
