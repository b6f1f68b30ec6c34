//! A reverse proxy before the gateway, as a school would have one. It keeps the notices that pass, and
//! can hold them back, so that a test may deliver them itself, as often as it likes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};

use super::eventually;
use super::merchant::Answer;

/// One notice as its provider signed it.
#[derive(Clone, Debug)]
pub struct Notice {
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

#[derive(Default)]
struct Kept {
    gateway: Option<String>,
    hold: bool,
    notices: Vec<Notice>,
}

pub struct Front {
    address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
    client: reqwest::Client,
}

impl Front {
    /// Listens; the gateway behind it is named later.
    pub fn start() -> Self {
        let kept = Arc::new(Mutex::new(Kept::default()));
        let data = web::Data::from(Arc::clone(&kept));
        let client = super::client();
        let onward = web::Data::new(client.clone());
        let server = HttpServer::new(move || {
            App::new()
                .app_data(data.clone())
                .app_data(onward.clone())
                .default_service(web::to(pass))
        })
        .workers(1)
        .disable_signals()
        .bind("127.0.0.1:0")
        .unwrap();
        let address = server.addrs()[0];
        tokio::spawn(server.run());
        Self {
            address,
            kept,
            client,
        }
    }

    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn lead_to(&self, gateway: &str) {
        self.kept.lock().unwrap().gateway = Some(gateway.to_owned());
    }

    /// Held notices are kept and answered 503: their provider comes again.
    pub fn hold(&self, hold: bool) {
        self.kept.lock().unwrap().hold = hold;
    }

    /// The first notice that came.
    pub async fn notice(&self) -> Notice {
        eventually("a notice", Duration::from_secs(20), async || {
            self.kept.lock().unwrap().notices.first().cloned()
        })
        .await
    }

    /// Delivers a notice to the gateway, once.
    pub async fn deliver(&self, notice: &Notice) -> Result<Answer, reqwest::Error> {
        let gateway = self.kept.lock().unwrap().gateway.clone().unwrap();
        let mut request = self
            .client
            .post(format!("{gateway}{}", notice.path))
            .body(notice.body.clone());
        for (name, value) in &notice.headers {
            request = request.header(name, value);
        }
        Answer::of(request.send().await?).await
    }
}

async fn pass(
    request: HttpRequest,
    body: web::Bytes,
    kept: web::Data<Mutex<Kept>>,
    client: web::Data<reqwest::Client>,
) -> HttpResponse {
    let target = request.uri().path_and_query().unwrap().to_string();
    let headers: Vec<(String, String)> = request
        .headers()
        .iter()
        .filter(|(name, _)| !["host", "connection", "content-length"].contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    let gateway = {
        let mut kept = kept.lock().unwrap();
        if target.starts_with("/callbacks/") {
            kept.notices.push(Notice {
                path: target.clone(),
                headers: headers.clone(),
                body: body.to_vec(),
            });
            if kept.hold {
                return HttpResponse::ServiceUnavailable().finish();
            }
        }
        kept.gateway.clone().unwrap()
    };
    let method = reqwest::Method::from_bytes(request.method().as_str().as_bytes()).unwrap();
    let mut onward = client
        .request(method, format!("{gateway}{target}"))
        .body(body.to_vec());
    for (name, value) in headers {
        onward = onward.header(name, value);
    }
    let Ok(answer) = onward.send().await else {
        return HttpResponse::BadGateway().finish();
    };
    let status = actix_web::http::StatusCode::from_u16(answer.status().as_u16()).unwrap();
    let mut response = HttpResponse::build(status);
    for (name, value) in answer.headers() {
        if !["connection", "content-length", "transfer-encoding"].contains(&name.as_str()) {
            response.append_header((name.as_str(), value.to_str().unwrap()));
        }
    }
    response.body(answer.bytes().await.unwrap_or_default())
}
