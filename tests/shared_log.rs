//! What the log tells of a fleet's store, and how often.
#![allow(missing_docs)]

#[path = "common/log.rs"]
mod log;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use tower_bearer::{
    AccessToken, Reason, TokenError, TokenRequest, TokenSource, from_fn,
    shared::{Loaded, MemoryStore, Seal, Shared, StoreError, Swapped, TokenStore, Version},
};
use tracing::Level;

use crate::log::Log;

/// A store that can be switched off.
#[derive(Clone)]
struct Flaky(MemoryStore, Arc<AtomicBool>);

impl Flaky {
    fn answer(&self) -> Result<(), StoreError> {
        if self.1.load(Relaxed) { Err(StoreError::new("connection refused")) } else { Ok(()) }
    }
}

impl TokenStore for Flaky {
    async fn load(&self, name: &str) -> Result<Loaded, StoreError> {
        self.answer()?;
        self.0.load(name).await
    }

    async fn swap(&self, name: &str, seen: &Version, sealed: &[u8]) -> Result<Swapped, StoreError> {
        self.answer()?;
        self.0.swap(name, seen, sealed).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_and_garbage_in_it_are_logged_once_and_no_secret_is() {
    let log = Log::from_level(Level::INFO);

    let store = Flaky(MemoryStore::new(), Arc::default());
    let source = from_fn(|_| async { AccessToken::new("hush").map_err(TokenError::permanent) });
    let seal = "5e".repeat(32);
    let shared = Shared::new(source, store.clone()).name("orders").seal(Seal::new(seal.as_str()));
    let fetch = || shared.fetch(TokenRequest::new(Reason::Requested));

    store.0.put("orders", "garbage");
    store.1.store(true, Relaxed);
    for _ in 0..3 {
        fetch().await.unwrap();
    }
    store.1.store(false, Relaxed);
    fetch().await.unwrap();
    fetch().await.unwrap();
    // Readable again, and then not once more.
    store.0.put("orders", "garbage");
    fetch().await.unwrap();

    let told = log.text();
    let away = "WARN tower_bearer: the fleet's token store does not answer \
                source=\"orders\" error=connection refused";
    let back = "INFO tower_bearer: the fleet's token store answers again \
                source=\"orders\"";
    let ignored = "WARN tower_bearer: the fleet's token store holds no valid token: its content is \
                   ignored and replaced source=\"orders\" reason=it is too short";
    let told: Vec<_> = told.lines().filter_map(|line| line.split_once('Z')).collect();
    let told: Vec<_> = told.into_iter().map(|(_time, event)| event.trim()).collect();
    assert_eq!(told, [away, back, ignored, ignored]);
}
