//! The wallets' built-in browsers. A person's desktop browser can neither change its `User-Agent` nor
//! bring a JS bridge, so each of the four people has a listener that fetches pages of this machine as
//! their wallet would: with its `User-Agent`, a cookie jar of its own, and the bridge in every page.
//! Paths stay as they are, so the gateway's scripts and policy work unchanged.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use actix_web::cookie::Cookie;
use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::TryStreamExt as _;
use url::Url;

use super::people::Person;
use super::wallet::{USER_HEADER, bridge};
use super::world::{World, is_loopback};

const BRIDGE: &str = include_str!("../../templates/simulator/bridge.js");
const SHEET_STYLE: &str = include_str!("../../templates/simulator/bridge.css");
/// Pages of the simulator itself, seen from inside a wallet.
const INSIDE: &str = "/__wallet/sim";
/// Bodies that are rewritten are read whole; pages are far smaller.
const PAGE_LIMIT: usize = 4 << 20;

/// What all the browsers remember.
#[derive(Debug)]
pub(super) struct Browsing {
    client: reqwest::Client,
    tabs: Mutex<HashMap<String, Tab>>,
}

/// One person's browser.
#[derive(Debug, Default)]
struct Tab {
    /// The site that stands behind this person's port.
    site: Option<Url>,
    jar: Vec<Kept>,
}

/// A cookie, kept here because the real browser's jar does not tell ports apart.
#[derive(Debug)]
struct Kept {
    site: url::Origin,
    name: String,
    value: String,
    path: String,
}

impl Browsing {
    pub(super) fn new() -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(Duration::from_secs(3))
            .build()?;
        Ok(Self {
            client,
            tabs: Mutex::new(HashMap::new()),
        })
    }

    fn with<T>(&self, person: &str, work: impl FnOnce(&mut Tab) -> T) -> T {
        let mut tabs = self.tabs.lock().unwrap_or_else(PoisonError::into_inner);
        work(tabs.entry(person.to_owned()).or_default())
    }
}

/// `http://host:port` of a person's browser.
pub(super) fn origin(world: &World, user: &str) -> Option<String> {
    let (_, port) = world.browsers.iter().find(|(id, _)| id == user)?;
    let mut url = Url::parse(&world.origin).ok()?;
    url.set_port(Some(*port)).ok()?;
    Some(url.origin().ascii_serialization())
}

/// Points a person's browser at the site of an address; where the tab goes next.
pub(super) fn enter(world: &World, person: &Person, url: &Url) -> Option<String> {
    let own = origin(world, &person.id)?;
    let mut site = url.clone();
    site.set_path("/");
    site.set_query(None);
    site.set_fragment(None);
    world.browsing.with(&person.id, |tab| tab.site = Some(site));
    let query = url
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    Some(format!("{own}{}{query}", url.path()))
}

/// Every request to a person's port.
pub(super) async fn serve(
    world: web::Data<World>,
    request: HttpRequest,
    body: web::Payload,
) -> HttpResponse {
    let port = request.app_config().local_addr().port();
    let person = world
        .browsers
        .iter()
        .find(|(_, own)| *own == port)
        .and_then(|(id, _)| Person::face(id));
    let Some(person) = person else {
        return HttpResponse::NotFound().finish();
    };
    let Ok(Ok(body)) = body.to_bytes_limited(1 << 20).await else {
        return HttpResponse::PayloadTooLarge().finish();
    };
    match request.path() {
        "/__wallet/bridge.js" => script(&person),
        "/__wallet/bridge.css" => HttpResponse::Ok()
            .content_type("text/css; charset=utf-8")
            .insert_header(("Cache-Control", "no-store"))
            .body(SHEET_STYLE),
        "/__wallet/sheet" => bridge::open(&world, &person, &body).await,
        "/__wallet/finish" => bridge::finish(&world, &person, &body).await,
        "/__wallet/go" => go(&world, &person, &request),
        "/__wallet/close" => HttpResponse::SeeOther()
            .insert_header(("Location", format!("{}/wallet", world.origin)))
            .finish(),
        _ => fetch(&world, &person, &request, body).await,
    }
}

