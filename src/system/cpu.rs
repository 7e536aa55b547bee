//! Processors that may be used, and pinning to one.

use std::fs;

use core_affinity::CoreId;

/// A processor that a worker may be pinned to.
#[derive(Clone, Copy, Debug)]
pub struct Processor(CoreId);

impl Processor {
    /// The kernel's number for it.
    pub const fn number(self) -> usize {
        self.0.id
    }

    /// Pins the calling thread to it; false when the kernel refuses.
    pub fn pin(self) -> bool {
        core_affinity::set_for_current(self.0)
    }
}

/// The processors of this process's affinity mask. Ask before any thread is pinned.
pub fn available() -> Vec<Processor> {
    core_affinity::get_core_ids().unwrap_or_default().into_iter().map(Processor).collect()
}

/// Number of workers worth starting: the affinity mask, or the cgroup's CPU quota (rounded up)
/// when that is smaller. `core_affinity` knows the mask only.
pub fn usable(available: &[Processor]) -> usize {
    let mask = available.len().max(1);
    quota().map_or(mask, |quota| mask.min(quota)).max(1)
}

fn quota() -> Option<usize> {
    let path = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = path.lines().find_map(|line| line.strip_prefix("0::"))?.trim_start_matches('/');
    // The limit of any enclosing group applies, so each level up to the root is read.
    let mut directory = std::path::PathBuf::from("/sys/fs/cgroup").join(own);
    let mut least: Option<usize> = None;
    while directory.starts_with("/sys/fs/cgroup") {
        if let Some(cores) =
            fs::read_to_string(directory.join("cpu.max")).ok().and_then(|t| parse_cpu_max(&t))
        {
            least = Some(least.map_or(cores, |l| l.min(cores)));
        }
        if !directory.pop() {
            break;
        }
    }
    least
}

/// `cpu.max` is "QUOTA PERIOD" or "max PERIOD", in microseconds (Linux `cgroup-v2.rst`).
fn parse_cpu_max(text: &str) -> Option<usize> {
    let mut words = text.split_whitespace();
    let quota: u64 = words.next()?.parse().ok()?;
    let period: u64 = words.next()?.parse().ok()?;
    usize::try_from(quota.div_ceil(period.max(1)).max(1)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_max_is_rounded_up_and_max_means_none() {
        assert_eq!(parse_cpu_max("150000 100000\n"), Some(2));
        assert_eq!(parse_cpu_max("50000 100000"), Some(1));
        assert_eq!(parse_cpu_max("max 100000"), None);
        assert_eq!(parse_cpu_max(""), None);
    }

    #[test]
    fn at_least_one_worker_is_usable() {
        assert!(usable(&[]) >= 1);
        assert!(usable(&available()) >= 1);
    }
}
