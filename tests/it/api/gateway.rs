//! A whole gateway on a port of its own: the real router, the real orders, the store and the locks
//! of either pair, and a provider that says what a test tells it to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::{App, HttpServer, dev::ServerHandle};
use async_trait::async_trait;
use enrollpay::actors::{self, Parts, Request, Shards};
use enrollpay::clock::ManualClock;
use enrollpay::http::{Deps, Limits, Settings, auth, routes};
use enrollpay::order::{
    AccountId, AttemptNumber, CaptureReport, CloseAnswer, CodeMode, Command, Fen, KeyId,
    MerchantId, OrderId, OutTradeNo, PayerHash, Product, RefundAnswer, RefundId, Timestamp,
    TradeAnswer, Wallet,
};
use enrollpay::provider::{
    AccountSettings, Bill, BillError, BillKind, Notice, NoticeError, OauthError, PayParameters,
    PayerId, Provider, ProviderError, Providers, RefundDestination, RefundRequest, TradeRequest,
    TradeState,
};
use enrollpay::random::SeededRandom;
use enrollpay::sealing::{Place, Sealer};
use enrollpay::store::personal::PersonalStore;
use enrollpay::store::{
    Actor, DuplicatePolicy, Masks, Merchant, MerchantKey, Store, Transaction, Write,
};
use secrecy::SecretString;
use serde_json::{Value, json};
use ulid::Ulid;

use crate::support::Pair;
use crate::support::ground::Ground;

pub const START: Timestamp = Timestamp::from_seconds(1_795_168_800);

/// A provider without a wire.
#[derive(Debug)]
pub struct ScriptedProvider {
    account: AccountSettings,
    pub trade: Mutex<TradeAnswer>,
    pub query: Mutex<TradeState>,
    pub close: Mutex<CloseAnswer>,
    pub queries: AtomicUsize,
    /// What the provider has of each kind, whatever the day; none where it offers none.
    pub bills: Mutex<BTreeMap<BillKind, Result<Bill, BillError>>>,
    /// Whoever holds it for writing keeps the bill of flows back.
    pub flows: tokio::sync::RwLock<()>,
    /// What is said to a refund, to a question about one, and to another destination for it.
    pub refund: Mutex<RefundAnswer>,
    pub refund_query: Mutex<RefundAnswer>,
    pub repair: Mutex<RefundAnswer>,
    /// Every refund that was asked for.
    pub refunds: Mutex<Vec<RefundRequest>>,
    pub destinations: Mutex<Vec<RefundDestination>>,
    /// What the next notice says.
    pub notice: Mutex<Option<Notice>>,
    /// How long the answer to a query takes.
    pub query_takes: Mutex<Duration>,
    /// Codes that were exchanged: each can be once.
    spent: Mutex<Vec<String>>,
}

impl ScriptedProvider {
    fn new(id: &str, wallet: Wallet, mode: CodeMode, h5: bool, checks: bool) -> Self {
        Self {
            account: AccountSettings {
                id: AccountId::new(id),
                wallet,
                application: format!("app-{id}").into(),
                mode,
                h5,
                alipay_wap: false,
                payer_identity: checks,
                checkout_origins: Vec::new(),
            },
            trade: Mutex::new(TradeAnswer::Made {
                handle: "weixin://wxpay/bizpayurl?pr=AbCdEf".into(),
            }),
            query: Mutex::new(TradeState::Unpaid),
            close: Mutex::new(CloseAnswer::Closed),
            queries: AtomicUsize::new(0),
            bills: Mutex::default(),
            flows: tokio::sync::RwLock::default(),
            refund: Mutex::new(RefundAnswer::Succeeded),
            refund_query: Mutex::new(RefundAnswer::Succeeded),
            repair: Mutex::new(RefundAnswer::Succeeded),
            refunds: Mutex::default(),
            destinations: Mutex::default(),
            notice: Mutex::default(),
            query_takes: Mutex::new(Duration::ZERO),
            spent: Mutex::default(),
        }
    }
}

#[async_trait]
impl Provider for ScriptedProvider {
    fn account(&self) -> &AccountSettings {
        &self.account
    }

    async fn make_trade(&self, _: &TradeRequest) -> TradeAnswer {
        self.trade.lock().unwrap().clone()
    }

