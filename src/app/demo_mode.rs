//! What demo mode runs beside the gateway: the simulated providers, and a demo enrolment system that
//! is a merchant like any other.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use serde_json::Value;

use super::demo_keys::{read_or_make, write_secret};
use super::keys::Keys;
use super::{AppError, Foundation, accounts, demo_merchant_file, demo_operators_file};
use crate::config::{Config, Mode};
use crate::demo::{self, Credentials, Demo, School};
use crate::operations::{Hidden, MerchantChanges, Operation, OperationError, Operator};
use crate::order::MerchantId;
use crate::simulator::{self, Simulator};

/// The simulators, before the gateway serves; they are absent where accounts are configured.
pub(super) struct DemoMode {
    simulator: Option<Simulator>,
    /// Where simulators that are not ours are.
    elsewhere: Option<String>,
}

/// Everything of the demo, while the gateway serves; the school may be another process.
pub(super) struct Open {
    mode: DemoMode,
    school: Option<Demo>,
    /// Where the passwords of the demo's operators are, if it made them.
    operators: Option<PathBuf>,
}

impl DemoMode {
    pub(super) fn start(
        config: &Config,
        foundation: &Foundation,
        keys: &Keys,
    ) -> Result<Option<Self>, AppError> {
        if config.mode != Mode::Demo {
            return Ok(None);
        }
        let Some(demo) = keys
            .demo
            .as_ref()
            .filter(|_| accounts::needs_simulators(config))
        else {
            let elsewhere = config.simulator.url.as_deref();
            return Ok(Some(Self {
                simulator: None,
                elsewhere: elsewhere.map(|url| url.trim_end_matches('/').to_owned()),
            }));
        };
        let options = simulator::Options {
            state_file: Some(config.data_folder().join("simulator.json")),
            ..simulator::Options::new(
                free_or_any(config.simulator.listen),
                demo.providers.wechat_options(),
                demo.providers.alipay_options(),
            )
        };
        let simulator =
            simulator::start(options, foundation.clock.clone(), foundation.random.clone())
                .map_err(|error| AppError::Demo(format!("simulator.listen: {error}")))?;
        Ok(Some(Self {
            simulator: Some(simulator),
            elsewhere: None,
        }))
    }

    /// Where the simulators answer, such as `http://127.0.0.1:8083`.
    pub(super) fn simulator_origin(&self) -> Option<&str> {
        self.simulator.as_ref().map(Simulator::origin)
    }

    pub(super) fn wallet_url(&self) -> Option<String> {
        self.simulator_origin()
            .or(self.elsewhere.as_deref())
            .map(|origin| format!("{origin}/wallet"))
    }

    /// Registers the demo school, where this was not done before, and opens it, unless it is another
    /// process.
    pub(super) async fn open(
        self,
        config: &Config,
        foundation: &Foundation,
        keys: &Keys,
    ) -> Result<Open, AppError> {
        let operators = demo_operators(config, foundation, keys).await?;
        let Some(listen) = config.demo.listen else {
            return Ok(Open {
                mode: self,
                school: None,
                operators,
            });
        };
        let mut merchants = Vec::new();
        for school in School::ALL {
            let merchant = demo_merchant(config, foundation, keys, school).await?;
            merchants.push((school, merchant));
        }
        let member = |merchant: &Value, name: &str| {
            let text = merchant[name].as_str();
            text.unwrap_or_default().to_owned()
        };
        let schools = merchants
            .iter()
            .map(|(school, merchant)| {
                let credentials = Credentials {
                    key_id: member(merchant, "key_id"),
                    secret: SecretString::from(member(merchant, "secret")),
                    webhook_secret: SecretString::from(member(merchant, "webhook_secret")),
                };
                (*school, credentials)
            })
            .collect();
        let demo = demo::start(
            demo::Options {
                listen: free_or_any(listen),
                gateway_url: config.public_url(),
                schools,
                folder: Some(config.data_folder()),
            },
            foundation.clock.clone(),
            foundation.random.clone(),
        )
        .await
        .map_err(|error| AppError::Demo(format!("demo.listen: {error}")))?;
        // Its port may differ from start to start.
        for (school, merchant) in &merchants {
            let changes = MerchantChanges {
                webhook_url: Some(format!("http://{}{}", demo.address(), school.webhook())),
                ..MerchantChanges::default()
            };
            set_up(
                config,
                foundation,
                keys,
                &member(merchant, "merchant_id"),
                changes,
            )
            .await?;
        }
        Ok(Open {
            mode: self,
            school: Some(demo),
            operators,
        })
    }
}

impl Open {
    pub(super) fn school_url(&self) -> Option<String> {
        let school = self.school.as_ref()?;
        Some(format!("http://{}/", school.address()))
    }

    pub(super) fn wallet_url(&self) -> Option<String> {
        self.mode.wallet_url()
    }

