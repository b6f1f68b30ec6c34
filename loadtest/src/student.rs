//! A payer with a phone: what a wallet's browser does with the code that it scanned (contract §6), up
//! to the password, which the simulated wallet enters.

use std::collections::BTreeMap;

use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use serde_json::{Value, json};
use url::Url;

/// Which app scans.
#[derive(Clone, Copy, Debug)]
pub enum Wallet {
    Wechat,
    Alipay,
}

impl Wallet {
    /// Every second payer uses the other one.
    pub const fn of(index: u64) -> Self {
        if index.is_multiple_of(2) {
            Self::Wechat
        } else {
            Self::Alipay
        }
    }

    const fn agent(self) -> &'static str {
        match self {
            Self::Wechat => "Mozilla/5.0 (Linux; Android 14) Mobile MicroMessenger/8.0.56",
            Self::Alipay => "Mozilla/5.0 (Linux; Android 14) Mobile AlipayClient/10.6.58",
        }
    }
}

/// Where phones find things.
#[derive(Clone, Debug)]
pub struct Surroundings {
    pub client: reqwest::Client,
    /// Requests to the gateway go here, whatever its own addresses say.
    pub gateway: Url,
    pub simulator: Url,
}

/// One payer with one phone.
#[derive(Debug)]
pub struct Student<'a> {
    around: &'a Surroundings,
    wallet: Wallet,
    user: String,
    cookies: BTreeMap<String, String>,
}

struct Page {
    location: Option<Url>,
    body: String,
}

impl<'a> Student<'a> {
    pub const fn new(around: &'a Surroundings, wallet: Wallet, user: String) -> Self {
        Self {
            around,
            wallet,
            user,
            cookies: BTreeMap::new(),
        }
    }

    /// Scans, is recognised, claims, confirms.
    pub async fn confirm(&mut self, qr_content: &str) -> Result<(), String> {
        let code: Url = qr_content
            .parse()
            .map_err(|_| "a code that is no address".to_owned())?;
        let to_wallet = self.get("scan", &code).await?.location;
        let to_wallet = to_wallet.ok_or("scan: no redirect to the wallet")?;
        let back = self.get("wallet", &to_wallet).await?.location;
        let back = back.ok_or("wallet: no redirect back")?;
        let page = self.get("opening", &back).await?;
        let claimed = self
            .press("claim", &code, &hidden_inputs(&page.body))
            .await?;
        let member = |name: &str| claimed[name].as_str().unwrap_or_default().to_owned();
        if member("state") != "claimed" {
            return Err(format!("claim: {}", member("state")));
        }
        let fields = BTreeMap::from([
            ("k".to_owned(), member("proof")),
            ("csrf".to_owned(), member("csrf")),
        ]);
        self.press("pay", &code, &fields).await?;
        Ok(())
    }

    /// Enters the password in the simulated wallet.
    pub async fn enter_password(&self, trade_number: &str) -> Result<(), String> {
        let lever = self
            .around
            .simulator
            .join("/control/pay")
            .expect("a path of an address");
        let answer = self
            .around
            .client
            .post(lever)
            .json(&json!({ "out_trade_no": trade_number }))
            .send()
            .await
            .map_err(|error| format!("password: {}", crate::kind_of(&error)))?;
        if answer.status().is_success() {
            Ok(())
        } else {
            Err(format!("password: {}", answer.status()))
        }
    }

    async fn get(&mut self, step: &str, url: &Url) -> Result<Page, String> {
        let url = self.reachable(url);
        self.send(step, self.around.client.get(url)).await
    }

    async fn press(
        &mut self,
        step: &str,
        code: &Url,
        fields: &BTreeMap<String, String>,
    ) -> Result<Value, String> {
        let mut url = self.reachable(code);
        url.set_path(&format!("{}/{step}", code.path()));
        let request = self
            .around
            .client
            .post(url)
            .header("accept", "application/json")
            .form(fields);
        let page = self.send(step, request).await?;
        serde_json::from_str(&page.body).map_err(|_| format!("{step}: no JSON"))
    }

    /// The simulator's own addresses as they are, all others at the gateway under load.
    fn reachable(&self, url: &Url) -> Url {
        if url.origin() == self.around.simulator.origin() {
            return url.clone();
        }
        let mut there = self.around.gateway.clone();
        there.set_path(url.path());
        there.set_query(url.query());
        there
    }

    async fn send(&mut self, step: &str, request: reqwest::RequestBuilder) -> Result<Page, String> {
        let failed = |error: &reqwest::Error| format!("{step}: {}", crate::kind_of(error));
        let mut request = request
            .header("user-agent", self.wallet.agent())
            .header("x-simulator-user", &self.user);
        if !self.cookies.is_empty() {
            let cookies: Vec<String> = self
                .cookies
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            request = request.header(COOKIE, cookies.join("; "));
        }
        let answer = request.send().await.map_err(|error| failed(&error))?;
        let status = answer.status();
        if status.is_client_error() || status.is_server_error() {
            return Err(format!("{step}: {status}"));
        }
        for cookie in answer.headers().get_all(SET_COOKIE) {
            let pair = cookie.to_str().ok().and_then(|text| text.split(';').next());
            if let Some((name, value)) = pair.and_then(|pair| pair.split_once('=')) {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        let location = answer
            .headers()
            .get(LOCATION)
            .and_then(|location| answer.url().join(location.to_str().ok()?).ok());
        Ok(Page {
            location,
            body: answer.text().await.map_err(|error| failed(&error))?,
        })
    }
}

/// `<input type="hidden" name="…" value="…">` of our own pages.
fn hidden_inputs(page: &str) -> BTreeMap<String, String> {
    let attribute = |tag: &str, name: &str| {
        let (_, rest) = tag.split_once(&format!("{name}=\""))?;
        Some(rest.split_once('"')?.0.replace("&amp;", "&"))
    };
    page.split("<input ")
        .skip(1)
        .filter_map(|rest| rest.split_once('>').map(|(tag, _)| tag))
        .filter(|tag| tag.contains("type=\"hidden\""))
        .filter_map(|tag| Some((attribute(tag, "name")?, attribute(tag, "value")?)))
        .collect()
}
