//! Many tasks and no token.

use std::time::{Duration, Instant};

use tokio::{runtime::Runtime, task::JoinSet};
use tower_bearer_benches::{heap, rounds::Spread};

use crate::{Peer, api::Api, token_service::TokenService};

pub(crate) struct Row {
    pub(crate) peer: Peer,
    pub(crate) fetches: usize,
    /// Milliseconds from the end of the first fetch to the last answer.
    pub(crate) millis: Spread,
    /// What the heap grows by for one task, at its peak.
    pub(crate) bytes: usize,
}

pub(crate) const TASKS: usize = 10_000;
pub(crate) const FETCH: Duration = Duration::from_millis(200);
const ROUNDS: usize = 5;

/// All peers in turn, in each round.
pub(crate) fn measure(runtime: &Runtime) -> Vec<Row> {
    let peers = Peer::ALL.into_iter().filter(|peer| peer.fetches());
    let mut rows: Vec<_> = peers.map(|peer| (peer, Vec::new(), 1)).collect();
    for _ in 0..ROUNDS {
        for (peer, millis, fetches) in &mut rows {
            let (fetched, done_after) = runtime.block_on(stampede(*peer));
            millis.push(done_after.as_secs_f64() * 1e3);
            *fetches = fetched.max(*fetches);
        }
    }
    let mut measured = Vec::new();
    for (peer, millis, fetches) in rows {
        // What weighs takes time, so this one is not timed.
        let (_, growth) = heap::growth(|| runtime.block_on(stampede(peer)));
        let bytes = growth.peak / TASKS;
        measured.push(Row { peer, fetches, millis: Spread::of(millis), bytes });
    }
    measured
}

/// How many fetches there were, and how long after the first one the last task had its answer.
async fn stampede(peer: Peer) -> (usize, Duration) {
    let tokens = TokenService::new(FETCH, Duration::from_secs(3000));
    let send = peer.with(&tokens, &Api::new()).await.send;
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        tasks.spawn(send());
    }
    assert!(tasks.join_all().await.iter().all(|status| status.is_success()));
    let end = Instant::now();
    let fetches = tokens.fetches();
    let (_, fetched) = fetches[0];
    (fetches.len(), end - fetched.expect("every task has its answer"))
}
