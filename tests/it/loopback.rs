//! A provider of a few lines on loopback: it does what a test tells it to and remembers what it saw.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what cannot be unwrapped fails the test"
)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};

/// A request, as it stood on the wire.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub query: String,
    /// By lower-case name.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Seen {
    pub fn target(&self) -> String {
        if self.query.is_empty() {
            self.path.clone()
        } else {
            format!("{}?{}", self.path, self.query)
        }
    }
}

/// What the server does about it.
pub enum Act {
    Answer {
        status: u16,
        headers: BTreeMap<String, String>,
        body: Vec<u8>,
    },
    /// Takes the request, and never answers.
    Hang,
}

impl Act {
    pub fn plain(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::Answer {
            status,
            headers: BTreeMap::new(),
            body: body.into(),
        }
    }
}

type Script = dyn Fn(&Seen) -> Act + Send + Sync;

#[derive(Clone)]
struct State {
    script: Arc<Script>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// Lives as long as the test's runtime.
pub struct Server {
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// How many requests came whose path ends like this.
    pub fn count(&self, path_end: &str) -> usize {
        let seen = self.seen();
        seen.iter()
            .filter(|one| one.path.ends_with(path_end))
            .count()
    }
}

pub fn serve(script: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> Server {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let state = State {
        script: Arc::new(script),
        seen: Arc::clone(&seen),
    };
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(state.clone()))
            .default_service(web::to(answer))
    })
    .workers(1)
    .disable_signals()
    .bind(("127.0.0.1", 0))
    .unwrap();
    let url = format!("http://{}", server.addrs()[0]);
    actix_web::rt::spawn(server.run());
    Server { url, seen }
}

async fn answer(request: HttpRequest, body: web::Bytes, state: web::Data<State>) -> HttpResponse {
    let headers = request
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    let seen = Seen {
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    };
    let act = (state.script)(&seen);
    state.seen.lock().unwrap().push(seen);
    match act {
        Act::Hang => std::future::pending().await,
        Act::Answer {
            status,
            headers,
            body,
        } => {
            let status = actix_web::http::StatusCode::from_u16(status).unwrap();
            let mut response = HttpResponse::build(status);
            for (name, value) in headers {
                response.insert_header((name, value));
            }
            response.body(body)
        }
    }
}

/// An address where nobody listens.
pub fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// An address that hangs up before it has answered.
pub fn hangs_up() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{");
        }
    });
    url
}
