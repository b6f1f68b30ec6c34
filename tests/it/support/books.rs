//! The providers' side as a test sees it: their books, their faults, and the payers' fingers.

use serde_json::{Value, json};

use super::process::Simulators;

/// Our number of a trade: the order's ULID and two digits of base 32.
pub fn trade_number(order: &str, attempt: u64) -> String {
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let digit = |number: u64| char::from(DIGITS[usize::try_from(number % 32).unwrap()]);
    let ulid = order.strip_prefix("ord_").unwrap();
    format!("{ulid}{}{}", digit(attempt / 32), digit(attempt))
}

impl Simulators {
    /// Pulls a lever: status and answer.
    pub async fn lever(&self, path: &str, body: &Value) -> (u16, Value) {
        let answer = self
            .client
            .post(format!("{}/control/{path}", self.origin))
            .json(body)
            .send()
            .await
            .unwrap();
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or(Value::Null))
    }

    pub async fn pull(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.lever(path, body).await;
        assert!((200..300).contains(&status), "{path} {body}: {answer}");
        answer
    }

    /// Numbers and amounts of the refunds of one trade.
    pub async fn refunds(&self, number: &str) -> Vec<(String, i64)> {
        let trade = self.trade(number).await.unwrap();
        let refunds = trade["refunds"].as_array().unwrap().iter();
        refunds
            .map(|refund| {
                let number = refund["number"].as_str().unwrap().to_owned();
                (number, refund["amount"].as_i64().unwrap())
            })
            .collect()
    }

    /// All trades of both providers.
    pub async fn books(&self) -> Value {
        let url = format!("{}/control/books", self.origin);
        self.client
            .get(url)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap()
    }

    /// One trade, if the provider knows it.
    pub async fn trade(&self, number: &str) -> Option<Value> {
        let books = self.books().await;
        let trades = books["trades"].as_array().unwrap();
        trades
            .iter()
            .find(|trade| trade["out_trade_no"] == number)
            .cloned()
    }

    /// The payer opens the payment and enters the password.
    pub async fn pay(&self, number: &str) -> Value {
        self.pull("pay", &json!({ "out_trade_no": number })).await
    }

    /// The same, where it may be refused: the code of the refusal.
    pub async fn try_pay(&self, number: &str) -> Result<Value, String> {
        match self.lever("pay", &json!({ "out_trade_no": number })).await {
            (200, trade) => Ok(trade),
            (_, refused) => Err(refused["error"].as_str().unwrap_or_default().to_owned()),
        }
    }

    /// The payer sits at the password page.
    pub async fn open(&self, number: &str) -> Value {
        self.pull("scan", &json!({ "out_trade_no": number })).await
    }

    /// The payer, long at the password page, enters the password.
    pub async fn pay_late(&self, number: &str) -> Value {
        self.pull("pay_late", &json!({ "out_trade_no": number }))
            .await
    }

    /// Sends the trade's notices once more.
    pub async fn redeliver(&self, number: &str) {
        self.pull("redeliver", &json!({ "out_trade_no": number }))
            .await;
    }

    /// Sends a spoiled notice: the status of the answer, and whether it was an acknowledgement.
    pub async fn forge(&self, number: &str, fault: &str) -> (u64, bool) {
        let answer = self
            .pull("forge", &json!({ "out_trade_no": number, "fault": fault }))
            .await;
        (
            answer["status"].as_u64().unwrap_or_default(),
            answer["acked"].as_bool().unwrap(),
        )
    }

    /// Moves the providers' clock against ours.
    pub async fn advance(&self, millis: i64) {
        self.pull("clock", &json!({ "advance_ms": millis })).await;
    }

    pub async fn fault(&self, rule: Value) {
        self.pull("faults", &rule).await;
    }

    /// How often the rules with this fault have bitten.
    pub async fn hits(&self, fault: &str) -> u64 {
        let url = format!("{}/control/faults", self.origin);
        let rules: Value = self
            .client
            .get(url)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        rules
            .as_array()
            .unwrap()
            .iter()
            .filter(|rule| rule["fault"] == fault)
            .filter_map(|rule| rule["hits"].as_u64())
            .sum()
    }

    pub async fn heal(&self) {
        let url = format!("{}/control/faults", self.origin);
        self.client.delete(url).send().await.unwrap();
    }
}
