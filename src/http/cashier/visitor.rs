//! Who is looking: the language, the app, the cookie that the CSRF token is bound to. The app is a
//! layout hint that anyone can forge; nothing here decides about money.

use std::time::Duration;

use actix_web::cookie::{Cookie, SameSite};
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;

use crate::http::Deps;
use crate::http::body;
use crate::http::problem::{Code, Problem};
use crate::http::words::{Language, Words};

use super::times::Zone;

/// The cookie that CSRF tokens are bound to.
pub const VISIT_COOKIE: &str = "ep_visit";
/// A student's post must arrive within this (reliability §5).
const BODY_DEADLINE: Duration = Duration::from_secs(3);

/// Where the page is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum App {
    Wechat,
    Alipay,
    /// A browser on a phone, outside the wallets.
    Phone,
    Computer,
}

impl App {
    /// From the `User-Agent`. Mini-program views and WeCom cannot pay: they count as browsers.
    pub fn of(agent: &str) -> Self {
        let has = |needle: &str| agent.contains(needle);
        let cannot_pay = has("wxwork") || has("miniProgram") || has("MiniProgram");
        if has("MicroMessenger") && !cannot_pay {
            Self::Wechat
        } else if has("AlipayClient") && !cannot_pay {
            Self::Alipay
        } else if has("Mobile") || has("Android") || has("iPhone") || has("HarmonyOS") {
            Self::Phone
        } else {
            Self::Computer
        }
    }
}

/// One request's visitor.
#[derive(Clone, Debug)]
pub struct Visitor {
    pub language: Language,
    /// `?lang=zh-CN` or nothing: a language that was chosen stays chosen.
    pub query: &'static str,
    pub app: App,
    /// Wants JSON: the page's script, or a program.
    pub json: bool,
    visit: String,
    is_new: bool,
}

impl Visitor {
    pub fn of(request: &HttpRequest, deps: &Deps) -> Self {
        let text = |name| {
            request
                .headers()
                .get(name)
                .and_then(|value: &header::HeaderValue| value.to_str().ok())
                .unwrap_or_default()
        };
        let chosen = Language::chosen(request.query_string());
        let known = request
            .cookie(VISIT_COOKIE)
            .map(|cookie| cookie.value().to_owned())
            .filter(|value| value.len() == 22);
        Self {
            language: Language::of(request),
            query: match chosen {
                None => "",
                Some(Language::Chinese) => "?lang=zh-CN",
                Some(Language::English) => "?lang=en",
            },
            app: App::of(text(header::USER_AGENT)),
            json: text(header::ACCEPT).starts_with("application/json"),
            is_new: known.is_none(),
            visit: known.unwrap_or_else(|| URL_SAFE_NO_PAD.encode(deps.random.bytes::<16>())),
        }
    }

    #[cfg(test)]
    pub fn sample(language: Language, app: App) -> Self {
        Self {
            language,
            query: "",
            app,
            json: false,
            visit: "v".repeat(22),
            is_new: false,
        }
    }

    pub const fn words(&self) -> &'static Words {
        self.language.words()
    }

    /// The token that this visitor's forms for this address carry.
    pub fn csrf(&self, deps: &Deps, token: &str) -> String {
        let bound = format!("{token}\n{}", self.visit);
        URL_SAFE_NO_PAD.encode(deps.sealer.index("csrf", &bound).to_be_bytes())
    }

    /// Does a form come from a page of ours that this visitor was shown?
    pub fn check_csrf(&self, deps: &Deps, token: &str, given: Option<&str>) -> bool {
        let expected = self.csrf(deps, token);
        !self.is_new
            && given.is_some_and(|given| expected.as_bytes().ct_eq(given.as_bytes()).into())
    }

    /// No cookie came with the request: nothing can be bound to it.
    pub const fn is_new(&self) -> bool {
        self.is_new
    }

    /// Remembers the visit where it is new, and says what every page of the student's side says.
    pub fn dress(&self, deps: &Deps, response: &mut HttpResponseBuilder, policy: &'static str) {
        if self.is_new {
            response.cookie(cookie(deps, VISIT_COOKIE, &self.visit, "/"));
        }
        response
            .insert_header((header::CONTENT_SECURITY_POLICY, policy))
            .insert_header((header::VARY, "Accept, Accept-Language, Cookie, User-Agent"))
            .insert_header(("X-Robots-Tag", "noindex, nofollow"))
            .insert_header((header::CONTENT_LANGUAGE, self.language.tag()));
    }
}