    async fn query_trade(&self, _: OutTradeNo) -> TradeState {
        self.queries.fetch_add(1, Ordering::SeqCst);
        let takes = *self.query_takes.lock().unwrap();
        tokio::time::sleep(takes).await;
        self.query.lock().unwrap().clone()
    }

    async fn close_trade(&self, _: OutTradeNo) -> CloseAnswer {
        let answer = *self.close.lock().unwrap();
        if answer == CloseAnswer::Closed {
            *self.query.lock().unwrap() = TradeState::Closed;
        }
        answer
    }

    async fn refund(&self, request: &RefundRequest) -> RefundAnswer {
        self.refunds.lock().unwrap().push(request.clone());
        *self.refund.lock().unwrap()
    }

    async fn query_refund(&self, _: &RefundRequest) -> RefundAnswer {
        *self.refund_query.lock().unwrap()
    }

    async fn repair_refund(
        &self,
        _: &RefundRequest,
        destination: &RefundDestination,
    ) -> RefundAnswer {
        self.destinations.lock().unwrap().push(destination.clone());
        *self.repair.lock().unwrap()
    }

    async fn bill(&self, kind: BillKind, _: jiff::civil::Date) -> Result<Bill, BillError> {
        if kind == BillKind::Flows {
            drop(self.flows.read().await);
        }
        let bills = self.bills.lock().unwrap();
        bills
            .get(&kind)
            .cloned()
            .unwrap_or(Err(BillError::NotOffered))
    }

    fn pay_parameters(
        &self,
        request: &TradeRequest,
        handle: &str,
    ) -> Result<PayParameters, ProviderError> {
        Ok(match request.product {
            Product::AlipayWap | Product::WechatH5 => PayParameters::Link {
                url: format!("https://wallet.example/{}", request.out_trade_no),
            },
            Product::AlipayCreate => PayParameters::TradePay {
                trade_no: handle.to_owned(),
            },
            _ => {
                let package = ("package".to_owned(), format!("prepay_id={handle}"));
                PayParameters::Jsapi(BTreeMap::from([package]))
            }
        })
    }

    fn authorize_url(&self, redirect_uri: &str, state: &str) -> String {
        let mut url = url::Url::parse("https://wallet.example/authorize").unwrap();
        url.query_pairs_mut()
            .append_pair("redirect_uri", redirect_uri)
            .append_pair("state", state);
        url.into()
    }

    /// `of-ZHANG-1` is a code of the payer `ZHANG`.
    async fn exchange_code(&self, code: &SecretString) -> Result<PayerId, OauthError> {
        use secrecy::ExposeSecret as _;
        let code = code.expose_secret();
        let mut spent = self.spent.lock().unwrap();
        let payer = code.split('-').nth(1).ok_or(OauthError::Unavailable)?;
        if spent.iter().any(|known| known == code) {
            return Err(OauthError::CodeUsed);
        }
        spent.push(code.to_owned());
        Ok(PayerId(SecretString::from(payer.to_owned())))
    }

    fn read_notice(
        &self,
        _: &BTreeMap<String, String>,
        _: &[u8],
        _: Timestamp,
    ) -> Result<Notice, NoticeError> {
        let notice = self.notice.lock().unwrap().take();
        notice.ok_or(NoticeError::BadSignature)
    }

    fn acknowledgement(&self) -> (u16, &'static str, &'static str) {
        (204, "", "")
    }

    fn refusal(&self) -> (&'static str, &'static str) {
        ("text/plain", "fail")
    }

    async fn refresh(&self) -> Result<(), ProviderError> {
        Ok(())
    }
}

/// What a test may want otherwise.
#[derive(Debug, Default)]
pub struct Wishes {
    /// What it stands on.
    pub on: Pair,
    pub limits: Limits,
    pub native: bool,
    /// WeChat in phone browsers.
    pub h5: bool,
    pub refuse_duplicates: bool,
    /// Whose providers check who pays.
    pub checks_payers: Vec<Wallet>,
    pub payer_must_be_registrant: bool,
    pub return_hosts: Vec<String>,
    /// `server.well_known_files`.
    pub well_known_files: Option<std::path::PathBuf>,
    /// How much the actors take in at a time.
    pub queue: Option<usize>,
}

