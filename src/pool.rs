//! The only door to Rayon.
//!
//! Rayon's global pool dies with a fork: the child inherits a pool without threads and waits for it for ever. So the
//! crate keeps its own pools, one for each thread count that was asked for, each tagged with the process that built
//! it. A child finds its parent's tag, leaves that pool alone (dropping it would join threads that do not exist) and
//! builds its own. Nothing here holds a lock, so a fork at any moment leaves nothing locked.

use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

use rayon::{ThreadPool, ThreadPoolBuilder};

/// Most threads a pool may have.
pub const MAX_THREADS: usize = 256;

struct Tagged {
    process: u32,
    pool: ThreadPool,
}

static POOLS: [AtomicPtr<Tagged>; MAX_THREADS + 1] = [const { AtomicPtr::new(std::ptr::null_mut()) }; MAX_THREADS + 1];

/// What [`set_threads`] asked for; 0 for the default.
static WANTED: AtomicUsize = AtomicUsize::new(0);

/// How to run one call.
#[derive(Debug, Default)]
pub struct Call {
    /// Threads, or 0 for the default.
    pub threads: usize,
    /// Set to stop early.
    pub stop: AtomicBool,
}

impl Call {
    /// With that many threads, 0 for the default.
    pub fn new(threads: usize) -> Self {
        Self { threads, stop: AtomicBool::new(false) }
    }

    /// True once the caller wants to stop.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Uses that many threads by default from now on; 0 returns to `KULLBACK_NUM_THREADS` or the number of processors.
pub fn set_threads(threads: usize) {
    WANTED.store(threads.min(MAX_THREADS), Ordering::Relaxed);
}

/// Threads that a call without a number of its own uses.
pub fn threads() -> usize {
    let wanted = WANTED.load(Ordering::Relaxed);
    if wanted > 0 {
        return wanted;
    }
    let from_environment = std::env::var("KULLBACK_NUM_THREADS").ok().and_then(|text| text.trim().parse().ok());
    from_environment.filter(|&threads| threads > 0).unwrap_or_else(num_cpus::get).min(MAX_THREADS)
}

/// The pool of `threads` threads of this process, or `None` if the system refuses to start threads.
pub fn pool(threads: usize) -> Option<&'static ThreadPool> {
    let slot = &POOLS[threads.clamp(1, MAX_THREADS)];
    let process = std::process::id();
    let found = slot.load(Ordering::Acquire);
    // SAFETY: a pool in a slot was leaked, so it lives as long as the process.
    if let Some(tagged) = unsafe { found.as_ref() } {
        if tagged.process == process {
            return Some(&tagged.pool);
        }
    }
    let pool = ThreadPoolBuilder::new()
        .num_threads(threads.clamp(1, MAX_THREADS))
        .thread_name(|i| format!("kullback-{i}"))
        .build()
        .ok()?;
    let built = Box::into_raw(Box::new(Tagged { process, pool }));
    match slot.compare_exchange(found, built, Ordering::AcqRel, Ordering::Acquire) {
        // SAFETY: as above; the slot now holds `built`.
        Ok(_) => unsafe { Some(&(*built).pool) },
        Err(other) => {
            // SAFETY: another thread of this process was faster, so `other` is its leaked pool; ours was never shared.
            unsafe {
                drop(Box::from_raw(built));
                Some(&(*other).pool)
            }
        }
    }
}
