//! A payer with a phone: what a wallet's browser does with the code it scanned (contract §6). It
//! follows redirects by way of the wallet's OAuth page, keeps cookies, and presses the buttons.

use std::collections::BTreeMap;

use serde_json::Value;
use url::Url;

use super::merchant::Answer;

/// Which app scans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wallet {
    Wechat,
    Alipay,
}

pub use Wallet::{Alipay, Wechat};

impl Wallet {
    const fn agent(self) -> &'static str {
        match self {
            Self::Wechat => "Mozilla/5.0 (Linux; Android 14) Mobile MicroMessenger/8.0.56",
            Self::Alipay => "Mozilla/5.0 (Linux; Android 14) Mobile AlipayClient/10.6.58",
        }
    }

    pub const fn word(self) -> &'static str {
        match self {
            Self::Wechat => "wechat",
            Self::Alipay => "alipay",
        }
    }
}

/// One payer with one phone.
#[derive(Debug)]
pub struct Student {
    wallet: Wallet,
    user: String,
    client: reqwest::Client,
    cookies: BTreeMap<String, String>,
    /// What the last page gave to send back.
    hidden: BTreeMap<String, String>,
    /// The code's address, without a query.
    code: Option<Url>,
}

impl Student {
    pub fn new(wallet: Wallet, user: &str) -> Self {
        Self {
            wallet,
            user: user.to_owned(),
            client: super::client(),
            cookies: BTreeMap::new(),
            hidden: BTreeMap::new(),
            code: None,
        }
    }

    /// Somebody nobody has seen before.
    pub fn stranger(wallet: Wallet) -> Self {
        Self::new(wallet, &format!("s{:016x}", rand::random::<u64>()))
    }

    async fn get(&mut self, url: &Url) -> Result<(Answer, Option<Url>), reqwest::Error> {
        let request = self.client.get(url.clone());
        let answer = self.send(request).await?;
        let location = answer
            .headers
            .get("location")
            .map(|location| url.join(location.to_str().unwrap()).unwrap());
        Ok((answer, location))
    }

    async fn send(&mut self, request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
        let cookies: Vec<String> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let mut request = request
            .header("user-agent", self.wallet.agent())
            .header("x-simulator-user", &self.user);
        if !cookies.is_empty() {
            request = request.header("cookie", cookies.join("; "));
        }
        let answer = Answer::of(request.send().await?).await?;
        for cookie in answer.headers.get_all("set-cookie") {
            let text = cookie.to_str().unwrap();
            let pair = text.split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        Ok(answer)
    }

    /// Opens an address as a link that was tapped.
    pub async fn visit(&mut self, url: &str) -> Answer {
        self.get(&url.parse().unwrap()).await.unwrap().0
    }

    /// Sends a form as a page without scripts does.
    pub async fn submit(&mut self, url: &str, fields: &[(&str, &str)]) -> Answer {
        let request = self.client.post(url).form(fields);
        self.send(request).await.unwrap()
    }

    /// Opens what the code holds, up to the page that would post the wallet's code. Claims nothing.
    pub async fn try_open(&mut self, qr_content: &str) -> Result<Answer, reqwest::Error> {
        let code: Url = qr_content.parse().unwrap();
        self.code = Some(code.clone());
        let (first, to_wallet) = self.get(&code).await?;
        let Some(to_wallet) = to_wallet else {
            return Ok(first);
        };
        let (refused, back) = self.get(&to_wallet).await?;
        let Some(back) = back else {
            return Ok(refused);
        };
        let (page, _) = self.get(&back).await?;
        self.hidden = hidden_inputs(&String::from_utf8_lossy(&page.body));
        Ok(page)
    }

    pub async fn try_press(
        &mut self,
        what: &str,
        fields: &BTreeMap<String, String>,
    ) -> Result<Answer, reqwest::Error> {
        let mut url = self.code.clone().expect("a code that was opened");
        url.set_path(&format!("{}/{what}", url.path()));
        let request = self
            .client
            .post(url)
            .header("accept", "application/json")
            .form(fields);
        self.send(request).await
    }

    /// The post by which the page claims: the scan.
    pub async fn try_claim(&mut self) -> Result<Answer, reqwest::Error> {
        let fields = self.hidden.clone();
        let answer = self.try_press("claim", &fields).await?;
        if answer.status == 200 && answer.json()["state"] == "claimed" {
            let page = answer.json();
            for (member, field) in [("proof", "k"), ("csrf", "csrf")] {
                let value = page[member].as_str().unwrap().to_owned();
                self.hidden.insert(field.to_owned(), value);
            }
        }
        Ok(answer)
    }

    /// The same post again, where one was made ready: its answer may only have been lost.
    pub async fn try_claim_again(&mut self) -> Option<Result<Answer, reqwest::Error>> {
        if !self.hidden.contains_key("state") {
            return None;
        }
        let answer = self.try_claim().await;
        if matches!(&answer, Ok(answer) if answer.status < 500) {
            // Spent, whatever came of it: next time from the beginning.
            self.hidden.remove("state");
        }
        Some(answer)
    }

    /// Scans: opens the code and claims it.
    pub async fn try_scan(&mut self, qr_content: &str) -> Result<Answer, reqwest::Error> {
        let page = self.try_open(qr_content).await?;
        if page.status != 200 || !self.hidden.contains_key("state") {
            return Ok(page);
        }
        self.try_claim().await
    }

    pub async fn scan(&mut self, attempt: &Value) -> Answer {
        self.try_scan(attempt["qr_content"].as_str().unwrap())
            .await
            .unwrap()
    }

    /// 确认付款.
    pub async fn try_pay(&mut self) -> Result<Answer, reqwest::Error> {
        let fields = self.claimants();
        self.try_press("pay", &fields).await
    }

    pub async fn press_pay(&mut self) -> Answer {
        self.try_pay().await.unwrap()
    }

    pub async fn release(&mut self) -> Answer {
        let fields = self.claimants();
        self.try_press("release", &fields).await.unwrap()
    }

    fn claimants(&self) -> BTreeMap<String, String> {
        ["csrf", "k"]
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), self.hidden.get(name)?.clone())))
            .collect()
    }
}

/// `<input type="hidden" name="…" value="…">`
pub fn hidden_inputs(page: &str) -> BTreeMap<String, String> {
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
