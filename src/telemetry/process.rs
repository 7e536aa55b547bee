//! Facts about this process from `proc(5)`, for the `process_*` metrics.

use std::{fs, sync::OnceLock};

/// Unit of the CPU and start times in `/proc`: `USER_HZ`, which the kernel's ABI fixes at 100 on
/// every architecture that this program is built for.
const TICKS_PER_SECOND: f64 = 100.0;

const BYTES_PER_KIB: u64 = 1_024;

/// One reading. A value that could not be read is `None`, and its metric is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessInfo {
    /// User and system time, in seconds.
    pub cpu_seconds: Option<f64>,
    /// Resident memory, in bytes.
    pub resident_bytes: Option<u64>,
    /// Virtual memory, in bytes.
    pub virtual_bytes: Option<u64>,
    /// Open descriptors.
    pub open_fds: Option<u64>,
    /// Soft limit on open descriptors; `u64::MAX` when unlimited.
    pub max_fds: Option<u64>,
    /// Start time, in seconds since 1970.
    pub start_time_seconds: Option<f64>,
    /// Number of threads.
    pub threads: Option<u64>,
}

impl ProcessInfo {
    /// Reads `/proc/self`. A file that is missing or reads otherwise than expected leaves gaps.
    pub fn read() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let stat = text("/proc/self/stat");
        let status = text("/proc/self/status");
        Self {
            cpu_seconds: cpu_seconds(&stat),
            resident_bytes: status_value(&status, "VmRSS:").map(|kib| kib * BYTES_PER_KIB),
            virtual_bytes: status_value(&status, "VmSize:").map(|kib| kib * BYTES_PER_KIB),
            open_fds: open_fds(),
            max_fds: max_fds(&text("/proc/self/limits")),
            start_time_seconds: start_time(&stat),
            threads: status_value(&status, "Threads:"),
        }
    }
}

/// Field of `/proc/self/stat` by its number in proc(5). The second field, the command in
/// parentheses, may hold spaces and parentheses itself: the others are counted from its end.
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    const FIRST_AFTER_COMMAND: usize = 3;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(number.checked_sub(FIRST_AFTER_COMMAND)?)?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    const USER: usize = 14;
    const SYSTEM: usize = 15;
    Some((stat_field(stat, USER)? + stat_field(stat, SYSTEM)?) / TICKS_PER_SECOND)
}

fn status_value(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn max_fds(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        soft => soft.parse().ok(),
    }
}

/// Since Linux 6.2 the size of the directory is the number of descriptors; before, it is 0 and the
/// entries must be counted, without the one that the counting itself opens.
fn open_fds() -> Option<u64> {
    let size = fs::metadata("/proc/self/fd").ok()?.len();
    if size > 0 {
        return Some(size);
    }
    Some((fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1))
}

/// Boot time plus the process's start after boot. Read once: `/proc/stat` is costly on large
/// machines, and the result would move when somebody sets the clock.
fn start_time(stat: &str) -> Option<f64> {
    const START: usize = 22;
    static START_TIME_SECONDS: OnceLock<Option<f64>> = OnceLock::new();
    *START_TIME_SECONDS.get_or_init(|| {
        let boot = fs::read_to_string("/proc/stat").ok()?;
        let boot: f64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()?;
        Some(boot + stat_field(stat, START)? / TICKS_PER_SECOND)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "7 (a) b (c) S 1 7 7 0 -1 4194560 5 0 0 0 150 50 0 0 20 0 3 0 12345 9 8";

    #[test]
    fn a_command_with_parentheses_does_not_shift_the_fields() {
        assert_eq!(cpu_seconds(STAT), Some(2.0));
        assert_eq!(stat_field(STAT, 22), Some(12_345.0));
    }

    #[test]
    fn strange_files_leave_gaps() {
        for text in ["", "1 (x", "1 (x) S", "Max open files", "VmRSS:", "VmRSS: many kB"] {
            assert_eq!(cpu_seconds(text), None);
            assert_eq!(status_value(text, "VmRSS:"), None);
            assert_eq!(max_fds(text), None);
        }
    }

    #[test]
    fn limits_are_read_with_unlimited() {
        let line = "Max open files            1024                 524288               files\n";
        assert_eq!(max_fds(line), Some(1_024));
        assert_eq!(max_fds("Max open files   unlimited unlimited files"), Some(u64::MAX));
    }

    #[test]
    fn this_process_has_everything() {
        let before = ProcessInfo::read();
        assert!(before.resident_bytes.unwrap() > 0);
        assert!(before.virtual_bytes.unwrap() >= before.resident_bytes.unwrap());
        assert!(before.threads.unwrap() >= 1);
        assert!(before.open_fds.unwrap() >= 1);
        assert!(before.max_fds.unwrap() >= before.open_fds.unwrap());
        assert!(before.start_time_seconds.unwrap() > 1.0e9);
        assert!(before.cpu_seconds.is_some());
    }
}