/// A link to another site of this machine: the tab goes there, and stays in the wallet.
fn go(world: &World, person: &Person, request: &HttpRequest) -> HttpResponse {
    let place = url::form_urlencoded::parse(request.query_string().as_bytes())
        .find(|(name, _)| name == "url")
        .and_then(|(_, url)| Url::parse(&url).ok())
        .filter(is_elsewhere)
        .and_then(|url| enter(world, person, &url));
    match place {
        Some(place) => HttpResponse::SeeOther()
            .insert_header((header::LOCATION, place))
            .finish(),
        None => HttpResponse::Forbidden().finish(),
    }
}

/// A site that the built-in browser can open.
fn is_elsewhere(url: &Url) -> bool {
    url.scheme() == "http" && is_loopback(url)
}

fn script(person: &Person) -> HttpResponse {
    let facts = serde_json::json!({
        "wallet": person.wallet.as_str(),
        "label": person.wallet.label(),
        "person": person.name(),
    });
    HttpResponse::Ok()
        .content_type("text/javascript; charset=utf-8")
        .insert_header(("Cache-Control", "no-store"))
        .body(BRIDGE.replace("__FACTS__", &facts.to_string()))
}

/// The three origins a page may speak of, and what they become.
struct Places {
    own: String,
    site: String,
    simulator: String,
}

impl Places {
    /// Absolute addresses of the site and of the simulator, in text or in a header.
    fn rewrite(&self, text: &str) -> String {
        let inside = format!("{}{INSIDE}", self.own);
        text.replace(&self.site, &self.own)
            .replace(&self.simulator, &inside)
    }

    /// Links to other sites of this machine go by our own door: a wallet opens them in the same tab.
    fn keep_links(&self, page: &str) -> String {
        const LINK: &str = "href=\"http://";
        let mut parts = page.split(LINK);
        let mut text = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (rest, behind) = part.split_at(part.find('"').unwrap_or(0));
            let address = format!("http://{}", rest.replace("&amp;", "&"));
            let away = Url::parse(&address)
                .ok()
                .filter(|url| is_elsewhere(url) && url.origin().ascii_serialization() != self.own);
            if let Some(url) = away {
                let query = url::form_urlencoded::Serializer::new(String::new())
                    .append_pair("url", url.as_str())
                    .finish();
                text.extend(["href=\"/__wallet/go?", &query, behind]);
            } else {
                text.extend([LINK, part]);
            }
        }
        text
    }
}

async fn fetch(
    world: &World,
    person: &Person,
    request: &HttpRequest,
    body: web::Bytes,
) -> HttpResponse {
    let target = request
        .uri()
        .path_and_query()
        .map_or("/", actix_web::http::uri::PathAndQuery::as_str);
    let inside = target.strip_prefix(INSIDE);
    let site = match inside {
        Some(_) => Url::parse(&world.origin).ok(),
        None => world.browsing.with(&person.id, |tab| tab.site.clone()),
    };
    let (Some(site), Some(own)) = (site, origin(world, &person.id)) else {
        return super::wallet::pages::notice_page(
            StatusCode::NOT_FOUND,
            person.wallet.label(),
            "还没有打开任何页面，请先扫一扫",
            "nothing has been scanned yet",
        );
    };
    // Only ever this machine, whatever a page redirects to.
    let address = Url::parse(&format!(
        "{}{}",
        site.origin().ascii_serialization(),
        inside.unwrap_or(target)
    ));
    let Some(address) = address.ok().filter(is_loopback) else {
        return HttpResponse::Forbidden().finish();
    };
    let places = Places {
        own,
        site: world
            .browsing
            .with(&person.id, |tab| tab.site.clone())
            .unwrap_or_else(|| site.clone())
            .origin()
            .ascii_serialization(),
        simulator: world.origin.clone(),
    };
    let answer = outgoing(world, person, request, &address, &places)
        .body(body)
        .send()
        .await;
    let Ok(answer) = answer else {
        return super::wallet::pages::notice_page(
            StatusCode::BAD_GATEWAY,
            person.wallet.label(),
            "网页打不开",
            "the page could not be reached",
        );
    };
    keep_cookies(world, person, &address, &answer);
    incoming(world, person, answer, &places, inside.is_some()).await
}

