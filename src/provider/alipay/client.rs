//! Calls to Alipay's gateway: signed, bounded, and believed only as far as they are proved (protocol §1.3,
//! §3.5). The gateway answers 200 whatever happened, so the signature comes before the code.

use std::sync::Arc;

use tokio::time::Instant;
use url::Url;

use super::settings::Checked;
use super::sign::{self, Envelope, Parameters};
use super::wire::{Code, Response};
use crate::clock::Clock;
use crate::provider::http::{self, Answer, Outcome};
use crate::provider::{ProviderError, beijing};

/// What a call proves.
#[derive(Debug)]
pub enum Reply {
    /// Signed, and code 10000 (or, as with OAuth, no code at all).
    Done(Box<Response>),
    /// Signed, and a definite no.
    Refused { code: Code },
    /// An error that nobody signed: it says something, and proves nothing.
    Unsigned { code: Code },
    /// Anything else: it may have taken effect.
    Unknown,
}

pub struct Client {
    pub settings: Checked,
    http: http::Client,
    pub clock: Arc<dyn Clock>,
}

impl Client {
    pub fn new(settings: Checked, clock: Arc<dyn Clock>) -> Result<Self, ProviderError> {
        let http = http::Client::new("alipay", settings.timeout).map_err(|what| {
            ProviderError::Misconfigured {
                account: settings.id.clone(),
                what,
            }
        })?;
        Ok(Self {
            settings,
            http,
            clock,
        })
    }

    /// The common parameters of a call of `method`, not yet signed.
    pub fn parameters(&self, method: &str) -> Parameters {
        let mut parameters = Parameters::from([
            ("app_id", self.settings.app_id.clone()),
            ("method", method.to_owned()),
            ("format", "JSON".to_owned()),
            ("charset", "utf-8".to_owned()),
            ("sign_type", "RSA2".to_owned()),
            ("timestamp", beijing::plain(self.clock.now())),
            ("version", "1.0".to_owned()),
        ]);
        if let Some(certificates) = &self.settings.certificates {
            parameters.insert("app_cert_sn", certificates.app.clone());
            parameters.insert("alipay_root_cert_sn", certificates.alipay_root.clone());
        }
        parameters
    }

    /// A link that the payer's browser opens: everything in the query, signed now.
    pub fn link(&self, mut parameters: Parameters) -> String {
        let sign = self
            .settings
            .private_key
            .sign(sign::request_message(&parameters).as_bytes());
        parameters.insert("sign", sign);
        let query = sign::encode(
            parameters
                .iter()
                .map(|(name, value)| (*name, value.as_str())),
        );
        let mut url = self.settings.base_url.clone();
        url.set_query(Some(&query));
        url.into()
    }

    /// Calls with `biz_content`, and a notify_url where the method sends notices.
    pub async fn call(
        &self,
        operation: &'static str,
        method: &'static str,
        biz_content: String,
        notify_url: Option<&str>,
    ) -> Reply {
        let mut common = self.parameters(method);
        if let Some(notify_url) = notify_url {
            common.insert("notify_url", notify_url.to_owned());
        }
        let business = Parameters::from([("biz_content", biz_content)]);
        self.send(operation, method, common, business).await
    }

