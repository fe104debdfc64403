//! Work side by side on the threads that libtorch itself uses.
//!
//! A pool of our own would take the cores from libtorch's, whose threads go on spinning for a while
//! after every op; its OpenMP runtime is asked instead, found among the loaded libraries at run time.

use std::ffi::{c_int, c_uint, c_void};
use std::sync::OnceLock;

use libloading::os::unix::Library;

type Body = unsafe extern "C" fn(*mut c_void);

struct OpenMp {
    parallel: unsafe extern "C" fn(Body, *mut c_void, c_uint, c_uint),
    thread: unsafe extern "C" fn() -> c_int,
    threads: unsafe extern "C" fn() -> c_int,
}

fn open_mp() -> Option<&'static OpenMp> {
    static OPEN_MP: OnceLock<Option<OpenMp>> = OnceLock::new();
    OPEN_MP
        .get_or_init(|| {
            let library = Library::this();
            // SAFETY: the types are those of libgomp's interface for compilers and of omp.h, and
            // libtorch, which needs the library, stays loaded.
            unsafe {
                Some(OpenMp {
                    parallel: *library.get(b"GOMP_parallel\0").ok()?,
                    thread: *library.get(b"omp_get_thread_num\0").ok()?,
                    threads: *library.get(b"omp_get_num_threads\0").ok()?,
                })
            }
        })
        .as_ref()
}

/// Calls `work` with every number below `items`, on up to `threads` threads; each takes an unbroken
/// range of them.
pub(super) fn share(items: usize, threads: usize, work: impl Fn(usize) + Sync) {
    let threads = threads.min(items);
    let (Some(open_mp), 2..) = (open_mp(), threads) else {
        return (0..items).for_each(work);
    };
    let job = Job { items, work };
    // SAFETY: `body` is of the same type as the job, which outlives the call: the team has ended its
    // work when `parallel` returns.
    unsafe { (open_mp.parallel)(job.body(), job.data(), threads as c_uint, 0) }
}

struct Job<F> {
    items: usize,
    work: F,
}

impl<F: Fn(usize) + Sync> Job<F> {
    fn body(&self) -> Body {
        run::<F>
    }

    fn data(&self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }
}

/// One thread's part of a job. A panic in it ends the program, as it cannot cross the runtime.
unsafe extern "C" fn run<F: Fn(usize) + Sync>(data: *mut c_void) {
    // SAFETY: `share` passes a live job of this type, of which nobody changes anything.
    let job = unsafe { &*data.cast::<Job<F>>() };
    let (thread, threads) = open_mp().map_or((0, 1), |open_mp| {
        // SAFETY: both only read the state of the calling thread.
        unsafe { ((open_mp.thread)() as usize, (open_mp.threads)() as usize) }
    });
    let first = job.items * thread / threads;
    let last = job.items * (thread + 1) / threads;
    (first..last).for_each(&job.work);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn every_item_is_worked_on_once() {
        assert!(open_mp().is_some(), "libtorch's runtime was not found");
        for (items, threads) in [(0, 2), (1, 2), (7, 1), (7, 3), (100, 2)] {
            let seen: Vec<AtomicUsize> = (0..items).map(|_| AtomicUsize::new(0)).collect();
            share(items, threads, |i| {
                seen[i].fetch_add(1, Ordering::Relaxed);
            });
            assert!(seen.iter().all(|n| n.load(Ordering::Relaxed) == 1));
        }
    }
}
