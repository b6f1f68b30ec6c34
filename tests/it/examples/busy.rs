//! A gateway that has no time at first: what an example sends again, and how.

use std::sync::{Arc, Mutex};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde_json::json;

use super::SUBJECT;
use super::school::{School, members, output};

/// Key, nonce and body of each request.
type Asked = Mutex<Vec<(String, String, web::Bytes)>>;

async fn busy(request: HttpRequest, body: web::Bytes, asked: web::Data<Asked>) -> HttpResponse {
    let header = |name: &str| {
        let value = request.headers().get(name).unwrap();
        value.to_str().unwrap().to_owned()
    };
    let authorization = header("authorization");
    let (_, rest) = authorization.split_once("nonce=\"").unwrap();
    let nonce = rest.split_once('"').unwrap().0.to_owned();
    let mut asked = asked.lock().unwrap();
    asked.push((header("idempotency-key"), nonce, body));
    let mut refusal = match asked.len() {
        1 => HttpResponse::ServiceUnavailable(),
        2 => HttpResponse::Conflict(),
        _ => {
            return HttpResponse::Created().json(json!({ "id": "ord_1", "subject": SUBJECT }));
        }
    };
    refusal.insert_header(("retry-after", "0"));
    refusal.json(json!({ "code": "request_in_progress", "detail": "Not now." }))
}

impl School {
    /// The same request under the same key, signed afresh each time.
    pub async fn repeats_safely(&self) {
        let asked = Arc::new(Asked::default());
        let data = web::Data::from(Arc::clone(&asked));
        let server = HttpServer::new(move || {
            App::new()
                .app_data(data.clone())
                .default_service(web::to(busy))
        })
        .workers(1)
        .disable_signals()
        .bind("127.0.0.1:0")
        .unwrap();
        let url = format!("http://{}", server.addrs()[0]);
        tokio::spawn(server.run());
        let mut command = self.command(&["create", "ZK-1"]);
        command.env("ENROLLPAY_URL", url);
        let output = tokio::task::spawn_blocking(move || output(&mut command));
        let output = output.await.unwrap();
        assert!(output.status.success(), "{output:?}");
        let order = members(std::str::from_utf8(&output.stdout).unwrap());
        assert_eq!(order["subject"], SUBJECT);

        let asked = asked.lock().unwrap();
        let [first, second, third] = &asked[..] else {
            panic!("{} requests", asked.len());
        };
        for again in [second, third] {
            assert_eq!(again.0, first.0, "the Idempotency-Key");
            assert_ne!(again.1, first.1, "the nonce");
            assert_eq!(again.2, first.2, "the body");
        }
        assert_ne!(second.1, third.1);
    }
}