    pub(super) fn operators_file(&self) -> Option<&Path> {
        self.operators.as_deref()
    }

    pub(super) async fn stop(self) {
        if let Some(school) = self.school {
            school.stop().await;
        }
        if let Some(simulator) = self.mode.simulator {
            simulator.stop().await;
        }
    }
}

/// Who sets the demo up: nobody but this process.
fn operator() -> Result<Operator, AppError> {
    Ok(Operator::of(super::commands::own_user(), Some("demo"))?)
}

/// A school's name on the cashier, and whom to call: about paying, and about the fee.
const fn names(school: School) -> [&'static str; 3] {
    match school {
        School::SelfStudy => [
            "新疆维吾尔自治区自学考试（演示）",
            "0991-0000000（演示号码）",
            "0991-0000001（演示号码）",
        ],
        School::Tuition => [
            "医学院计划财务处（演示）",
            "0535-0000000（演示号码）",
            "0535-0000001（演示号码）",
        ],
        School::Language => [
            "学士学位外语考试办公室（演示）",
            "0731-0000000（演示号码）",
            "0731-0000001（演示号码）",
        ],
    }
}

async fn set_up(
    config: &Config,
    foundation: &Foundation,
    keys: &Keys,
    merchant: &str,
    changes: MerchantChanges,
) -> Result<(), AppError> {
    let set = Operation::MerchantSet {
        merchant: merchant.to_owned(),
        changes,
    };
    super::operations(config, foundation, keys)
        .run(&operator()?, set)
        .await?;
    Ok(())
}

/// A demo school's key and secrets, from the file beside the store, or from a new registration.
async fn demo_merchant(
    config: &Config,
    foundation: &Foundation,
    keys: &Keys,
    school: School,
) -> Result<Value, AppError> {
    let path = demo_merchant_file(config, school);
    if path.exists() {
        let kept: Value = read_or_make(&path, || Ok(Value::Null))?;
        let id: Option<MerchantId> = kept["merchant_id"].as_str().and_then(|id| id.parse().ok());
        if let Some(id) = id
            && foundation.store.merchant(id).await?.is_some()
        {
            return Ok(kept);
        }
    }
    let operations = super::operations(config, foundation, keys);
    let mut accounts: Vec<String> = Vec::new();
    for (account, wallet) in &operations.accounts {
        let prefix = format!("{}=", wallet.as_str());
        if !accounts.iter().any(|chosen| chosen.starts_with(&prefix)) {
            accounts.push(format!("{prefix}{account}"));
        }
    }
    let [name, help_payment, help_fee] = names(school);
    let merchant = operations
        .run(
            &operator()?,
            Operation::MerchantCreate {
                name: name.to_owned(),
                webhook_url: None,
                accounts,
            },
        )
        .await?;
    let changes = MerchantChanges {
        help_payment: Some(help_payment.to_owned()),
        help_fee: Some(help_fee.to_owned()),
        payer_must_be_registrant: Some(school == School::Language),
        ..MerchantChanges::default()
    };
    let merchant_id = merchant["merchant_id"].as_str().unwrap_or_default();
    set_up(config, foundation, keys, merchant_id, changes).await?;
    write_secret(&path, &merchant)
        .map_err(|error| AppError::Demo(format!("{}: {error}", path.display())))?;
    Ok(merchant)
}

/// Two operators of the console, for odd money takes two people. Their passwords stand in a file beside
/// the store; of operators that another node's demo made, that node has it.
async fn demo_operators(
    config: &Config,
    foundation: &Foundation,
    keys: &Keys,
) -> Result<Option<PathBuf>, AppError> {
    const NAMES: [&str; 2] = ["li.wei", "wang.fang"];
    let path = demo_operators_file(config);
    if config.console.listen.is_none() {
        return Ok(None);
    }
    if !path.exists() {
        for name in NAMES {
            if foundation.store.operator(name).await?.is_some() {
                return Ok(None);
            }
        }
    }
    let kept: BTreeMap<String, String> = read_or_make(&path, || {
        let password = || foundation.random.hex::<8>();
        Ok(NAMES.map(|name| (name.to_owned(), password())).into())
    })?;
    let operations = super::operations(config, foundation, keys);
    let by = operator()?;
    for (name, password) in kept {
        if foundation.store.operator(&name).await?.is_some() {
            continue;
        }
        let create = Operation::OperatorCreate {
            name,
            password: Some(Hidden(password)),
        };
        match operations.run(&by, create).await {
            // Another node was faster.
            Ok(_) | Err(OperationError::State(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Some(path))
}

/// The address that was asked for, or any free port of it where it is taken: two demos may run.
pub(super) fn free_or_any(listen: SocketAddr) -> SocketAddr {
    if std::net::TcpListener::bind(listen).is_ok() {
        listen
    } else {
        SocketAddr::new(listen.ip(), 0)
    }
}
