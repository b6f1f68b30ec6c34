//! A gateway to measure: one that runs already, or one of our own on private ports and a fresh store,
//! with simulated providers beside it. Both are this very program again, each in a process of its own,
//! so that what each of them uses is told apart.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use enrollpay::app::{self, Simulation};
use enrollpay::config::Config;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::Failure;
use crate::processes::Meter;
use crate::receiver::Receiver;

/// How long a start may take.
const START: Duration = Duration::from_mins(1);

/// Where to send the load, and with whose key.
#[derive(Debug)]
pub struct Target {
    pub url: String,
    pub admin_url: Option<String>,
    pub simulator_url: String,
    pub key_id: String,
    pub secret: String,
    own: Option<Own>,
}

/// Processes of ours; they end when this is dropped, and then their folder goes.
#[derive(Debug)]
struct Own {
    gateway: Started,
    simulator: Started,
    _folder: tempfile::TempDir,
}

#[derive(Debug)]
struct Started {
    child: Child,
    log: PathBuf,
}

/// What `serve-gateway` does.
pub fn serve(config: &Path) -> Result<ExitCode, Failure> {
    let config = Config::load(Some(config), std::env::vars())?;
    app::serve(&config, |_| {})?;
    Ok(ExitCode::SUCCESS)
}

/// What `serve-simulator` does: no wallets, no wait before a notice, and books that are kept in memory.
pub fn simulate(listen: SocketAddr, folder: PathBuf) -> Result<ExitCode, Failure> {
    let simulation = Simulation {
        listen,
        folder,
        retry_divisor: 1,
        notify_delay_ms: 0,
        wallets: false,
        keep_books: false,
    };
    app::simulate(&simulation, |_| {})?;
    Ok(ExitCode::SUCCESS)
}

impl Target {
    /// A running gateway, with what `merchant create` printed.
    pub fn running(
        url: &str,
        admin_url: Option<&str>,
        simulator_url: &str,
        credentials: &Path,
    ) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(credentials)
            .map_err(|error| format!("{}: {error}", credentials.display()))?;
        let printed: Value = serde_json::from_str(&text)
            .map_err(|error| format!("{}: {error}", credentials.display()))?;
        Ok(Self {
            url: url.to_owned(),
            admin_url: admin_url.map(str::to_owned),
            simulator_url: simulator_url.to_owned(),
            key_id: member(&printed, "key_id")?,
            secret: member(&printed, "secret")?,
            own: None,
        })
    }

    /// Starts both, and registers a merchant whose webhooks come to `receiver`. With `notices_there`
    /// the providers' notices go to the receiver too, and not to the gateway.
    pub async fn start(
        folder: &Path,
        client: &reqwest::Client,
        receiver: &Receiver,
        notices_there: bool,
    ) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new()
            .prefix("loadtest-")
            .tempdir_in(folder)?;
        let folder_path = folder.path().canonicalize()?;
        let ports = free_ports()?;
        let [public, admin, simulator, demo, any] = ports.map(|port| format!("127.0.0.1:{port}"));
        let simulator_url = format!("http://{simulator}");
        let providers = folder_path.join("providers");
        std::fs::create_dir(&providers)?;
        let mut command = this_program("serve-simulator")?;
        command.arg(&simulator).arg(&providers);
        let mut simulator_process = Started::new(command, providers.join("log"))?;
        let accounts = providers.join("accounts.toml");
        simulator_process
            .until_answers(client, &format!("{simulator_url}/control/clock"))
            .await?;
        simulator_process.until(|| accounts.exists()).await?;

        let store = folder_path.join("enrollpay.db");
        let mut command = this_program("serve-gateway")?;
        command.arg(&accounts);
        let per_second = "1000000";
        for (key, value) in [
            ("SERVER__LISTEN", public.as_str()),
            ("ADMIN__LISTEN", &admin),
            ("CONSOLE__LISTEN", "127.0.0.1:0"),
            ("SIMULATOR__LISTEN", &any),
            ("DEMO__LISTEN", &demo),
            ("STORE__URL", &format!("sqlite:{}", store.display())),
            // The load comes from one address and one merchant: those limits are not what is measured.
            ("LIMITS__ADDRESS_PER_SECOND", per_second),
            ("LIMITS__ADDRESS_BURST", per_second),
            ("LIMITS__MERCHANT_PER_SECOND", per_second),
            ("LIMITS__MERCHANT_BURST", per_second),
        ] {
            command.env(format!("ENROLLPAY__{key}"), value);
        }
        if notices_there {
            command.env("ENROLLPAY__SERVER__PUBLIC_URL", receiver.origin());
        }
        let mut gateway = Started::new(command, folder_path.join("log"))?;
        let admin_url = format!("http://{admin}");
        gateway
            .until_answers(client, &format!("{admin_url}/readyz"))
            .await?;
        let socket = folder_path.join("enrollpay.sock");
        let merchant = register(&socket, &format!("{}/webhooks", receiver.origin())).await?;
        receiver.believe(&member(&merchant, "webhook_secret")?)?;
        Ok(Self {
            url: format!("http://{public}"),
            admin_url: Some(admin_url),
            simulator_url,
            key_id: member(&merchant, "key_id")?,
            secret: member(&merchant, "secret")?,
            own: Some(Own {
                gateway,
                simulator: simulator_process,
                _folder: folder,
            }),
        })
    }

    /// Processor time of our gateway so far, in milliseconds.
    pub fn gateway_ms(&self) -> Option<u64> {
        self.own.as_ref()?.gateway.meter()?.processor_ms()
    }

    /// Processor time of our simulators so far, in milliseconds.
    pub fn simulator_ms(&self) -> Option<u64> {
        self.own.as_ref()?.simulator.meter()?.processor_ms()
    }

    /// Resident memory of a gateway of ours.
    pub fn resident_bytes(&self) -> Option<u64> {
        self.own.as_ref()?.gateway.meter()?.resident_bytes()
    }

    /// Ends what was started.
    pub async fn stop(mut self) -> std::io::Result<()> {
        if let Some(own) = &mut self.own {
            own.gateway.child.kill().await?;
            own.simulator.child.kill().await?;
        }
        Ok(())
    }
}

