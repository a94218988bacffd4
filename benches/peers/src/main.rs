//! Measures this crate and its peers, and writes `BENCHMARKS.md` with two charts.
//!
//! Casts of counts to `f64` are exact for what is counted here.

mod api;
mod chart;
mod expiry;
mod peers;
mod report;
mod stampede;
mod storm;
mod token_service;
mod warm;

use std::{fs, io, path::Path};

use tokio::runtime::Builder;
use tower_bearer_benches::heap::Counting;

use crate::{peers::Peer, report::Measured};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> io::Result<()> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    eprintln!("a request that finds a token …");
    let warm = warm::measure(&runtime);
    eprintln!("10,000 tasks and no token …");
    let stampede = stampede::measure(&runtime);
    eprintln!("a token is revoked …");
    let storm = runtime.block_on(storm::measure());
    eprintln!("latency through an expiry …");
    let expiry = runtime.block_on(expiry::measure());
    let measured = Measured { warm, stampede, expiry, storm };

    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let charts = root.join("benches/charts");
    fs::create_dir_all(&charts)?;
    fs::write(charts.join("cost.svg"), chart::cost(&measured.warm))?;
    fs::write(charts.join("expiry.svg"), chart::expiry(&measured.expiry))?;
    let page = report::page(&measured);
    fs::write(root.join("BENCHMARKS.md"), &page)?;
    print!("{page}");
    Ok(())
}
