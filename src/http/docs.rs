//! `/docs`: what an integrator reads, rendered here from the OpenAPI description and the catalogue of
//! errors. Its worked examples are computed by the code that checks signatures; nothing on the pages
//! comes from elsewhere.

use std::sync::LazyLock;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::openapi::{DOCUMENT, example_bill, example_order, example_refund};
use super::problem::{CATALOGUE, Entry, Problem};
use super::{Deps, auth};

/// Styles are ours, scripts there are none.
const POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const STYLE: &str = include_str!("../../templates/docs/docs.css");
const GUIDE: &str = include_str!("../../docs/integrate.md");

/// A worked example: a request, the text that is signed, and what comes of it.
struct Signing {
    method: &'static str,
    path: &'static str,
    key_id: &'static str,
    secret: &'static str,
    timestamp: i64,
    nonce: &'static str,
    body: String,
    to_sign: String,
    signature: String,
    authorization: String,
}

fn signing() -> Signing {
    let (method, path) = ("POST", "/v1/orders");
    let key_id = "key_01KAH8Z6D0W2F4M6P8R0T2V4X6";
    let secret = "sk_example_do_not_use_4f6a0c1d2e3b";
    let (timestamp, nonce) = (1_795_168_800, "5K8264ILTKCH16CQ2502SI8ZNMTM67VS");
    let body = r#"{"merchant_order_no":"ZK202104-000123"}"#.to_owned();
    let to_sign =
        auth::string_to_sign(method, path, &timestamp.to_string(), nonce, body.as_bytes());
    let signature = auth::sign(method, path, timestamp, nonce, body.as_bytes(), secret);
    Signing {
        method,
        path,
        key_id,
        secret,
        timestamp,
        nonce,
        to_sign: String::from_utf8_lossy(&to_sign).into_owned(),
        authorization: auth::authorization(key_id, timestamp, nonce, &signature),
        signature,
        body,
    }
}

/// A webhook as a receiver verifies it (Standard Webhooks).
struct Delivery {
    secret: String,
    id: &'static str,
    timestamp: i64,
    body: &'static str,
    signature: String,
}

fn delivery() -> Delivery {
    let key = b"an example key, not for use!";
    let id = "evt_01KAH8Z6D0W2F4M6P8R0T2V4X6";
    let timestamp = 1_795_168_800;
    let body = r#"{"id":"evt_01KAH8Z6D0W2F4M6P8R0T2V4X6","type":"order.paid"}"#;
    let key_of_hmac = hmac::Key::new(hmac::HMAC_SHA256, key);
    let tag = hmac::sign(&key_of_hmac, format!("{id}.{timestamp}.{body}").as_bytes());
    Delivery {
        secret: format!("whsec_{}", STANDARD.encode(key)),
        id,
        timestamp,
        body,
        signature: format!("v1,{}", STANDARD.encode(tag)),
    }
}

/// One endpoint of the reference.
struct Operation {
    id: String,
    method: String,
    path: String,
    summary: String,
    description: String,
    parameters: Vec<Parameter>,
    body: Option<String>,
    responses: Vec<Response>,
}

struct Parameter {
    name: String,
    place: String,
    required: bool,
    description: String,
}

struct Response {
    status: String,
    description: String,
    schema: Option<String>,
}

/// One shape of the reference.
struct Shape {
    name: String,
    description: String,
    members: Vec<Member>,
}

struct Member {
    name: String,
    kind: String,
    required: bool,
    description: String,
}

#[derive(Template)]
#[template(path = "docs/index.html")]
struct Index {
    public_url: String,
    signing: Signing,
    delivery: Delivery,
    order: String,
    bill: String,
    refund: String,
    operations: Vec<Operation>,
    shapes: Vec<Shape>,
    catalogue: &'static [Entry],
}

#[derive(Template)]
#[template(path = "docs/error.html")]
struct ErrorPage {
    entry: &'static Entry,
}

#[derive(Template)]
#[template(path = "docs/errors.html")]
struct ErrorList {
    catalogue: &'static [Entry],
}

/// What does not change while the process lives.
static REFERENCE: LazyLock<(String, String)> = LazyLock::new(|| {
    let index = Index {
        public_url: PLACEHOLDER.to_owned(),
        signing: signing(),
        delivery: delivery(),
        order: serde_json::to_string_pretty(&example_order()).unwrap_or_default(),
        bill: serde_json::to_string_pretty(&example_bill()).unwrap_or_default(),
        refund: serde_json::to_string_pretty(&example_refund()).unwrap_or_default(),
        operations: operations(&DOCUMENT),
        shapes: shapes(&DOCUMENT),
        catalogue: CATALOGUE,
    };
    let list = ErrorList {
        catalogue: CATALOGUE,
    };
    let failed = "a template of plain texts renders";
    (index.render().expect(failed), list.render().expect(failed))
});
const PLACEHOLDER: &str = "https://PUBLIC-URL";

