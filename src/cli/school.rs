//! `enrollpay school`: the demo enrolment systems alone.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{Failure, call};
use crate::app;
use crate::config::Config;
use crate::demo;

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  enrollpay merchant create --name 演示 --webhook-url http://127.0.0.1:9084/webhook \\\n    --account wechat=demo-wechat --account alipay=demo-alipay > school.json\n  enrollpay school --listen 127.0.0.1:9084 --credentials school.json --folder school"
)]
pub(super) struct School {
    #[arg(long, default_value = "127.0.0.1:8084")]
    listen: SocketAddr,
    /// The examination office: a file with what `merchant create` printed; its webhook is /webhook here.
    #[arg(long)]
    credentials: PathBuf,
    /// The university with its bills; its webhook is /tuition/webhook here.
    #[arg(long)]
    tuition: Option<PathBuf>,
    /// The language examination; its webhook is /language/webhook here.
    #[arg(long)]
    language: Option<PathBuf>,
    /// The gateway; server.public_url by default.
    #[arg(long)]
    url: Option<String>,
    /// Where registrations and notices are kept.
    #[arg(long, default_value = "data")]
    folder: PathBuf,
}

impl School {
    pub(super) fn run(self, config: &Config) -> Result<(), Failure> {
        let files = [
            (demo::School::SelfStudy, Some(self.credentials)),
            (demo::School::Tuition, self.tuition),
            (demo::School::Language, self.language),
        ];
        let mut schools = Vec::new();
        for (school, file) in files {
            if let Some(file) = file {
                schools.push((school, credentials(&file)?));
            }
        }
        app::school(
            app::School {
                listen: self.listen,
                gateway_url: self.url.unwrap_or_else(|| config.public_url()),
                schools,
                folder: self.folder,
            },
            |welcome| super::output::line(format_args!("{welcome}")),
        )
        .map_err(Failure::new)
    }
}

fn credentials(file: &Path) -> Result<demo::Credentials, Failure> {
    let merchant = call::read_credentials(file)?;
    let webhook_secret = merchant.webhook_secret.ok_or_else(|| {
        Failure::new(format!(
            "{}: no webhook_secret; expected what `merchant create` printed",
            file.display()
        ))
    })?;
    Ok(demo::Credentials {
        key_id: merchant.key_id,
        secret: merchant.secret,
        webhook_secret,
    })
}
