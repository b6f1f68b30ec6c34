//! The simulators in a process of their own: they outlive a gateway that is killed, as the real
//! providers do.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::AppError;
use super::demo_keys::{DemoKeys, write_file};
use super::node::wait_for_signal;
use crate::clock::{Clock, SystemClock};
use crate::random::{Random, SystemRandom};
use crate::{simulator, telemetry};

/// How the simulators are started.
#[derive(Clone, Debug)]
pub struct Simulation {
    pub listen: SocketAddr,
    pub folder: PathBuf,
    pub retry_divisor: u32,
    pub notify_delay_ms: u64,
    pub wallets: bool,
    /// Write the books to disk after every step; without, they end with the process, and a long run
    /// does not grow slower as they grow.
    pub keep_books: bool,
}

/// Runs them until SIGTERM or SIGINT.
pub fn simulate(simulation: &Simulation, announce: impl Fn(&str)) -> Result<(), AppError> {
    telemetry::install(
        telemetry::Format::of_standard_error(),
        "info,actix_server=warn",
    );
    actix_web::rt::System::new().block_on(async {
        let folder = &simulation.folder;
        std::fs::create_dir_all(folder)
            .map_err(|error| AppError::Demo(format!("{}: {error}", folder.display())))?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let random: Arc<dyn Random> = Arc::new(SystemRandom);
        let keys = DemoKeys::at(
            &folder.join("demo-keys.json"),
            clock.as_ref(),
            random.as_ref(),
        )?;
        let options = simulator::Options {
            state_file: simulation
                .keep_books
                .then(|| folder.join("simulator.json")),
            retry_divisor: simulation.retry_divisor,
            notify_delay_ms: simulation.notify_delay_ms,
            wallet_browsers: simulation.wallets,
            ..simulator::Options::new(
                simulation.listen,
                keys.providers.wechat_options(),
                keys.providers.alipay_options(),
            )
        };
        let running = simulator::start(options, clock, random)
            .map_err(|error| AppError::Demo(error.to_string()))?;
        let accounts = folder.join("accounts.toml");
        write_file(&accounts, accounts_toml(&keys, running.origin()).as_bytes())
            .map_err(|error| AppError::Demo(format!("{}: {error}", accounts.display())))?;
        announce(&format!(
            "simulated WeChat Pay and Alipay: {origin}\nwallets:                          {origin}/wallet\naccounts for a gateway:           {}\n",
            accounts.display(),
            origin = running.origin(),
        ));
        wait_for_signal().await?;
        running.stop().await;
        Ok(())
    })
}

/// The accounts in the form of a gateway's configuration.
fn accounts_toml(keys: &DemoKeys, origin: &str) -> String {
    let (wechat, alipay) = (&keys.providers.wechat, &keys.providers.alipay);
    format!(
        r#"[[account]]
id = "demo-wechat"
provider = "wechatpay"
mchid = "{mchid}"
appid = "{appid}"
app_secret = "{app_secret}"
api_v3_key = "{api_v3_key}"
certificate_serial = "{serial}"
platform_public_key_id = "{key_id}"
platform_public_key = """{platform_key}"""
private_key = """{merchant_key}"""
base_url = "{origin}"
oauth_base_url = "{origin}"
openid_base_url = "{origin}"
h5 = true
payer_identity = true

[[account]]
id = "demo-alipay"
provider = "alipay"
app_id = "{app_id}"
seller_id = "{seller_id}"
alipay_public_key = """{alipay_key}"""
private_key = """{app_key}"""
base_url = "{origin}/gateway.do"
oauth_base_url = "{origin}"
payer_identity = true
"#,
        mchid = wechat.mchid,
        appid = wechat.appid,
        app_secret = wechat.app_secret,
        api_v3_key = wechat.api_v3_key,
        serial = wechat.merchant_certificate_serial,
        key_id = wechat.platform_public_key_id,
        platform_key = wechat.platform_public_key_pem,
        merchant_key = wechat.merchant_private_key_pem,
        app_id = alipay.app_id,
        seller_id = alipay.seller_id,
        alipay_key = alipay.alipay_public_key_pem,
        app_key = alipay.app_private_key_pem,
    )
}
