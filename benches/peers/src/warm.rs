//! What a request costs that finds a token.

use std::time::Duration;

use tokio::runtime::Runtime;
use tower_bearer_benches::{
    heap,
    rounds::{Effort, Rounds, Spread},
};

use crate::{Peer, api::Api, token_service::TokenService};

pub(crate) struct Row {
    pub(crate) peer: Peer,
    pub(crate) nanos: Spread,
    /// To the floor of the same round.
    pub(crate) ratio: Spread,
    pub(crate) allocations: usize,
}

/// A round of one peer is short, so that few are interrupted.
const EFFORT: Effort = Effort { rounds: 1_000, requests: 500 };

/// All peers in turn, in each round.
///
/// They are polled outside of any task: within one tokio's locks and channels have a budget.
pub(crate) fn measure(runtime: &Runtime) -> Vec<Row> {
    let mut ready = Vec::new();
    for peer in Peer::ALL {
        let tokens = TokenService::new(Duration::ZERO, Duration::from_secs(3000));
        let service = runtime.block_on(async {
            let service = peer.with(&tokens, &Api::new()).await;
            // It may have to wait for its token.
            (service.send)().await;
            service
        });
        ready.push((peer, tokens, service.warm));
    }
    let _inside = runtime.enter();
    let mut allocations = Vec::new();
    let mut rounds = Rounds::default();
    for (peer, _, warm) in &mut ready {
        // The first requests leave something behind for the next ones.
        allocations.push((0..10).map(|_| heap::allocations(&mut **warm)).min());
        rounds.add(peer.name(), warm);
    }
    rounds.measure(EFFORT);
    let rows = Peer::ALL.into_iter().zip(allocations).map(|(peer, allocations)| {
        let (name, floor) = (peer.name(), peer.floor().name());
        let allocations = allocations.expect("it was tried");
        Row { peer, nanos: rounds.spread(name), ratio: rounds.ratio(name, floor), allocations }
    });
    let rows = rows.collect();
    drop(rounds);
    for (peer, tokens, _) in ready {
        assert_eq!(tokens.fetches().len(), 1, "{} has fetched more than once", peer.name());
    }
    rows
}
