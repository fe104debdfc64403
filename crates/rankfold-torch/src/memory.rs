//! Memory that this process uses.

use std::io;

/// Memory of this process in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryUse {
    /// In use now.
    pub resident: u64,
    /// The most that was in use since the start.
    pub peak: u64,
}

/// The memory of this process, as the kernel counts it.
pub fn memory_use() -> io::Result<MemoryUse> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kib * 1024)
    };
    let missing = || {
        io::Error::new(
            io::ErrorKind::Unsupported,
            "no memory figures in /proc/self/status",
        )
    };
    Ok(MemoryUse {
        resident: field("VmRSS:").ok_or_else(missing)?,
        peak: field("VmHWM:").ok_or_else(missing)?,
    })
}

/// Asks the C allocator, which libtorch takes its memory from, to keep what is freed.
///
/// It would return large blocks to the system at once, and every layer's output would be paged in anew:
/// that is half the time of a small network. Executables call this first; nothing is lost where the
/// allocator is another one.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: these settings are plain numbers, and the allocator takes them at any time.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
        libc::mallopt(libc::M_MMAP_MAX, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_buffer_shows() {
        let before = memory_use().unwrap();
        let buffer = std::hint::black_box(vec![1u8; 64 << 20]);
        let during = memory_use().unwrap();
        assert!(
            during.peak >= before.resident + (60 << 20),
            "{before:?} {during:?}"
        );
        assert!(during.peak >= during.resident);
        drop(buffer);
    }

    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[test]
    fn freed_memory_is_not_paged_in_again() {
        let faults = || {
            // SAFETY: the struct is plain numbers, and the call fills it in.
            unsafe {
                let mut usage: libc::rusage = std::mem::zeroed();
                libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage);
                usage.ru_minflt
            }
        };
        let touch = || drop(std::hint::black_box(vec![1u8; 48 << 20]));
        keep_freed_memory();
        touch();
        let before = faults();
        touch();
        let again = faults() - before;
        assert!(again < 100, "{again} of 12,288 pages");
    }
}
