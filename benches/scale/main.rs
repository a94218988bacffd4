//! What a cache does when there is much of something: tasks without a token, requests through an
//! expiry, requests that are rejected, caches at rest.
//!
//! Each row is printed with its goal. What happened is checked outside of what is timed.
//!
//! ```text
//! cargo bench -p tower-bearer-benches --bench scale              # a minute
//! cargo bench -p tower-bearer-benches --bench scale -- --quick   # fifteen seconds
//! ```

mod expiry;
mod rest;
mod stampede;
mod storm;

use std::env;

use tokio::runtime::Builder;
use tower_bearer_benches::heap::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    let has = |name| env::args().any(|argument| argument == name);
    // `cargo bench` says `--bench`; without it the rows are only tried.
    let (rounds, many) = match (has("--bench"), has("--quick")) {
        (false, _) => (1, 1_000),
        (true, true) => (1, 100_000),
        (true, false) => (7, 100_000),
    };
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build();
    let runtime = runtime.expect("a runtime starts");
    stampede::measure(&runtime, rounds, many);
    expiry::measure(&runtime, rounds);
    storm::measure(&runtime);
    rest::measure(&runtime);
}

/// A row, its figure and its goal.
fn row(name: &str, figure: &str, goal: &str) {
    println!("{name:<44} {figure:<34} {goal}");
}
