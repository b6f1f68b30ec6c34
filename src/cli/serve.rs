//! `enrollpay serve`

use super::{FAILED, Failure, WRONG_CONFIGURATION};
use crate::config::Config;

pub(super) fn run(config: &Config) -> Result<(), Failure> {
    crate::app::serve(config, |welcome| {
        super::output::line(format_args!("{welcome}"));
    })
    .map_err(|error| Failure {
        code: if error.is_configuration() {
            WRONG_CONFIGURATION
        } else {
            FAILED
        },
        message: error.to_string(),
    })
}
