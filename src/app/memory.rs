//! Keys and people are in this process's memory: in production it is written to no core file, and no
//! other process of the same user may look into it (reliability P1).

use super::AppError;

/// From here on this process leaves no image of its memory.
pub(super) fn keep_private() -> Result<(), AppError> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let failed = |error: rustix::io::Errno| AppError::Start(format!("core files: {error}"));
    setrlimit(Resource::Core, none).map_err(failed)?;
    // A pipe that collects core files heeds no limit.
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(failed)?;
    Ok(())
}
