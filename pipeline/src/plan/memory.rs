// SPDX-License-Identifier: MPL-2.0
//! How much memory the machine and its devices can still give.

use candle_core::Device;

/// Environment variable with a limit in MiB on what plans may count on, of the CPU's memory and of a GPU's alike, for
/// machines that are shared. What is no number sets no limit.
pub const LIMIT_VARIABLE: &str = "FLASHVIDEO_MEMORY";

/// Bytes that can be taken without swapping, as far as is known: the least of the kernel's estimate, what is left of
/// the control group's limit, and [`LIMIT_VARIABLE`].
pub fn available() -> Option<u64> {
    let system = || parse_meminfo(&std::fs::read_to_string("/proc/meminfo").ok()?);
    [system(), control_group(), wanted()]
        .into_iter()
        .flatten()
        .min()
}

/// Bytes that can still be taken on `device`, as far as is known: on the CPU [`available`], elsewhere the least of what
/// the driver calls free and of [`LIMIT_VARIABLE`].
///
/// CUDA and Metal are asked when this was built for them. A driver that does not answer sets no limit: plans then take
/// what they would take at best, unless the variable is set.
pub fn on(device: &Device) -> Option<u64> {
    if device.is_cpu() {
        return available();
    }
    [of_driver(device), wanted()].into_iter().flatten().min()
}

fn of_driver(device: &Device) -> Option<u64> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => {
            let (free, _) = device.cuda_stream().context().mem_get_info().ok()?;
            u64::try_from(free).ok()
        }
        #[cfg(feature = "metal")]
        Device::Metal(device) => {
            let device = device.device();
            let most = device.recommended_max_working_set_size();
            let free = most.checked_sub(device.current_allocated_size())?;
            u64::try_from(free).ok()
        }
        _ => None,
    }
}

fn wanted() -> Option<u64> {
    parse_limit(&std::env::var(LIMIT_VARIABLE).ok()?)
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
    fn the_memory_of_the_cpu_is_the_machines() {
        // Other programs take and give back between two looks.
        let (here, there) = (available(), on(&Device::Cpu));
        assert_eq!(here.is_some(), there.is_some());
    }

    #[test]
    fn meminfo_is_read_in_kib() {
        let text = "MemTotal:       24000000 kB\nMemFree:  1 kB\nMemAvailable:   12345678 kB\n";
        assert_eq!(parse_meminfo(text), Some(12_345_678 * 1024));
        assert_eq!(parse_meminfo("MemTotal: 3 kB\n"), None);
        assert_eq!(parse_meminfo("MemAvailable: lots kB\n"), None);
    }
}