pub struct Gateway {
    pub base: String,
    pub port: u16,
    pub deps: Deps,
    pub store: Arc<dyn PersonalStore>,
    pub clock: ManualClock,
    pub wechat: Arc<ScriptedProvider>,
    pub alipay: Arc<ScriptedProvider>,
    pub school: Caller,
    pub other: Caller,
    pub client: reqwest::Client,
    nonces: AtomicU64,
    shards: Option<Shards>,
    server: ServerHandle,
    ground: Ground,
}

/// A merchant's credentials.
#[derive(Clone, Debug)]
pub struct Caller {
    pub merchant: MerchantId,
    pub key: KeyId,
    pub secret: String,
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answered {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
    pub bytes: Vec<u8>,
}

impl Answered {
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub fn pointers(&self) -> Vec<&str> {
        let errors = self.body["errors"].as_array();
        errors
            .into_iter()
            .flatten()
            .filter_map(|error| error["pointer"].as_str())
            .collect()
    }

    /// A problem document as the contract has it, with this status and code.
    #[track_caller]
    pub fn is_problem(&self, status: u16, code: &str) -> &Self {
        assert_eq!((self.status, self.code()), (status, code), "{}", self.body);
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json")
        );
        assert_eq!(self.body["type"], format!("/docs/errors/{code}"));
        assert_eq!(self.body["status"], status);
        assert!(self.body["title"].is_string() && self.body["detail"].is_string());
        assert!(self.body["request_id"].is_string());
        self
    }
}

impl Gateway {
    pub async fn start() -> Self {
        Self::start_with(Wishes::default()).await
    }

    pub async fn start_with(wishes: Wishes) -> Self {
        let ground = Ground::of(wishes.on);
        let clock = ManualClock::at(START);
        let shared: Arc<dyn enrollpay::clock::Clock> = Arc::new(clock.clone());
        let random = Arc::new(SeededRandom::new(7));
        let sealer = Sealer::new(&[(1, [1; 32])], &[2; 32], &[3; 32], random.clone());
        let store = ground.open(shared.clone()).await;
        let mode = if wishes.native {
            CodeMode::Native
        } else {
            CodeMode::Unified
        };
        let wechat = Arc::new(ScriptedProvider::new(
            "school-wechat",
            Wallet::Wechat,
            mode,
            wishes.h5,
            wishes.checks_payers.contains(&Wallet::Wechat),
        ));
        let unified = CodeMode::Unified;
        let alipay = Arc::new(ScriptedProvider::new(
            "school-alipay",
            Wallet::Alipay,
            unified,
            false,
            wishes.checks_payers.contains(&Wallet::Alipay),
        ));
        let providers = Providers::new([
            wechat.clone() as Arc<dyn Provider>,
            alipay.clone() as Arc<dyn Provider>,
        ]);
        let school = add_merchant(&*store, &sealer, 1, &wishes).await;
        let other = add_merchant(&*store, &sealer, 2, &wishes).await;

        let settings = Settings {
            public_url: "https://pay.example.edu.cn".to_owned(),
            demo: true,
            zone_minutes: 480,
            trusted_proxies: Vec::new(),
            well_known_files: wishes.well_known_files.clone(),
            qr_ms: 180_000,
            limits: wishes.limits,
            demo_wallet_url: None,
        };
        let view = enrollpay::view::View {
            public_url: settings.public_url.clone(),
            zone_minutes: settings.zone_minutes,
            sealer: sealer.clone(),
        };
        let parts = Parts {
            store: store.clone(),
            providers: providers.clone(),
            sealer: sealer.clone(),
            clock: shared.clone(),
            random: random.clone(),
            webhook_body: Arc::new(view),
        };
        let usual = actors::Options::default();
        let options = actors::Options {
            threads: 1,
            queue: wishes.queue.unwrap_or(usual.queue),
            public_url: settings.public_url.clone(),
            ..usual
        };
        let options = ground.joined(options, &store, shared.clone()).await;
        let shards = actors::start(options, parts);
        let deps = Deps {
            orders: shards.orders(),
            store: store.clone(),
            providers,
            sealer,
            clock: shared,
            random,
            settings: Arc::new(settings),
            streams: enrollpay::http::cashier::streams::Streams::default(),
        };
        let limiters = ground.limiters(&deps.settings.limits);
        let public = routes::public_with(deps.clone(), limiters);
        let server = HttpServer::new(move || App::new().configure(public.clone()))
            .workers(1)
            .disable_signals()
            .bind(("127.0.0.1", 0))
            .unwrap();
        let port = server.addrs()[0].port();
        let server = server.run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        Self {
            base: format!("http://127.0.0.1:{port}"),
            port,
            deps,
            store,
            clock,
            wechat,
            alipay,
            school,
            other,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            nonces: AtomicU64::new(0),
            shards: Some(shards),
            server: handle,
            ground,
        }
    }

