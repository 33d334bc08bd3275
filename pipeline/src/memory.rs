//! How much memory the machine can still give.

/// Environment variable with a limit in MiB on what plans may count on, for machines that are shared. What is no
/// number sets no limit.
pub const LIMIT_VARIABLE: &str = "FLASHVIDEO_MEMORY";

/// Bytes that can be taken without swapping, as far as is known: the least of the kernel's estimate, what is left of
/// the control group's limit, and [`LIMIT_VARIABLE`].
pub fn available() -> Option<u64> {
    let system = || parse_meminfo(&std::fs::read_to_string("/proc/meminfo").ok()?);
    let wanted = || parse_limit(&std::env::var(LIMIT_VARIABLE).ok()?);
    [system(), control_group(), wanted()]
        .into_iter()
        .flatten()
        .min()
}

fn parse_limit(text: &str) -> Option<u64> {
    text.trim().parse::<u64>().ok()?.checked_mul(1 << 20)
}

/// `MemAvailable` of /proc/meminfo in bytes.
fn parse_meminfo(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

/// What the limit of a version 2 control group leaves; inside a container it is the container's.
fn control_group() -> Option<u64> {
    let read = |name: &str| -> Option<u64> {
        let text = std::fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok()?;
        text.trim().parse().ok()
    };
    // "max" is no number and means no limit.
    Some(read("memory.max")?.saturating_sub(read("memory.current")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_in_mib() {
        assert_eq!(parse_limit(" 512\n"), Some(512 << 20));
        assert_eq!(parse_limit("much"), None);
        assert_eq!(parse_limit(&u64::MAX.to_string()), None);
    }

    #[test]
    fn meminfo_is_read_in_kib() {
        let text = "MemTotal:       24000000 kB\nMemFree:  1 kB\nMemAvailable:   12345678 kB\n";
        assert_eq!(parse_meminfo(text), Some(12_345_678 * 1024));
        assert_eq!(parse_meminfo("MemTotal: 3 kB\n"), None);
        assert_eq!(parse_meminfo("MemAvailable: lots kB\n"), None);
    }
}
