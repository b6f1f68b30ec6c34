//! `server.well_known_files`: a folder served at the root, for the files by which `WeChat` proves that
//! a domain is ours (`MP_verify_….txt`). Plain names only, small text files only.

use std::path::Path;

use actix_web::http::header;
use actix_web::{HttpResponse, web};
use tokio::io::AsyncReadExt as _;

use super::Deps;
use super::problem::{self, Problem};

/// Such a file has a few dozen bytes.
const LARGEST_FILE: u64 = 64 * 1024;

/// Adds the route where a folder is configured. Register it last: every other address goes before.
pub fn routes(folder: Option<&Path>, config: &mut web::ServiceConfig) {
    if folder.is_some() {
        config.service(
            web::resource("/{file}")
                .route(web::get().to(get))
                .default_service(web::route().to(problem::nowhere)),
        );
    }
}

async fn get(path: web::Path<String>, deps: web::Data<Deps>) -> Result<HttpResponse, Problem> {
    let text = match &deps.settings.well_known_files {
        Some(folder) if is_plain(&path) => read(&folder.join(path.as_str())).await,
        _ => None,
    };
    let text = text.ok_or_else(Problem::not_found)?;
    Ok(HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .content_type("text/plain; charset=utf-8")
        .body(text))
}

/// One name without a way out of the folder, and no hidden file.
fn is_plain(name: &str) -> bool {
    !name.starts_with('.')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

async fn read(path: &Path) -> Option<Vec<u8>> {
    let file = tokio::fs::File::open(path).await.ok()?;
    let metadata = file.metadata().await.ok()?;
    if !metadata.is_file() || metadata.len() > LARGEST_FILE {
        return None;
    }
    let mut text = Vec::new();
    file.take(LARGEST_FILE).read_to_end(&mut text).await.ok()?;
    Some(text)
}
