//! An allocator that looks for secrets in every block that is given back, and knows who made it.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    backtrace::Backtrace,
    cell::Cell,
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::spellings::spellings;

/// Of each needle its first and its last bytes are looked for, because a buffer that grows leaves
/// parts behind.
const PIECE: usize = 12;

/// What holds other people's values: whoever calls it is looked for.
const CONTAINERS: [&str; 18] = [
    "core",
    "std",
    "alloc",
    "bytes",
    "http",
    "zeroize",
    "base64",
    "serde",
    "serde_core",
    "serde_json",
    "form_urlencoded",
    "percent_encoding",
    "url",
    "hashbrown",
    "indexmap",
    "memchr",
    "futures_util",
    "aws_lc_rs",
];

static STATE: Mutex<State> =
    Mutex::new(State { needles: Vec::new(), begins: [false; 256], made: None, leaks: Vec::new() });

struct State {
    needles: Vec<Needle>,
    /// With which bytes they begin.
    begins: [bool; 256],
    /// Where each block that is in use was allocated.
    made: Option<HashMap<usize, Backtrace>>,
    leaks: Vec<(String, Option<Backtrace>)>,
}

struct Needle {
    name: String,
    bytes: Vec<u8>,
}

/// A block that was given back with a secret in it.
#[derive(Debug)]
#[expect(dead_code, reason = "what only a failure shows")]
pub(crate) struct Leak {
    what: String,
    /// The crate that allocated it.
    pub(crate) owner: String,
    /// How it came to be allocated.
    by: Vec<String>,
}

thread_local! {
    /// What the inspector itself allocates is no concern of its own.
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

/// Its reallocation is a copy, so that it finds what stays behind when a buffer grows.
struct Inspector;

#[global_allocator]
static INSPECTOR: Inspector = Inspector;

// SAFETY: memory comes from the system's allocator and goes back to it; it is zeroed, so that
// all of it may be read.
unsafe impl GlobalAlloc for Inspector {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let memory = unsafe { System.alloc_zeroed(layout) };
        // A panic that prints its own backtrace holds the lock that another one would wait for.
        if !BUSY.get() && !std::thread::panicking() {
            busy(|| {
                let made = Backtrace::force_capture();
                state().made.get_or_insert_default().insert(memory.addr(), made);
            });
        }
        memory
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        let bytes = unsafe { std::slice::from_raw_parts(memory, layout.size()) };
        if !BUSY.get() {
            busy(|| state().given_back(memory.addr(), bytes));
        }
        unsafe { System.dealloc(memory, layout) }
    }
}

fn busy<T>(work: impl FnOnce() -> T) -> T {
    let was_busy = BUSY.replace(true);
    let result = work();
    BUSY.set(was_busy);
    result
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn given_back(&mut self, address: usize, bytes: &[u8]) {
        let made = self.made.as_mut().and_then(|made| made.remove(&address));
        if let Some(needle) = self.find(bytes) {
            let name = needle.name.clone();
            self.leaks.push((name, made));
        }
    }

    /// In one pass, because there are many needles and blocks may be large.
    fn find(&self, bytes: &[u8]) -> Option<&Needle> {
        let mut at = 0;
        while at < bytes.len() {
            if self.begins[bytes[at] as usize] {
                let rest = &bytes[at..];
                let found = self.needles.iter().find(|needle| rest.starts_with(&needle.bytes));
                if found.is_some() {
                    return found;
                }
            }
            at += 1;
        }
        None
    }
}

/// Looks for these from now on: as they are, in base64, and escaped in a form or in JSON.
pub(crate) fn look_for<'a>(secrets: impl IntoIterator<Item = (&'a str, &'a [u8])>) {
    busy(|| {
        let mut needles = Vec::new();
        for (name, secret) in secrets {
            for (spelling, bytes) in spellings(secret) {
                let length = bytes.len();
                assert!(length >= 8, "{name} may be found by chance");
                let pieces = [&bytes[..length.min(PIECE)], &bytes[length.saturating_sub(PIECE)..]];
                for piece in pieces {
                    let name = format!("{name} ({spelling})");
                    needles.push(Needle { name, bytes: piece.to_vec() });
                }
            }
        }
        let mut state = state();
        state.begins = [false; 256];
        for needle in &needles {
            state.begins[usize::from(needle.bytes[0])] = true;
        }
        (state.needles, state.leaks) = (needles, Vec::new());
    });
}

/// What was given back since the last question, with a secret in it.
pub(crate) fn leaks() -> Vec<Leak> {
    busy(|| {
        let leaks = std::mem::take(&mut state().leaks);
        leaks.into_iter().map(|(what, made)| Leak::new(what, made.as_ref())).collect()
    })
}

impl Leak {
    fn new(what: String, made: Option<&Backtrace>) -> Self {
        let made = made.map(ToString::to_string).unwrap_or_default();
        // A line for each function: `  12: a::b::c`.
        let functions = made.lines().filter_map(|line| line.trim().split_once(": "));
        let functions = functions.filter(|(number, _)| number.parse::<u32>().is_ok());
        let functions = functions.map(|(_, function)| function);
        let callers = functions.skip_while(|function| !function.contains("__rust_")).skip(1);
        let mut by = callers.filter(|function| !is_container(&crate_of(function)));
        let first = by.next().unwrap_or("nobody known");
        let owner = crate_of(first);
        let by = std::iter::once(first).chain(by.take(8)).map(str::to_owned).collect();
        Self { what, owner, by }
    }
}

/// Also what is generic: `<T as a::B>::c`.
fn is_container(name: &str) -> bool {
    CONTAINERS.contains(&name) || name.starts_with(|c: char| c.is_uppercase())
}

/// `a` of `a::b::c`, `<a::B as c::D>::e` and `<&mut a::B>::c`.
fn crate_of(function: &str) -> String {
    let name = function.trim_start_matches(['<', '&', '*', '(', '[']);
    let name =
        ["mut ", "dyn ", "const "].iter().fold(name, |name, word| name.trim_start_matches(word));
    name.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default().to_owned()
}
