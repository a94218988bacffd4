//! What the log tells of a fleet's store, and how often.
#![allow(missing_docs)]

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use tower_bearer::{
    AccessToken, Reason, TokenError, TokenRequest, TokenSource, from_fn,
    shared::{Loaded, MemoryStore, Seal, Shared, StoreError, Swapped, TokenStore, Version},
};
use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

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
async fn a_store_that_is_away_and_garbage_in_it_are_told_once_and_no_secret_is() {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(lines.clone())
        .without_time()
        .with_ansi(false)
        .finish();
    let _until_the_end = tracing::subscriber::set_default(subscriber);

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

    let told = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let away = " WARN tower_bearer: the fleet's token store does not answer \
                source=\"orders\" error=connection refused";
    let back = " INFO tower_bearer: the fleet's token store answers again \
                source=\"orders\"";
    let ignored = " WARN tower_bearer: the fleet's token store holds no valid token: its content is \
                   ignored and replaced source=\"orders\" reason=it is too short";
    let told: Vec<_> = told.lines().map(str::trim_end).collect();
    assert_eq!(told, [away, back, ignored, ignored]);
}
