//! Counts what is allocated, in a program whose global allocator is a [`Counting`].

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::atomic::{AtomicBool, AtomicIsize, Ordering::Relaxed},
};

/// The system's allocator, which counts.
#[derive(Debug)]
pub struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

static IS_WEIGHED: AtomicBool = AtomicBool::new(false);
static LIVE: AtomicIsize = AtomicIsize::new(0);
static PEAK: AtomicIsize = AtomicIsize::new(0);

// SAFETY: it hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        if IS_WEIGHED.load(Relaxed) {
            let size = size(layout);
            PEAK.fetch_max(LIVE.fetch_add(size, Relaxed) + size, Relaxed);
        }
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if IS_WEIGHED.load(Relaxed) {
            LIVE.fetch_sub(size(layout), Relaxed);
        }
        unsafe { System.dealloc(block, layout) }
    }
}

/// No layout is larger than that.
fn size(layout: Layout) -> isize {
    isize::try_from(layout.size()).unwrap_or(isize::MAX)
}

/// How often this thread allocates meanwhile.
pub fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

/// By how many bytes the heap of all threads has grown meanwhile, and by how many it had grown at
/// its peak.
pub fn growth<T>(work: impl FnOnce() -> T) -> (T, Growth) {
    LIVE.store(0, Relaxed);
    PEAK.store(0, Relaxed);
    IS_WEIGHED.store(true, Relaxed);
    let value = work();
    IS_WEIGHED.store(false, Relaxed);
    let bytes = |count: &AtomicIsize| usize::try_from(count.load(Relaxed)).unwrap_or(0);
    (value, Growth { left: bytes(&LIVE), peak: bytes(&PEAK) })
}

/// Bytes.
#[derive(Clone, Copy, Debug)]
pub struct Growth {
    /// What is left in the end.
    pub left: usize,
    /// The most that there was at any time.
    pub peak: usize,
}
