//! Everything around one load: the gateway, its merchant, the students' phones, and where webhooks come.

use std::time::Duration;

use serde_json::Value;
use url::Url;

use crate::gateway::Target;
use crate::merchant::Merchant;
use crate::processes::Meter;
use crate::receiver::{Notice, Receiver};
use crate::student::{Student, Surroundings, Wallet};
use crate::{Failure, Load};

/// How long a single arrival may take.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Between two reads of an order whose webhooks go elsewhere.
const READ_EVERY: Duration = Duration::from_millis(200);

/// Processor time spent so far, in milliseconds: by the gateway, by the simulators, by us.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    pub gateway: Option<u64>,
    pub simulators: Option<u64>,
    pub load: Option<u64>,
    /// Transactions and flushes of the gateway's store.
    pub store: Option<(f64, f64)>,
}

/// Everything that a load needs.
#[derive(Debug)]
pub struct Scene {
    pub target: Target,
    pub merchant: Merchant,
    phones: Surroundings,
    /// Where webhooks come; `None` where the gateway is not ours and orders are read instead.
    receiver: Option<Receiver>,
}

impl Scene {
    /// Starts a gateway, or takes the one that runs. `notices_here`: the providers' notices come to the
    /// receiver first.
    pub async fn set(load: &Load, notices_here: bool) -> Result<Self, Failure> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(PATIENCE)
            .pool_max_idle_per_host(4096)
            // Shorter than the gateway keeps them.
            .pool_idle_timeout(Duration::from_secs(10))
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

    /// What everybody has used so far.
    pub async fn spent(&self) -> Spent {
        Spent {
            gateway: self.target.gateway_ms(),
            simulators: self.target.simulator_ms(),
            load: Meter::this().processor_ms(),
            store: self.store_counts().await,
        }
    }

    /// The gateway's own metrics, where they can be reached.
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

    /// The gateway's resident memory.
    pub async fn resident_bytes(&self) -> Option<f64> {
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

    /// One payment from its order to its signed webhook (or, at a foreign gateway, to `paid`).
    pub async fn lifecycle(&self, index: u64) -> Result<(), String> {
        let (order, number, student) = self.confirmed(index).await?;
        if let Some(receiver) = &self.receiver {
            let paid = receiver.paid(&order);
            student.enter_password(&number).await?;
            return paid.await.map_err(|_| "no webhook".to_owned());
        }
        student.enter_password(&number).await?;
        while self.merchant.read(&order).await?["status"] != "paid" {
            tokio::time::sleep(READ_EVERY).await;
        }
        Ok(())
    }

    /// The signed notice of an order that was paid by it.
    pub async fn paid_notice(&self) -> Result<Notice, Failure> {
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

    /// Delivers a notice once; anything but an acknowledgement is an error.
    pub async fn deliver(&self, notice: &Notice) -> Result<(), String> {
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
}

/// The value of a metric without labels.
fn sample(text: &str, name: &str) -> Option<f64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// A member of an answer that is a text.
pub fn text(value: &Value, name: &str) -> Result<String, String> {
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
