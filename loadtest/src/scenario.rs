//! What is measured: each kind of load against a fresh gateway, with the floors before and after it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use url::Url;

use crate::arrivals::{self, Observed};
use crate::floor::{self, Floor};
use crate::gateway::Target;
use crate::merchant::Merchant;
use crate::processes::Meter;
use crate::receiver::{Notice, Receiver};
use crate::report::Figures;
use crate::student::{Student, Surroundings, Wallet};
use crate::{Failure, Load, ramp};

/// How long a single arrival may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two reads of an order whose webhooks go elsewhere.
const READ_EVERY: Duration = Duration::from_millis(200);
/// RSA signatures of one lifecycle, on both sides of the wire, which share this machine. WeChat Pay:
/// our prepay request and pay parameters, the provider's answer and notice. Alipay: our OAuth and
/// trade requests, the provider's two answers and notice. Every second payer uses the other one.
const SIGNATURES_PER_LIFECYCLE: f64 = 4.5;

/// One kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Creates,
    Lifecycles,
    Callbacks,
    Live,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Creates, Self::Lifecycles, Self::Callbacks, Self::Live];

    const fn word(self) -> &'static str {
        match self {
            Self::Creates => "creates",
            Self::Lifecycles => "lifecycles",
            Self::Callbacks => "callbacks",
            Self::Live => "live",
        }
    }

    /// Where the search for the knee begins.
    const fn first_rate(self) -> u32 {
        match self {
            Self::Creates | Self::Live => 200,
            Self::Lifecycles => 25,
            Self::Callbacks => 500,
        }
    }
}

/// Processor time spent so far, in milliseconds: by the gateway, by the simulators, by us.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    gateway: Option<u64>,
    simulators: Option<u64>,
    load: Option<u64>,
    /// Transactions and flushes of the gateway's store.
    store: Option<(f64, f64)>,
}

/// Everything that a load needs.
struct Scene {
    target: Target,
    merchant: Merchant,
    phones: Surroundings,
    /// Where webhooks come; `None` where the gateway is not ours and orders are read instead.
    receiver: Option<Receiver>,
}

/// One run of all `kinds`.
pub async fn run(load: &Load, kinds: &[Kind]) -> Result<Figures, Failure> {
    let mut figures = Figures::default();
    for kind in kinds {
        measure(load, *kind, &mut figures).await?;
    }
    Ok(figures)
}

async fn floors(folder: &Path) -> Result<Floor, Failure> {
    let folder = folder.to_owned();
    tokio::task::spawn_blocking(move || floor::measure(&folder).map_err(|error| error.to_string()))
        .await?
        .map_err(Into::into)
}

async fn measure(load: &Load, kind: Kind, figures: &mut Figures) -> Result<(), Failure> {
    eprintln!("{}: floors", kind.word());
    let before = floors(&load.folder).await?;
    let scene = Scene::set(load, kind == Kind::Callbacks).await?;
    let scene = Arc::new(scene);
    let floor = match kind {
        Kind::Creates => {
            let step = steps(load, kind, &scene, figures, creates(&scene)).await;
            let floor = Floor::between(&before, &floors(&load.folder).await?);
            put(
                figures,
                kind,
                "rate / floor inserts (T4, goal 0.35)",
                step / floor.inserts_per_second,
            );
            floor
        }
        Kind::Lifecycles => {
            let step = steps(load, kind, &scene, figures, lifecycles(&scene)).await;
            let floor = Floor::between(&before, &floors(&load.folder).await?);
            let signing = floor.signatures_per_second / SIGNATURES_PER_LIFECYCLE;
            let bound = signing.min(floor.lifecycles_per_second);
            put(
                figures,
                kind,
                "bound: min(signing, grouped writes)/s",
                bound,
            );
            put(figures, kind, "rate / bound (T13, goal 0.6)", step / bound);
            floor
        }
        Kind::Callbacks => {
            let notice = Arc::new(scene.paid_notice().await?);
            let step = steps(load, kind, &scene, figures, callbacks(&scene, &notice)).await;
            let floor = Floor::between(&before, &floors(&load.folder).await?);
            put(
                figures,
                kind,
                "rate / signature checks",
                step / floor.verifications_per_second,
            );
            floor
        }
        Kind::Live => {
            scene.live(load, figures).await?;
            Floor::between(&before, &floors(&load.folder).await?)
        }
    };
    floor.put(kind, figures);
    if let Ok(scene) = Arc::try_unwrap(scene).map_err(|_| ()) {
        scene.target.stop().await?;
    }
    Ok(())
}

