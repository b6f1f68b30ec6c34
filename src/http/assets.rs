//! The static files, compiled in and served under names that carry their content's hash: a browser
//! may keep them for ever.

use std::sync::OnceLock;

use actix_web::http::header;
use actix_web::{HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::problem::{self, Problem};

struct Asset {
    name: &'static str,
    media_type: &'static str,
    bytes: &'static [u8],
}

const ASSETS: [Asset; 7] = [
    Asset {
        name: "student.css",
        media_type: "text/css; charset=utf-8",
        bytes: include_bytes!("../../static/student.css"),
    },
    Asset {
        name: "cashier.js",
        media_type: "text/javascript; charset=utf-8",
        bytes: include_bytes!("../../static/cashier.js"),
    },
    Asset {
        name: "bills.js",
        media_type: "text/javascript; charset=utf-8",
        bytes: include_bytes!("../../static/bills.js"),
    },
    Asset {
        name: "scan.js",
        media_type: "text/javascript; charset=utf-8",
        bytes: include_bytes!("../../static/scan.js"),
    },
    Asset {
        name: "receipt.css",
        media_type: "text/css; charset=utf-8",
        bytes: include_bytes!("../../static/receipt.css"),
    },
    Asset {
        name: "receipt.js",
        media_type: "text/javascript; charset=utf-8",
        bytes: include_bytes!("../../static/receipt.js"),
    },
    Asset {
        name: "icon.svg",
        media_type: "image/svg+xml",
        bytes: include_bytes!("../../static/icon.svg"),
    },
];

/// The hashed names, in the order of `ASSETS`.
fn hashed() -> &'static [String; 7] {
    static NAMES: OnceLock<[String; 7]> = OnceLock::new();
    NAMES.get_or_init(|| {
        ASSETS.each_ref().map(|asset| {
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, asset.bytes);
            let hash = URL_SAFE_NO_PAD.encode(&digest.as_ref()[..9]);
            let (stem, kind) = asset.name.split_once('.').unwrap_or((asset.name, ""));
            format!("{stem}.{hash}.{kind}")
        })
    })
}

/// The address of a static file. An unknown name gives an address that answers 404; a test looks
/// every name up.
pub fn href(name: &str) -> String {
    let index = ASSETS.iter().position(|asset| asset.name == name);
    let hashed = index.and_then(|index| hashed().get(index));
    format!("/static/{}", hashed.map_or(name, String::as_str))
}

/// `GET /static/{name}`
async fn get(path: web::Path<String>) -> Result<HttpResponse, Problem> {
    let index = hashed().iter().position(|name| *name == *path);
    let Some(asset) = index.and_then(|index| ASSETS.get(index)) else {
        return Err(Problem::not_found());
    };
    Ok(HttpResponse::Ok()
        .content_type(asset.media_type)
        .insert_header((header::CACHE_CONTROL, "public, max-age=31536000, immutable"))
        .insert_header(("Cross-Origin-Resource-Policy", "same-origin"))
        .body(asset.bytes))
}

pub fn routes(config: &mut web::ServiceConfig) {
    config.service(
        web::resource("/static/{name}")
            .route(web::get().to(get))
            .route(web::head().to(get))
            .default_service(problem::only("GET, HEAD")),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_used_exists() {
        for name in [
            "student.css",
            "cashier.js",
            "bills.js",
            "scan.js",
            "receipt.css",
            "receipt.js",
            "icon.svg",
        ] {
            assert_ne!(href(name), format!("/static/{name}"));
        }
    }
}