/// All at once, so that no two are the same.
fn free_ports<const N: usize>() -> std::io::Result<[u16; N]> {
    let listeners: Vec<TcpListener> = (0..N)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

fn this_program(command: &str) -> std::io::Result<Command> {
    let mut program = Command::new(std::env::current_exe()?);
    program.arg(command);
    for (name, _) in std::env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("ENROLLPAY__"))
        {
            program.env_remove(name);
        }
    }
    Ok(program)
}

impl Started {
    fn new(mut command: Command, log: PathBuf) -> std::io::Result<Self> {
        let file = std::fs::File::create(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self { child, log })
    }

    fn meter(&self) -> Option<Meter> {
        self.child.id().map(Meter::of)
    }

    async fn until_answers(&mut self, client: &reqwest::Client, url: &str) -> Result<(), Failure> {
        let deadline = tokio::time::Instant::now() + START;
        loop {
            let answer = client.get(url).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            self.wait(deadline).await?;
        }
    }

    async fn until(&mut self, holds: impl Fn() -> bool) -> Result<(), Failure> {
        let deadline = tokio::time::Instant::now() + START;
        while !holds() {
            self.wait(deadline).await?;
        }
        Ok(())
    }

    async fn wait(&mut self, deadline: tokio::time::Instant) -> Result<(), Failure> {
        if let Some(status) = self.child.try_wait()? {
            let log = std::fs::read_to_string(&self.log)?;
            return Err(format!("a process of the run ended with {status}:\n{log}").into());
        }
        if tokio::time::Instant::now() > deadline {
            return Err(format!("a process of the run was not ready within {START:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(())
    }
}

/// What `enrollpay merchant create` does beside a running node.
async fn register(socket: &Path, webhook_url: &str) -> Result<Value, Failure> {
    let client = reqwest::Client::builder().unix_socket(socket).build()?;
    let answer = client
        .post("http://node/operations")
        .json(&json!({
            "operator": null,
            "operation": {
                "operation": "merchant_create",
                "name": "负载测试考区",
                "webhook_url": webhook_url,
                "accounts": ["wechat=demo-wechat", "alipay=demo-alipay"],
            },
        }))
        .send()
        .await?;
    let done = answer.status().is_success();
    let body: Value = answer.json().await?;
    if done {
        Ok(body)
    } else {
        Err(format!("no merchant was made: {}", body["error"]).into())
    }
}

fn member(printed: &Value, name: &str) -> Result<String, Failure> {
    printed[name]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| format!("the merchant's credentials: expected {name}").into())
}