/// A cookie for our server alone, for as long as the browser is open.
pub fn cookie(deps: &Deps, name: &'static str, value: &str, path: &str) -> Cookie<'static> {
    Cookie::build(name, value.to_owned())
        .path(path.to_owned())
        .http_only(true)
        .same_site(SameSite::Lax)
        .secure(deps.settings.public_url.starts_with("https:"))
        .finish()
}

/// The policy of the cashier's pages.
pub const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; \
     frame-ancestors 'none'; require-trusted-types-for 'script'";

/// The members of a posted form.
pub struct Form(Vec<(String, String)>);

impl std::fmt::Debug for Form {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Form(***)")
    }
}

impl Form {
    pub async fn read(
        request: &HttpRequest,
        payload: web::Payload,
        deps: &Deps,
    ) -> Result<Self, Problem> {
        Self::read_within(request, payload, deps.settings.limits.student_body_bytes).await
    }

    pub async fn read_within(
        request: &HttpRequest,
        payload: web::Payload,
        limit: usize,
    ) -> Result<Self, Problem> {
        let bytes = body::read(request, payload, limit, BODY_DEADLINE).await?;
        if bytes.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let is_json = body::require_media_type(request, "application/json").is_ok();
        if is_json {
            let value: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&bytes)
                .map_err(|_| Problem::new(Code::MalformedJson, "Expected one JSON object."))?;
            let members = value.into_iter().filter_map(|(name, value)| match value {
                serde_json::Value::String(text) => Some((name, text)),
                serde_json::Value::Bool(true) => Some((name, "1".to_owned())),
                _ => None,
            });
            return Ok(Self(members.collect()));
        }
        body::require_media_type(request, "application/x-www-form-urlencoded")?;
        Ok(Self(
            url::form_urlencoded::parse(&bytes)
                .map(|(name, value)| (name.into_owned(), value.into_owned()))
                .collect(),
        ))
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Every value of a member that a form may have more than once.
    pub fn all<'a, 'b>(&'a self, name: &'b str) -> impl Iterator<Item = &'a str> + use<'a, 'b> {
        self.0
            .iter()
            .filter(move |(candidate, _)| candidate == name)
            .map(|(_, value)| value.as_str())
    }
}

/// The zone that times are written in.
pub fn zone(deps: &Deps) -> Zone {
    Zone::new(deps.settings.zone_minutes)
}

/// An HTML answer.
pub fn html(
    visitor: &Visitor,
    deps: &Deps,
    status: actix_web::http::StatusCode,
    policy: &'static str,
    page: &impl askama::Template,
) -> Result<HttpResponse, Problem> {
    let text = page.render().map_err(|error| {
        tracing::error!(%error, "a page could not be written");
        Problem::new(Code::InternalError, "The page could not be written.")
    })?;
    let mut response = HttpResponse::build(status);
    visitor.dress(deps, &mut response, policy);
    Ok(response.content_type("text/html; charset=utf-8").body(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apps_that_cannot_pay_are_no_wallets() {
        for (agent, expected) in [
            (
                "Mozilla/5.0 (iPhone) Mobile MicroMessenger/8.0.50",
                App::Wechat,
            ),
            (
                "Mozilla/5.0 (Linux; Android 14) Mobile AlipayClient/10.5",
                App::Alipay,
            ),
            (
                "Mozilla/5.0 Mobile MicroMessenger/7.0 wxwork/4.1",
                App::Phone,
            ),
            (
                "Mozilla/5.0 Mobile MicroMessenger/8.0 miniProgram/wx1",
                App::Phone,
            ),
            ("Mozilla/5.0 (Linux; Android 14) Mobile Safari", App::Phone),
            ("Mozilla/5.0 (X11; Linux x86_64)", App::Computer),
            ("", App::Computer),
        ] {
            assert_eq!(App::of(agent), expected, "{agent}");
        }
    }
}