/// `GET /docs`.
pub async fn docs(deps: web::Data<Deps>) -> HttpResponse {
    page(REFERENCE.0.replace(PLACEHOLDER, &deps.settings.public_url))
}

/// `GET /docs/errors`.
pub async fn errors() -> HttpResponse {
    page(REFERENCE.1.clone())
}

/// `GET /docs/errors/{code}`: what `type` of a problem leads to.
pub async fn error(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let name = request.match_info().get("code").unwrap_or_default();
    let entry = CATALOGUE.iter().find(|entry| entry.name == name);
    let entry = entry.ok_or_else(Problem::not_found)?;
    let rendered = ErrorPage { entry }.render();
    Ok(page(rendered.map_err(|_| Problem::not_found())?))
}

/// `GET /docs/integrate`: the way from nothing to a verified webhook, as it stands in the repository.
pub async fn guide() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .body(GUIDE)
}

/// `GET /docs/docs.css`.
pub async fn style() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/css; charset=utf-8")
        .insert_header((header::CACHE_CONTROL, "public, max-age=3600"))
        .body(STYLE)
}

fn page(html: String) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .body(html)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn operations(document: &Value) -> Vec<Operation> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in item.as_object().into_iter().flatten() {
            operations.push(operation_of(path, method, operation));
        }
    }
    operations
}

fn operation_of(path: &str, method: &str, operation: &Value) -> Operation {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let responses = operation["responses"].as_object().into_iter().flatten();
    Operation {
        id: text(&operation["operationId"]),
        method: method.to_uppercase(),
        path: path.to_owned(),
        summary: text(&operation["summary"]),
        description: text(&operation["description"]),
        parameters: parameters
            .map(|parameter| Parameter {
                name: text(&parameter["name"]),
                place: text(&parameter["in"]),
                required: parameter["required"].as_bool().unwrap_or(false),
                description: text(&parameter["description"]),
            })
            .collect(),
        body: schema_name(&operation["requestBody"]),
        responses: responses
            .map(|(status, response)| Response {
                status: status.clone(),
                description: text(&response["description"]),
                schema: schema_name(response),
            })
            .collect(),
    }
}

/// The shape that a body or an answer names.
fn schema_name(holder: &Value) -> Option<String> {
    let content = holder["content"].as_object()?.values().next()?;
    reference(&content["schema"])
}

fn reference(schema: &Value) -> Option<String> {
    let reference = schema["$ref"].as_str()?;
    reference.rsplit('/').next().map(str::to_owned)
}

fn shapes(document: &Value) -> Vec<Shape> {
    let schemas = document["components"]["schemas"].as_object();
    schemas
        .into_iter()
        .flatten()
        .map(|(name, schema)| Shape {
            name: name.clone(),
            description: match &schema["oneOf"] {
                Value::Array(_) => format!("One of {}.", kind(schema)),
                _ => text(&schema["description"]),
            },
            members: members(schema),
        })
        .filter(|shape| !shape.members.is_empty() || shape.description.starts_with("One of "))
        .collect()
}

fn members(schema: &Value) -> Vec<Member> {
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let parts = schema["allOf"].as_array().into_iter().flatten();
    let own = schema["properties"].as_object().into_iter().flatten();
    own.map(|(name, member)| Member {
        name: name.clone(),
        kind: kind(member),
        required: required.contains(&name.as_str()),
        description: text(&member["description"]),
    })
    .chain(parts.flat_map(members))
    .collect()
}

/// A member's type in a few words.
fn kind(schema: &Value) -> String {
    if let Some(name) = reference(schema) {
        return name;
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let kinds: Vec<String> = choices.iter().map(kind).collect();
        return kinds.join(" | ");
    }
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
        return if words.len() > 8 {
            "string (see the catalogue)".to_owned()
        } else {
            words.join(" | ")
        };
    }
    match &schema["type"] {
        Value::Array(kinds) => {
            let kinds: Vec<&str> = kinds.iter().filter_map(Value::as_str).collect();
            kinds.join(" | ")
        }
        Value::String(name) if name == "array" => format!("[{}]", kind(&schema["items"])),
        Value::String(name) => name.clone(),
        _ => "any".to_owned(),
    }
}