fn outgoing(
    world: &World,
    person: &Person,
    request: &HttpRequest,
    address: &Url,
    places: &Places,
) -> reqwest::RequestBuilder {
    let method = reqwest::Method::from_bytes(request.method().as_str().as_bytes())
        .unwrap_or(reqwest::Method::GET);
    let mut builder = world.browsing.client.request(method, address.clone());
    for (name, value) in request.headers() {
        let Ok(text) = value.to_str() else { continue };
        match name.as_str() {
            "host" | "connection" | "keep-alive" | "transfer-encoding" | "content-length"
            | "upgrade" | "te" | "cookie" | "user-agent" | "accept-encoding" | USER_HEADER => {}
            // The page believes that it lives at the site's own address.
            "origin" | "referer" => {
                builder = builder.header(name.as_str(), text.replace(&places.own, &places.site));
            }
            other => builder = builder.header(other, text),
        }
    }
    builder = builder.header("user-agent", person.wallet.user_agent());
    if address.origin().ascii_serialization() == places.simulator {
        builder = builder.header(USER_HEADER, &person.id);
    }
    let cookies = world.browsing.with(&person.id, |tab| {
        tab.jar
            .iter()
            .filter(|kept| kept.site == address.origin() && fits(&kept.path, address.path()))
            .map(|kept| format!("{}={}", kept.name, kept.value))
            .collect::<Vec<_>>()
            .join("; ")
    });
    if !cookies.is_empty() {
        builder = builder.header("cookie", cookies);
    }
    builder
}

/// RFC 6265 §5.1.4.
fn fits(cookie_path: &str, path: &str) -> bool {
    path == cookie_path
        || path
            .strip_prefix(cookie_path)
            .is_some_and(|rest| cookie_path.ends_with('/') || rest.starts_with('/'))
}

fn keep_cookies(world: &World, person: &Person, address: &Url, answer: &reqwest::Response) {
    for line in answer.headers().get_all("set-cookie") {
        let Some(cookie) = line.to_str().ok().and_then(|line| Cookie::parse(line).ok()) else {
            continue;
        };
        let path = cookie
            .path()
            .filter(|path| path.starts_with('/'))
            .map_or_else(|| "/".to_owned(), str::to_owned);
        let gone = cookie.max_age().is_some_and(|age| !age.is_positive())
            || (cookie.value().is_empty() && cookie.expires().is_some());
        world.browsing.with(&person.id, |tab| {
            tab.jar.retain(|kept| {
                kept.site != address.origin() || kept.name != cookie.name() || kept.path != path
            });
            if !gone {
                tab.jar.push(Kept {
                    site: address.origin(),
                    name: cookie.name().to_owned(),
                    value: cookie.value().to_owned(),
                    path,
                });
            }
        });
    }
}

async fn incoming(
    world: &World,
    person: &Person,
    answer: reqwest::Response,
    places: &Places,
    inside: bool,
) -> HttpResponse {
    let status = StatusCode::from_u16(answer.status().as_u16()).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut builder = HttpResponse::build(status);
    let mut kind = String::new();
    for (name, value) in answer.headers() {
        let Ok(text) = value.to_str() else { continue };
        match name.as_str() {
            "set-cookie"
            | "connection"
            | "keep-alive"
            | "transfer-encoding"
            | "content-length"
            | "content-encoding"
            | "strict-transport-security" => {}
            "location" => {
                let mut place = places.rewrite(text);
                if inside && place.starts_with('/') {
                    place = format!("{INSIDE}{place}");
                }
                // On to another site: the wallet's browser goes along.
                let away = Url::parse(&place).ok().filter(|url| {
                    is_elsewhere(url) && url.origin().ascii_serialization() != places.own
                });
                if let Some(entered) = away.and_then(|url| enter(world, person, &url)) {
                    place = entered;
                }
                builder.insert_header((header::LOCATION, place));
            }
            "content-security-policy" => {
                builder.insert_header((
                    header::CONTENT_SECURITY_POLICY,
                    admit_bridge(&places.rewrite(text)),
                ));
            }
            "content-type" => {
                text.clone_into(&mut kind);
                builder.insert_header((header::CONTENT_TYPE, text));
            }
            other => {
                builder.append_header((other, text));
            }
        }
    }
    let page = kind.starts_with("text/html");
    let utf8 = !kind.to_ascii_lowercase().contains("gbk");
    if !(page || kind.starts_with("application/json")) || !utf8 {
        return builder.streaming(answer.bytes_stream().map_err(std::io::Error::other));
    }
    let Ok(bytes) = answer.bytes().await else {
        return HttpResponse::BadGateway().finish();
    };
    if bytes.len() > PAGE_LIMIT {
        return builder.body(bytes);
    }
    let mut text = places.rewrite(&String::from_utf8_lossy(&bytes));
    if inside {
        text = text.replace("=\"/", &format!("=\"{INSIDE}/"));
    }
    if page {
        text = with_bridge(&places.keep_links(&text));
    }
    builder.body(text)
}

