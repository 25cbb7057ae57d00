//! The only door to Rayon.
//!
//! Rayon's global pool dies with a fork: the child inherits a pool without threads and waits for it for ever. So the
//! crate keeps its own pools, one for each thread count that was asked for, each tagged with the process that built
//! it. A child finds its parent's tag, leaves that pool alone (dropping it would join threads that do not exist) and
//! builds its own. Nothing here holds a lock, so a fork at any moment leaves nothing locked.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwapOption, Guard};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{Error, Result};

/// Most threads a pool may have.
pub const MAX_THREADS: usize = 256;

/// A pool and the process that built it.
struct Tagged {
    process: u32,
    pool: ThreadPool,
}

static POOLS: [ArcSwapOption<Tagged>; MAX_THREADS + 1] = [const { ArcSwapOption::const_empty() }; MAX_THREADS + 1];

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

    /// Threads to use.
    pub fn threads(&self) -> usize {
        if self.threads == 0 { threads() } else { self.threads }
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

/// Runs `work` on the pool of `threads` threads of this process, or here if the system refuses to start threads.
pub fn install<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    match pool(threads.clamp(1, MAX_THREADS)) {
        Some(tagged) => tagged.pool.install(work),
        None => work(),
    }
}

/// How often the calling thread looks whether the others are done before it sleeps: some 50 µs, as being woken takes.
const LOOKS: usize = 1000;

/// Runs `run` on every item, on the calling thread and on others, `threads` in all, that join in as they wake: what is
/// done before they do is not waited for. Of several errors the one of the first item is returned.
pub fn share<T>(
    threads: usize,
    mut items: impl ExactSizeIterator<Item = T> + Send,
    run: impl Fn(T) -> Result<()> + Sync,
) -> Result<()> {
    let threads = threads.clamp(1, MAX_THREADS);
    let helpers = threads.min(items.len()).saturating_sub(1);
    // Not one thread more than can be busy: it would be woken all the same, and while it looks for work take turns with
    // one that has some.
    let Some(tagged) = (helpers > 0).then(|| pool(threads - 1)).flatten() else { return items.try_for_each(run) };
    let items = Mutex::new(items.enumerate());
    let failed: Mutex<Option<(usize, Error)>> = Mutex::new(None);
    let work = || {
        // The lock ends with the line.
        let next = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
        while let Some((i, item)) = next() {
            if let Err(error) = run(item) {
                let mut first = failed.lock().unwrap_or_else(PoisonError::into_inner);
                if first.as_ref().is_none_or(|&(earlier, _)| i < earlier) {
                    *first = Some((i, error));
                }
            }
        }
    };
    let busy = AtomicUsize::new(helpers);
    tagged.pool.in_place_scope(|scope| {
        for _ in 0..helpers {
            scope.spawn(|_| {
                work();
                busy.fetch_sub(1, Ordering::Release);
            });
        }
        work();
        let mut looks = 0;
        while busy.load(Ordering::Acquire) > 0 && looks < LOOKS {
            std::hint::spin_loop();
            looks += 1;
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), |(_, error)| Err(error))
}

fn pool(threads: usize) -> Option<Arc<Tagged>> {
    let slot = &POOLS[threads];
    let process = std::process::id();
    loop {
        let found = slot.load();
        if found.as_ref().is_some_and(|tagged| tagged.process == process) {
            return Guard::into_inner(found);
        }
        let name = |i| format!("kullback-{i}");
        let pool = ThreadPoolBuilder::new().num_threads(threads).thread_name(name).build().ok()?;
        let previous = slot.compare_and_swap(&found, Some(Arc::new(Tagged { process, pool })));
        if let Some(inherited) = Guard::into_inner(previous).filter(|tagged| tagged.process != process) {
            std::mem::forget(inherited);
        }
    }
}
