//! A gateway to measure: one that runs already, or one of our own, in a process of its own, on private
//! ports and a fresh store.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::{Child, Command};

/// Where to send the load, and with whose key.
#[derive(Debug)]
pub struct Target {
    pub url: String,
    pub admin_url: String,
    pub simulator_url: String,
    pub key_id: String,
    pub secret: String,
    /// Dropped last: it ends the process.
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    child: Child,
    _folder: tempfile::TempDir,
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Target {
    /// A running gateway, with what `merchant create` printed.
    pub fn running(
        url: &str,
        admin_url: &str,
        simulator_url: &str,
        credentials: &Path,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let (key_id, secret) = read_credentials(credentials)?;
        Ok(Self {
            url: url.to_owned(),
            admin_url: admin_url.to_owned(),
            simulator_url: simulator_url.to_owned(),
            key_id,
            secret,
            own: None,
        })
    }

    /// Starts `enrollpay serve` from this very program, in demo mode: the real connectors against the
    /// simulators, on the embedded store.
    pub async fn start(client: &reqwest::Client) -> Result<Self, Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let ports = [free_port()?, free_port()?, free_port()?, free_port()?];
        let [public, admin, simulator, demo] = ports.map(|port| format!("127.0.0.1:{port}"));
        let log = std::fs::File::create(folder.path().join("log"))?;
        let mut child = Command::new(std::env::current_exe()?)
            .arg("serve-gateway")
            .env("ENROLLPAY__SERVER__LISTEN", &public)
            .env("ENROLLPAY__ADMIN__LISTEN", &admin)
            .env("ENROLLPAY__SIMULATOR__LISTEN", &simulator)
            .env("ENROLLPAY__DEMO__LISTEN", &demo)
            .env("ENROLLPAY__LOG__FILTER", "warn")
            // The load comes from one address: the limits per address are not what is measured.
            .env("ENROLLPAY__LIMITS__ADDRESS_PER_SECOND", "1000000")
            .env("ENROLLPAY__LIMITS__ADDRESS_BURST", "1000000")
            .env("ENROLLPAY__LIMITS__MERCHANT_PER_SECOND", "1000000")
            .env("ENROLLPAY__LIMITS__MERCHANT_BURST", "1000000")
            .env(
                "ENROLLPAY__STORE__URL",
                format!("sqlite:{}", folder.path().join("enrollpay.db").display()),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let admin_url = format!("http://{admin}");
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            let ready = client.get(format!("{admin_url}/readyz")).send().await;
            if ready.is_ok_and(|answer| answer.status().is_success()) {
                break;
            }
            if let Some(status) = child.try_wait()? {
                let log = std::fs::read_to_string(folder.path().join("log"))?;
                return Err(format!("the gateway ended with {status}: {log}").into());
            }
            if tokio::time::Instant::now() > deadline {
                return Err("the gateway was not ready within 60 s".into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let (key_id, secret) = read_credentials(&folder.path().join("demo-merchant.json"))?;
        Ok(Self {
            url: format!("http://{public}"),
            admin_url,
            simulator_url: format!("http://{simulator}"),
            key_id,
            secret,
            own: Some(Own {
                child,
                _folder: folder,
            }),
        })
    }

    /// The folder in which floors are measured: the disk of the gateway's own store.
    pub fn floor_folder(&self) -> std::io::Result<tempfile::TempDir> {
        tempfile::tempdir()
    }

    /// Ends a gateway of our own in good order.
    pub async fn stop(mut self) -> std::io::Result<()> {
        if let Some(own) = &mut self.own {
            own.child.kill().await?;
        }
        Ok(())
    }
}

fn read_credentials(path: &Path) -> Result<(String, String), Box<dyn std::error::Error>> {
    let value: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    let member = |name: &str| {
        value[name]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| format!("{}: no {name}", path.display()))
    };
    Ok((member("key_id")?, member("secret")?))
}