    /// Signs common and business parameters; the common ones go into the query (charset must be known
    /// before the form is read), the business ones into the form.
    pub async fn send(
        &self,
        operation: &'static str,
        method: &str,
        mut common: Parameters,
        business: Parameters,
    ) -> Reply {
        let started = Instant::now();
        let message = sign::request_message(common.iter().chain(&business));
        let signed = self.settings.private_key.sign_aside(message.into_bytes());
        let Some(sign) = signed.await else {
            return Reply::Unknown;
        };
        common.insert("sign", sign);
        let text = |parameters: &Parameters| {
            sign::encode(
                parameters
                    .iter()
                    .map(|(name, value)| (*name, value.as_str())),
            )
        };
        let mut url = self.settings.base_url.clone();
        url.set_query(Some(&text(&common)));
        let request = self
            .http
            .post(url)
            .header(
                "Content-Type",
                "application/x-www-form-urlencoded;charset=utf-8",
            )
            .body(text(&business));
        let (reply, outcome) = match self.http.send(request, &*self.clock).await {
            Ok(answer) => self.judge(method, &answer),
            Err(failure) => (Reply::Unknown, failure.into()),
        };
        self.http.record(operation, outcome, started);
        let code = match &reply {
            Reply::Refused { code } | Reply::Unsigned { code } => code.as_str(),
            Reply::Done(_) | Reply::Unknown => "",
        };
        // Before its scan a trade does not exist, and a bill is made the next morning: no news.
        let no_news = matches!(
            &reply,
            Reply::Refused { code } if code.says_no_trade() || code.says_no_bill()
        );
        if outcome != Outcome::Ok && !no_news {
            tracing::warn!(
                account = %self.settings.id,
                operation,
                outcome = outcome.as_str(),
                code,
                "a call to Alipay did not succeed",
            );
        }
        reply
    }

    /// Fetches a file whose address a signed answer named. Nothing of ours goes along, and nothing that
    /// comes is signed. `None` where there is no answer.
    pub async fn download(&self, operation: &'static str, url: Url) -> Option<Answer> {
        let started = Instant::now();
        let request = self.http.get(url);
        let answer = self.http.send_for_file(request, &*self.clock).await;
        let outcome = match &answer {
            Ok(answer) => match answer.status {
                200 => Outcome::Ok,
                429 => Outcome::Limited,
                400..=499 => Outcome::Refused,
                500..=599 => Outcome::Unavailable,
                _ => Outcome::Unreadable,
            },
            Err(failure) => Outcome::from(*failure),
        };
        self.http.record(operation, outcome, started);
        answer.ok()
    }

    fn judge(&self, method: &str, answer: &Answer) -> (Reply, Outcome) {
        match answer.status {
            200 => {}
            429 => return (Reply::Unknown, Outcome::Limited),
            500..=599 => return (Reply::Unknown, Outcome::Unavailable),
            _ => return (Reply::Unknown, Outcome::Unreadable),
        }
        let response_key = format!("{}_response", method.replace('.', "_"));
        let parts = Envelope::cut(&answer.body, &response_key).and_then(|envelope| {
            let response: Response = serde_json::from_slice(envelope.response).ok()?;
            Some((envelope, response))
        });
        let Some((envelope, response)) = parts else {
            return (Reply::Unknown, Outcome::Unreadable);
        };
        let code = response.error();
        let is_error = !matches!(response.code.as_deref(), None | Some("" | "10000"));
        if !self.is_signed(&envelope) {
            return if is_error && envelope.sign.is_none() {
                (Reply::Unsigned { code }, Outcome::Unverified)
            } else {
                (Reply::Unknown, Outcome::Unverified)
            };
        }
        match response.code.as_deref() {
            None | Some("" | "10000") => (Reply::Done(Box::new(response)), Outcome::Ok),
            Some("20000" | "10003") => (Reply::Unknown, Outcome::Unavailable),
            Some("40005") => (Reply::Unknown, Outcome::Limited),
            Some(_) if code.says_unknown() => (Reply::Unknown, Outcome::Unavailable),
            Some(_) => (Reply::Refused { code }, Outcome::Refused),
        }
    }

    /// In certificate mode the answer names the certificate, and it must be the one that we have.
    fn is_signed(&self, envelope: &Envelope<'_>) -> bool {
        if let Some(certificates) = &self.settings.certificates
            && envelope.alipay_cert_sn.as_ref() != Some(&certificates.alipay)
        {
            return false;
        }
        envelope.is_signed_by(&self.settings.alipay_key)
    }
}