fn put(figures: &mut Figures, kind: Kind, name: &str, value: f64) {
    figures.put(format!("{}: {name}", kind.word()), value);
}

impl Floor {
    /// The machine as it was around a load.
    #[expect(clippy::float_arithmetic, reason = "a report, not money")]
    fn between(before: &Self, after: &Self) -> Self {
        let mean = |of: fn(&Self) -> f64| f64::midpoint(of(before), of(after));
        Self {
            flush: (before.flush + after.flush) / 2,
            inserts_per_second: mean(|floor| floor.inserts_per_second),
            lifecycles_per_second: mean(|floor| floor.lifecycles_per_second),
            signatures_per_second: mean(|floor| floor.signatures_per_second),
            verifications_per_second: mean(|floor| floor.verifications_per_second),
        }
    }

    #[expect(clippy::float_arithmetic, reason = "a report, not money")]
    fn put(&self, kind: Kind, figures: &mut Figures) {
        for (name, value) in [
            (
                "floor flush of 8 KiB, ms",
                self.flush.as_secs_f64() * 1000.0,
            ),
            ("floor inserts/s", self.inserts_per_second),
            (
                "floor grouped lifecycle writes/s",
                self.lifecycles_per_second,
            ),
            (
                "floor RSA-2048 signatures/s, all cores",
                self.signatures_per_second,
            ),
            (
                "floor RSA-2048 checks/s, all cores",
                self.verifications_per_second,
            ),
        ] {
            put(figures, kind, name, value);
        }
    }
}

type Work = std::pin::Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

fn creates(scene: &Arc<Scene>) -> impl Fn(u64) -> Work {
    let scene = Arc::clone(scene);
    move |index| {
        let scene = Arc::clone(&scene);
        Box::pin(async move { scene.merchant.create(index).await.map(drop) })
    }
}

fn lifecycles(scene: &Arc<Scene>) -> impl Fn(u64) -> Work {
    let scene = Arc::clone(scene);
    move |index| {
        let scene = Arc::clone(&scene);
        Box::pin(async move { scene.lifecycle(index).await })
    }
}

fn callbacks(scene: &Arc<Scene>, notice: &Arc<Notice>) -> impl Fn(u64) -> Work {
    let (scene, notice) = (Arc::clone(scene), Arc::clone(notice));
    move |_| {
        let (scene, notice) = (Arc::clone(&scene), Arc::clone(&notice));
        Box::pin(async move { scene.deliver(&notice).await })
    }
}

/// Offers what was asked for and puts the figures of the reported step. Its rate.
async fn steps(
    load: &Load,
    kind: Kind,
    scene: &Arc<Scene>,
    figures: &mut Figures,
    work: impl Fn(u64) -> Work,
) -> f64 {
    let mut arrived = 0;
    let mut spent = Vec::new();
    let mut offer = async |rate: u32, seconds: u32| {
        let first = arrived;
        arrived += u64::from(rate) * u64::from(seconds);
        let before = scene.spent().await;
        let step = arrivals::offer(rate, seconds, PATIENCE, |index| work(first + index)).await;
        spent.push((rate, before, scene.spent().await));
        say(kind, &step);
        // Whatever is still under way inside ends before the next step begins.
        tokio::time::sleep(Duration::from_millis(500)).await;
        step
    };
    // Connections, caches and the first pages of the store.
    offer(
        load.rate
            .unwrap_or(kind.first_rate())
            .min(kind.first_rate()),
        2,
    )
    .await;
    let step = match load.rate {
        Some(rate) => offer(rate, load.seconds).await,
        None => {
            ramp::knee(kind.first_rate(), async |rate| {
                offer(rate, load.seconds).await
            })
            .await
        }
    };
    let of_step = spent
        .iter()
        .rfind(|(rate, ..)| *rate == step.offered_per_second);
    put_step(figures, kind, &step);
    if let Some((_, before, after)) = of_step {
        put_spent(figures, kind, &step, before, after);
    }
    step.achieved_per_second
}

fn say(kind: Kind, step: &Observed) {
    eprintln!(
        "{}: {:>6}/s offered, {:>8.1}/s done, p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms, {} failed {:?}",
        kind.word(),
        step.offered_per_second,
        step.achieved_per_second,
        step.quantile_ms(0.5),
        step.quantile_ms(0.99),
        step.quantile_ms(1.0),
        step.failed(),
        step.errors,
    );
}