    pub async fn stop(mut self) {
        self.server.stop(false).await;
        if let Some(shards) = self.shards.take() {
            assert!(shards.stop(Duration::from_secs(5)).await);
        }
        self.store.close().await;
    }

    /// A signed request of the school.
    pub async fn call(&self, method: &str, path: &str, body: &Value) -> Answered {
        self.call_as(&self.school, method, path, body, &[]).await
    }

    pub async fn get(&self, path: &str) -> Answered {
        self.call("GET", path, &Value::Null).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answered {
        self.call("POST", path, body).await
    }

    /// A signed POST under an `Idempotency-Key`.
    pub async fn post_once(&self, key: &str, path: &str, body: &Value) -> Answered {
        let headers = [("idempotency-key", key)];
        self.call_as(&self.school, "POST", path, body, &headers)
            .await
    }

    pub async fn call_as(
        &self,
        caller: &Caller,
        method: &str,
        path: &str,
        body: &Value,
        headers: &[(&str, &str)],
    ) -> Answered {
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        let signed = self.authorization(caller, method, path, &body);
        let mut all = vec![("authorization", signed.as_str())];
        if !body.is_empty() {
            all.push(("content-type", "application/json"));
        }
        all.extend_from_slice(headers);
        self.send(method, path, body, &all).await
    }

    /// The `Authorization` of a request, with a fresh nonce.
    pub fn authorization(&self, caller: &Caller, method: &str, path: &str, body: &[u8]) -> String {
        let nonce = format!("nonce-{:026}", self.nonces.fetch_add(1, Ordering::SeqCst));
        self.authorization_with(caller, method, path, body, &nonce)
    }

    pub fn authorization_with(
        &self,
        caller: &Caller,
        method: &str,
        path: &str,
        body: &[u8],
        nonce: &str,
    ) -> String {
        let now = self.deps.clock.now().as_seconds();
        let signature = auth::sign(method, path, now, nonce, body, &caller.secret);
        auth::authorization(&caller.key.to_string(), now, nonce, &signature)
    }

    /// Any request at all.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        body: Vec<u8>,
        headers: &[(&str, &str)],
    ) -> Answered {
        let url = format!("{}{path}", self.base);
        let mut request = self.client.request(method.parse().unwrap(), url).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let bytes = response.bytes().await.unwrap().to_vec();
        assert!(headers.contains_key("x-request-id"), "{method} {path}");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        Answered {
            status,
            headers,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
            bytes,
        }
    }

    /// A new order; its id.
    pub async fn order(&self, number: &str) -> OrderId {
        let answer = self.post("/v1/orders", &new_order(number)).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.body["id"].as_str().unwrap().parse().unwrap()
    }

    /// Every byte of the embedded store's files.
    pub fn stored_bytes(&self) -> Vec<u8> {
        self.ground.bytes()
    }

    pub async fn tell(&self, order: OrderId, command: Command) -> actors::Reply {
        let request = Request {
            command,
            actor: Actor::Payer,
            request_id: None,
            writes: Vec::new(),
        };
        self.deps.orders.tell(order, request).await.unwrap()
    }

    /// Scans the code that lives, and presses 确认付款.
    pub async fn scan(&self, order: OrderId) -> AttemptNumber {
        let stored = self.deps.orders.read(order).await.unwrap().unwrap();
        let attempt = stored.order.live_attempt().unwrap().number;
        let payer = PayerHash(7);
        let product = Product::WechatJsapi;
        let claim = Command::Claim {
            attempt,
            payer,
            product,
        };
        self.tell(order, claim).await;
        self.tell(order, Command::Pay { attempt, payer }).await;
        self.until(order, |order| {
            let trade = order
                .attempt(attempt)
                .and_then(|attempt| attempt.trade.as_ref());
            trade.is_some_and(|trade| {
                !matches!(trade.standing, enrollpay::order::TradeStanding::Intended)
            })
        })
        .await;
        attempt
    }

    /// The provider tells of a success.
    pub async fn capture(&self, order: OrderId, attempt: AttemptNumber, transaction: &str) {
        self.capture_of(order, attempt, transaction, 14_000).await;
    }

