//! What a process has used, as the kernel tells.

use std::path::Path;

/// A process of this run, by its place in `/proc`.
#[derive(Clone, Debug)]
pub struct Meter(String);

impl Meter {
    pub fn of(pid: u32) -> Self {
        Self(format!("/proc/{pid}"))
    }

    pub fn this() -> Self {
        Self("/proc/self".to_owned())
    }

    /// Processor time so far, user and system, in milliseconds. The kernel counts in hundredths.
    pub fn processor_ms(&self) -> Option<u64> {
        let stat = std::fs::read_to_string(Path::new(&self.0).join("stat")).ok()?;
        // The name in brackets may hold anything; what follows the last one is numbers.
        let (_, numbers) = stat.rsplit_once(')')?;
        let mut ticks = numbers.split_whitespace().skip(11);
        let user: u64 = ticks.next()?.parse().ok()?;
        let system: u64 = ticks.next()?.parse().ok()?;
        Some((user + system) * 10)
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(Path::new(&self.0).join("status")).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes * 1024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_something() {
        let meter = Meter::this();
        assert!(meter.processor_ms().is_some());
        assert!(meter.resident_bytes().is_some_and(|bytes| bytes > 100_000));
    }
}
