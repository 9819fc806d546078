//! What the operating system says about this process.

use std::time::Duration;

/// The kernel reports times in these, on every Linux architecture.
const TICKS_PER_SECOND: u64 = 100;
/// The page size of every Linux machine we build for.
const PAGE_BYTES: u64 = 4096;

/// Resident memory in bytes; `None` where there is no `/proc`.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    let line = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * PAGE_BYTES)
}

/// User and system time since the start; `None` where there is no `/proc`.
#[must_use]
pub fn cpu_time() -> Option<Duration> {
    let line = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may hold anything; count from behind it.
    let mut fields = line.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 1000 / TICKS_PER_SECOND))
}

/// Name of this machine, of this pod in Kubernetes; `None` where there is no `/proc`.
#[must_use]
pub fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// Number of this process.
#[must_use]
pub fn id() -> u32 {
    std::process::id()
}

/// Cores that this process may use, at least 1.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Memory touched from now on comes in small pages. The allocator asks for huge ones, of 2 MiB each, and an idle process then
/// holds 70 MiB instead of 28; no difference in speed was measured.
pub fn use_small_pages() {
    // Refused only where the kernel knows no such switch, and then there are no huge pages either.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// Files made from now on are for this user only: they hold messages and keys.
pub fn keep_files_private() {
    let _ = rustix::process::umask(rustix::fs::Mode::from_bits_truncate(0o077));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_process_has_memory_and_a_core() {
        assert!(resident_bytes().is_none_or(|bytes| bytes > 1 << 20));
        assert!(cores() >= 1);
    }
}
