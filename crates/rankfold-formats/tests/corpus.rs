//! Inputs that fuzzing found worth keeping, read again: each is accepted with all that must hold then, or
//! refused, within ten seconds and a gigabyte.

#![allow(clippy::unwrap_used)]

#[allow(unreachable_pub)]
#[path = "../fuzz/src/entry.rs"]
mod entry;

use std::alloc::{GlobalAlloc, Layout, System};
use std::panic::catch_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The system's allocator until more is in use than any of these inputs is worth.
struct Capped;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
const CAP: usize = 1 << 30;

// SAFETY: every block comes from and goes back to the system's allocator with its own layout.
unsafe impl GlobalAlloc for Capped {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let before = IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        if before.saturating_add(layout.size()) > CAP {
            IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Capped = Capped;

fn replay(target: &str, read: entry::Entry) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpus")
        .join(target);
    let mut files: Vec<_> = (std::fs::read_dir(&folder).unwrap())
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{}", folder.display());
    for file in files {
        let input = std::fs::read(&file).unwrap();
        let start = Instant::now();
        assert!(catch_unwind(|| read(&input)).is_ok(), "{}", file.display());
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{}",
            file.display()
        );
    }
}

#[test]
fn what_fuzzing_found_is_read_or_refused() {
    for (target, read) in entry::ENTRIES {
        replay(target, read);
    }
}
