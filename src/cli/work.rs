//! Work on all cores.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Stack of a worker.
const STACK: usize = 16 << 20;

/// Does the items on `jobs` threads (by default one a CPU); results come in the items' order. An item whose work
/// panics has no result.
pub fn in_parallel<I: Sync, O: Send>(
    items: &[I],
    jobs: Option<NonZeroUsize>,
    work: impl Fn(&I) -> O + Sync,
) -> Vec<O> {
    let jobs = jobs.or_else(|| thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<O>>> = Mutex::new(items.iter().map(|_| None).collect());
    thread::scope(|scope| {
        for _ in 0..jobs.min(items.len()) {
            let worker = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || {
                while let Some((i, item)) = {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    items.get(i).map(|item| (i, item))
                } {
                    let Ok(result) = catch_unwind(AssertUnwindSafe(|| work(item))) else { continue };
                    let mut results = results.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    results[i] = Some(result);
                }
            });
            if worker.is_err() {
                break;
            }
        }
    });
    let results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    results.into_iter().flatten().collect()
}