#[expect(clippy::cast_precision_loss, reason = "a report, not money")]
fn put_step(figures: &mut Figures, kind: Kind, step: &Observed) {
    put(
        figures,
        kind,
        "offered/s",
        f64::from(step.offered_per_second),
    );
    put(figures, kind, "done/s", step.achieved_per_second);
    for (name, quantile) in [
        ("p50, ms", 0.5),
        ("p90, ms", 0.9),
        ("p99, ms", 0.99),
        ("p99.9, ms", 0.999),
        ("max, ms", 1.0),
    ] {
        put(figures, kind, name, step.quantile_ms(quantile));
    }
    put(figures, kind, "failed", step.failed() as f64);
    for (error, times) in &step.errors {
        figures.fail(&format!("{}: {error}", kind.word()), *times);
    }
}

#[expect(
    clippy::float_arithmetic,
    clippy::cast_precision_loss,
    reason = "a report, not money"
)]
fn put_spent(figures: &mut Figures, kind: Kind, step: &Observed, before: &Spent, after: &Spent) {
    let each = |before: Option<u64>, after: Option<u64>| {
        Some(after?.saturating_sub(before?) as f64 * 1000.0 / step.good().max(1) as f64)
    };
    for (name, value) in [
        ("gateway CPU each, us", each(before.gateway, after.gateway)),
        (
            "simulators' CPU each, us",
            each(before.simulators, after.simulators),
        ),
        ("load's CPU each, us", each(before.load, after.load)),
    ] {
        if let Some(value) = value {
            put(figures, kind, name, value);
        }
    }
    if let (Some(before), Some(after)) = (before.store, after.store) {
        let (transactions, flushes) = (after.0 - before.0, after.1 - before.1);
        if flushes > 0.0 {
            put(
                figures,
                kind,
                "transactions a flush",
                transactions / flushes,
            );
            put(
                figures,
                kind,
                "flushes each",
                flushes / step.good().max(1) as f64,
            );
        }
    }
}