/// The bridge goes first into the head, as the wallets do it before any script of the page.
fn with_bridge(text: &str) -> String {
    const TAGS: &str = "<link rel=\"stylesheet\" href=\"/__wallet/bridge.css\"><script src=\"/__wallet/bridge.js\"></script>";
    let lower = text.to_ascii_lowercase();
    let place = lower
        .find("<head")
        .and_then(|start| lower[start..].find('>').map(|end| start + end + 1))
        .unwrap_or_else(|| {
            lower
                .find("<html")
                .and_then(|start| lower[start..].find('>').map(|end| start + end + 1))
                .unwrap_or(0)
        });
    format!("{}{TAGS}{}", &text[..place], &text[place..])
}

/// A wallet's bridge stands above a page's policy: `'self'` is added where the three sorts of things
/// the bridge needs are forbidden, nothing else is relaxed.
fn admit_bridge(policy: &str) -> String {
    let mut directives: Vec<(String, Vec<String>)> = policy
        .split(';')
        .filter_map(|directive| {
            let mut words = directive.split_whitespace().map(str::to_owned);
            Some((words.next()?.to_ascii_lowercase(), words.collect()))
        })
        .collect();
    let fallback = directives
        .iter()
        .find(|(name, _)| name == "default-src")
        .map(|(_, sources)| sources.clone());
    for needed in ["script-src", "style-src", "connect-src"] {
        let own = "'self'".to_owned();
        match directives.iter_mut().find(|(name, _)| name == needed) {
            Some((_, sources)) => {
                sources.retain(|source| source != "'none'");
                if !sources.contains(&own) {
                    sources.push(own);
                }
            }
            None => {
                if let Some(fallback) = &fallback
                    && !fallback.contains(&own)
                {
                    let mut sources: Vec<String> = fallback
                        .iter()
                        .filter(|source| *source != "'none'")
                        .cloned()
                        .collect();
                    sources.push(own);
                    directives.push((needed.to_owned(), sources));
                }
            }
        }
    }
    directives
        .into_iter()
        .map(|(name, sources)| {
            if sources.is_empty() {
                name
            } else {
                format!("{name} {}", sources.join(" "))
            }
        })
        .collect::<Vec<_>>()
        .join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::people::Wallet;

    #[test]
    fn the_policy_admits_the_bridge_and_nothing_else() {
        assert_eq!(
            admit_bridge(
                "default-src 'none'; script-src 'sha256-abc'; style-src 'self'; form-action 'self'"
            ),
            "default-src 'none'; script-src 'sha256-abc' 'self'; style-src 'self'; form-action 'self'; connect-src 'self'"
        );
        assert_eq!(admit_bridge("default-src 'self'"), "default-src 'self'");
    }

    #[test]
    fn the_bridge_comes_before_every_script() {
        let page = with_bridge("<!doctype html><html><HEAD><script src=a></script></HEAD></html>");
        let bridge = page.find("bridge.js").unwrap();
        assert!(bridge < page.find("src=a").unwrap());
    }

    #[test]
    fn cookies_keep_to_their_path() {
        assert!(fits("/", "/s/abc"));
        assert!(fits("/s/abc", "/s/abc/claim"));
        assert!(!fits("/s/abc", "/s/abcd"));
    }

    #[test]
    fn every_wallet_says_who_it_is() {
        assert!(Wallet::Wechat.user_agent().contains("MicroMessenger"));
        assert!(Wallet::Alipay.user_agent().contains("AlipayClient"));
    }
}
