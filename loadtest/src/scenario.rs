//! What is measured: each kind of load against a fresh gateway, with the floors before and after it.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::arrivals::{self, Observed};
use crate::floor::{self, Floor};
use crate::receiver::Notice;
use crate::report::Figures;
use crate::scene::{PATIENCE, Scene, Spent, text};
use crate::{Failure, Load, ramp};

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

#[expect(clippy::float_arithmetic, reason = "a report, not money")]
async fn measure(load: &Load, kind: Kind, figures: &mut Figures) -> Result<(), Failure> {
    eprintln!("{}: floors", kind.word());
    let before = floors(&load.folder).await?;
    let scene = Arc::new(Scene::set(load, kind == Kind::Callbacks).await?);
    let rate = match kind {
        Kind::Creates => steps(load, kind, &scene, figures, creates(&scene)).await,
        Kind::Lifecycles => steps(load, kind, &scene, figures, lifecycles(&scene)).await,
        Kind::Callbacks => {
            let notice = Arc::new(scene.paid_notice().await?);
            steps(load, kind, &scene, figures, callbacks(&scene, &notice)).await
        }
        Kind::Live => live(load, &scene, figures).await?,
    };
    let floor = Floor::between(&before, &floors(&load.folder).await?);
    let mut ratio = |name: &str, bound: f64| put(figures, kind, name, rate / bound);
    match kind {
        Kind::Creates => ratio(
            "rate / floor inserts (T4, goal 0.35)",
            floor.inserts_per_second,
        ),
        Kind::Lifecycles => {
            let signing = floor.signatures_per_second / SIGNATURES_PER_LIFECYCLE;
            let bound = signing.min(floor.lifecycles_per_second);
            ratio("rate / bound (T13, goal 0.6)", bound);
            put(
                figures,
                kind,
                "bound: min(signing, grouped writes)/s",
                bound,
            );
        }
        Kind::Callbacks => ratio("rate / signature checks", floor.verifications_per_second),
        Kind::Live => {}
    }
    floor.put(kind, figures);
    if let Ok(scene) = Arc::try_unwrap(scene) {
        scene.target.stop().await?;
    }
    Ok(())
}

fn put(figures: &mut Figures, kind: Kind, name: &str, value: f64) {
    figures.put(format!("{}: {name}", kind.word()), value);
}

impl Floor {
    /// The machine as it was around a load.
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

/// What an order with a live code costs in memory: as many orders as arrive get a code, and none
/// ends meanwhile. The store's caches grow too, so this is more than the order itself.
#[expect(clippy::float_arithmetic, reason = "a report, not money")]
async fn live(load: &Load, scene: &Arc<Scene>, figures: &mut Figures) -> Result<f64, Failure> {
    let rate = load.rate.unwrap_or(Kind::Live.first_rate());
    let seconds = load.seconds;
    let orders = Arc::new(Mutex::new(Vec::new()));
    let made = arrivals::offer(rate, seconds, PATIENCE, |index| {
        let (scene, orders) = (Arc::clone(scene), Arc::clone(&orders));
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
    let before = scene.resident_bytes().await;
    let orders = std::mem::take(&mut *orders.lock().map_err(|_| "an arrival panicked")?);
    let orders = Arc::new(orders);
    let codes = arrivals::offer(rate, seconds, PATIENCE, |index| {
        let (scene, orders) = (Arc::clone(scene), Arc::clone(&orders));
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
    if let (Some(before), Some(after)) = (before, scene.resident_bytes().await) {
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
    Ok(codes.achieved_per_second)
}