impl Scene {
    async fn set(load: &Load, notices_here: bool) -> Result<Self, Failure> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(PATIENCE)
            .pool_max_idle_per_host(4096)
            .build()?;
        let (target, receiver) = match (&load.url, &load.credentials) {
            (Some(_), _) if notices_here => {
                return Err("callbacks need a gateway of the run's own: leave --url out".into());
            }
            (Some(url), Some(credentials)) => {
                let admin = load.admin_url.as_deref();
                let target = Target::running(url, admin, &load.simulator_url, credentials)?;
                (target, None)
            }
            _ => {
                let receiver = Receiver::start()?;
                let target = Target::start(&load.folder, &client, &receiver, notices_here).await?;
                (target, Some(receiver))
            }
        };
        let run = format!("L{:x}", crate::unix_seconds());
        let merchant = Merchant::new(
            client.clone(),
            &target.url,
            &target.key_id,
            &target.secret,
            &run,
        );
        let phones = Surroundings {
            client,
            gateway: Url::parse(&target.url)?,
            simulator: Url::parse(&target.simulator_url)?,
        };
        Ok(Self {
            target,
            merchant,
            phones,
            receiver,
        })
    }

    async fn spent(&self) -> Spent {
        Spent {
            gateway: self.target.gateway_ms(),
            simulators: self.target.simulator_ms(),
            load: Meter::this().processor_ms(),
            store: self.store_counts().await,
        }
    }

    async fn metrics(&self) -> Option<String> {
        let url = format!("{}/metrics", self.target.admin_url.as_ref()?);
        let answer = self.phones.client.get(url).send().await.ok()?;
        answer.text().await.ok()
    }

    async fn store_counts(&self) -> Option<(f64, f64)> {
        let text = self.metrics().await?;
        let of = |name| sample(&text, name);
        Some((
            of("enrollpay_store_group_size_sum")?,
            of("enrollpay_store_group_size_count")?,
        ))
    }

    async fn resident_bytes(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "a report, not money")]
        let own = self.target.resident_bytes().map(|bytes| bytes as f64);
        match own {
            Some(bytes) => Some(bytes),
            None => sample(&self.metrics().await?, "enrollpay_resident_memory_bytes"),
        }
    }

    /// A new order up to the moment at which the wallet asks for the password: the order's id, the
    /// trade's number at the provider, and the student.
    async fn confirmed(&self, index: u64) -> Result<(String, String, Student<'_>), String> {
        let order = self.merchant.create(index).await?;
        let id = text(&order, "id")?;
        let attempt = self.merchant.start_attempt(&id).await?;
        let number = trade_number(&id, attempt["number"].as_u64().unwrap_or(1));
        let mut student = Student::new(&self.phones, Wallet::of(index), format!("s{index}"));
        student.confirm(&text(&attempt, "qr_content")?).await?;
        Ok((id, number, student))
    }

    async fn lifecycle(&self, index: u64) -> Result<(), String> {
        let (order, number, student) = self.confirmed(index).await?;
        match &self.receiver {
            Some(receiver) => {
                let paid = receiver.paid(&order);
                student.enter_password(&number).await?;
                paid.await.map_err(|_| "no webhook".to_owned())
            }
            None => {
                student.enter_password(&number).await?;
                while self.merchant.read(&order).await?["status"] != "paid" {
                    tokio::time::sleep(READ_EVERY).await;
                }
                Ok(())
            }
        }
    }

    /// The signed notice of an order that was paid by it.
    async fn paid_notice(&self) -> Result<Notice, Failure> {
        let receiver = self.receiver.as_ref().ok_or("no receiver")?;
        // Just below the numbers of the load.
        let (order, number, student) = self.confirmed(u64::MAX - 1).await?;
        let notice = receiver.notice();
        let paid = receiver.paid(&order);
        student.enter_password(&number).await?;
        let notice = tokio::time::timeout(PATIENCE, notice).await??;
        self.deliver(&notice).await?;
        tokio::time::timeout(PATIENCE, paid).await??;
        Ok(notice)
    }

    async fn deliver(&self, notice: &Notice) -> Result<(), String> {
        let url = format!("{}{}", self.target.url, notice.path);
        let mut request = self.phones.client.post(url).body(notice.body.clone());
        for (name, value) in &notice.headers {
            request = request.header(name, value);
        }
        let answer = request
            .send()
            .await
            .map_err(|error| crate::kind_of(&error))?;
        let status = answer.status();
        let _ = answer.bytes().await;
        if status.is_success() {
            Ok(())
        } else {
            Err(format!("notice: {status}"))
        }
    }

    /// What an order with a live code costs in memory: as many orders as arrive get a code, and none
    /// ends meanwhile. The store's caches grow too, so this is more than the order itself.
    #[expect(clippy::float_arithmetic, reason = "a report, not money")]
    async fn live(self: &Arc<Self>, load: &Load, figures: &mut Figures) -> Result<(), Failure> {
        let rate = load.rate.unwrap_or(Kind::Live.first_rate());
        let seconds = load.seconds;
        let orders = Arc::new(std::sync::Mutex::new(Vec::new()));
        let made = arrivals::offer(rate, seconds, PATIENCE, |index| {
            let (scene, orders) = (Arc::clone(self), Arc::clone(&orders));
            async move {
                let order = text(&scene.merchant.create(index).await?, "id")?;
                if let Ok(mut orders) = orders.lock() {
                    orders.push(order);
                }
                Ok(())
            }
        })
        .await;
        say(Kind::Live, &made);
        let before = self.resident_bytes().await;
        let orders = std::mem::take(&mut *orders.lock().map_err(|_| "an arrival panicked")?);
        let orders = Arc::new(orders);
        let codes = arrivals::offer(rate, seconds, PATIENCE, |index| {
            let (scene, orders) = (Arc::clone(self), Arc::clone(&orders));
            async move {
                let order = usize::try_from(index)
                    .ok()
                    .and_then(|index| orders.get(index));
                let order = order.ok_or("an order that was not made")?;
                scene.merchant.start_attempt(order).await.map(drop)
            }
        })
        .await;
        say(Kind::Live, &codes);
        put_step(figures, Kind::Live, &codes);
        if let (Some(before), Some(after)) = (before, self.resident_bytes().await) {
            #[expect(clippy::cast_precision_loss, reason = "a report, not money")]
            let live = codes.good().max(1) as f64;
            put(figures, Kind::Live, "orders with a live code", live);
            put(
                figures,
                Kind::Live,
                "gateway memory before, MiB",
                before / 1_048_576.0,
            );
            put(
                figures,
                Kind::Live,
                "gateway memory after, MiB",
                after / 1_048_576.0,
            );
            put(
                figures,
                Kind::Live,
                "bytes per live order",
                (after - before) / live,
            );
        }
        Ok(())
    }
}

/// The value of a metric without labels.
fn sample(text: &str, name: &str) -> Option<f64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

fn text(value: &Value, name: &str) -> Result<String, String> {
    value[name]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| format!("an answer without {name}"))
}

/// Our number of a trade at its provider: the order's ULID and two digits of base 32 (contract §1).
fn trade_number(order: &str, attempt: u64) -> String {
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let digit = |number: u64| char::from(DIGITS[usize::try_from(number % 32).unwrap_or_default()]);
    let ulid = order.strip_prefix("ord_").unwrap_or(order);
    format!("{ulid}{}{}", digit(attempt / 32), digit(attempt))
}