    /// The same, of any amount.
    pub async fn capture_of(
        &self,
        order: OrderId,
        attempt: AttemptNumber,
        transaction: &str,
        amount: i64,
    ) {
        let report = CaptureReport {
            attempt,
            account: AccountId::new("school-wechat"),
            application: "app-school-wechat".into(),
            transaction_id: transaction.into(),
            amount: Fen::new(amount),
            currency: "CNY".into(),
            succeeded_at: self.deps.clock.now(),
            surplus_refund: RefundId::from_ulid(self.deps.random.ulid(self.deps.clock.now())),
        };
        self.tell(order, Command::Capture(report)).await;
    }

    /// Starts a code, scans and pays it.
    pub async fn pay(&self, order: OrderId) {
        let started = self
            .post(&format!("/v1/orders/{order}/attempts"), &Value::Null)
            .await;
        assert_eq!(started.status, 201, "{}", started.body);
        let attempt = self.scan(order).await;
        self.capture(order, attempt, &format!("42000000{order}"))
            .await;
    }

    /// A paid order; its id.
    pub async fn paid(&self, number: &str) -> OrderId {
        let order = self.order(number).await;
        self.pay(order).await;
        order
    }

    /// Waits until the order is as `wanted`.
    pub async fn until(&self, id: OrderId, wanted: impl Fn(&enrollpay::order::Order) -> bool) {
        let mut watch = self.deps.orders.watch(id);
        let work = async {
            loop {
                watch.borrow_and_update();
                let stored = self.deps.orders.read(id).await.unwrap().unwrap();
                if wanted(&stored.order) {
                    return;
                }
                watch.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(10), work)
            .await
            .expect("the order gets there");
    }
}

async fn add_merchant(store: &dyn Store, sealer: &Sealer, n: u128, wishes: &Wishes) -> Caller {
    let merchant = MerchantId::from_ulid(Ulid(n));
    let key = KeyId::from_ulid(Ulid(n));
    let secret = format!("sk_test_{n}_0123456789abcdef");
    let row = key.to_string();
    let place = Place {
        table: "merchant_keys",
        column: "secret",
        row: &row,
    };
    let writes = vec![
        Write::Merchant(Merchant {
            id: merchant,
            name: format!("School {n}"),
            display_name: format!("学校{n}"),
            help_lines: [None, None],
            webhook_url: None,
            webhook_secrets: Vec::new(),
            return_hosts: wishes.return_hosts.clone(),
            duplicate: if wishes.refuse_duplicates {
                DuplicatePolicy::Refuse
            } else {
                DuplicatePolicy::Warn
            },
            masks: Masks::default(),
            payer_must_be_registrant: wishes.payer_must_be_registrant,
            accounts: vec![
                AccountId::new("school-wechat"),
                AccountId::new("school-alipay"),
            ],
            created_at: START,
        }),
        Write::MerchantKey(MerchantKey {
            id: key,
            merchant,
            sealed_secret: sealer.seal(place, secret.as_bytes()),
            created_at: START,
            valid_until: None,
            last_used_at: None,
        }),
    ];
    let transaction = Transaction {
        order: None,
        writes,
    };
    store.commit(vec![transaction]).await.unwrap()[0]
        .clone()
        .unwrap();
    Caller {
        merchant,
        key,
        secret,
    }
}

/// A sound order for ¥140.00.
pub fn new_order(number: &str) -> Value {
    json!({
        "merchant_order_no": number,
        "subject": "2021年4月自学考试报考费",
        "items": [
            { "code": "00024", "name": "普通逻辑", "note": "2021年04月01日 上午", "amount": 3500 },
            { "name": "古代汉语", "amount": 10500 },
        ],
        "amount": 14000,
        "currency": "CNY",
        "payer": {
            "ref": "650102-000123", "name": "测试考生",
            "id_number": "650102200001010011", "phone": "13800000000",
        },
        "metadata": { "exam": "202104" },
    })
}

/// The same with one member changed.
pub fn order_with(pointer: &str, value: Value) -> Value {
    let mut order = new_order("N-1");
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = order.pointer_mut(parent).unwrap();
    match parent {
        Value::Array(values) => values[name.parse::<usize>().unwrap()] = value,
        parent => parent[name] = value,
    }
    order
}
