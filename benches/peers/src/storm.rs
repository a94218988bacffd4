//! A token is revoked while many requests with it are in flight.

use std::time::Duration;

use tokio::task::JoinSet;

use crate::{Peer, api::Api, token_service::TokenService};

pub(crate) struct Row {
    pub(crate) peer: Peer,
    /// All 401s at once.
    pub(crate) together: Outcome,
    /// One after another, over [`SPREAD`].
    pub(crate) spread: Outcome,
}

pub(crate) struct Outcome {
    /// Beside that of the first token.
    pub(crate) fetches: usize,
    pub(crate) calls: usize,
    pub(crate) succeeded: usize,
}

pub(crate) const REQUESTS: usize = 1_000;
pub(crate) const FETCH: Duration = Duration::from_millis(50);
pub(crate) const SPREAD: Duration = Duration::from_millis(100);

pub(crate) async fn measure() -> Vec<Row> {
    let mut rows = Vec::new();
    for peer in Peer::ALL.into_iter().filter(|peer| peer.fetches()) {
        let (together, spread) = (storm(peer, Duration::ZERO).await, storm(peer, SPREAD).await);
        rows.push(Row { peer, together, spread });
    }
    rows
}

async fn storm(peer: Peer, spread: Duration) -> Outcome {
    let tokens = TokenService::new(FETCH, Duration::from_secs(3000));
    let api = Api::revoking(REQUESTS, spread);
    let send = peer.with(&tokens, &api).await.send;
    let mut tasks = JoinSet::new();
    for _ in 0..REQUESTS {
        tasks.spawn(send());
    }
    let statuses = tasks.join_all().await;
    let succeeded = statuses.iter().filter(|status| status.is_success()).count();
    Outcome { fetches: tokens.fetches().len() - 1, calls: api.calls(), succeeded }
}
