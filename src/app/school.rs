//! The demo enrolment systems in a process of its own: it stays while nodes of the gateway come and go.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::AppError;
use super::node::wait_for_signal;
use crate::clock::SystemClock;
use crate::demo;
use crate::random::SystemRandom;
use crate::telemetry;

/// How the schools are started, and as whom they call the gateway.
#[derive(Clone, Debug)]
pub struct School {
    pub listen: SocketAddr,
    pub gateway_url: String,
    pub schools: Vec<(demo::School, demo::Credentials)>,
    /// Where registrations and notices are kept.
    pub folder: PathBuf,
}

/// Runs it until SIGTERM or SIGINT.
pub fn school(school: School, announce: impl Fn(&str)) -> Result<(), AppError> {
    telemetry::install(
        telemetry::Format::of_standard_error(),
        "info,actix_server=warn",
    );
    actix_web::rt::System::new().block_on(async {
        std::fs::create_dir_all(&school.folder)
            .map_err(|error| AppError::Demo(format!("{}: {error}", school.folder.display())))?;
        let running = demo::start(
            demo::Options {
                listen: school.listen,
                gateway_url: school.gateway_url,
                schools: school.schools,
                folder: Some(school.folder),
            },
            Arc::new(SystemClock),
            Arc::new(SystemRandom),
        )
        .await
        .map_err(|error| AppError::Demo(error.to_string()))?;
        announce(&format!("demo school: http://{}/\n", running.address()));
        wait_for_signal().await?;
        running.stop().await;
        Ok(())
    })
}
