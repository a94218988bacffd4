//! What every store must do, whatever it is made of.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

use futures_util::future::join_all;
use tokio::time::timeout;
use tower_bearer::{
    AccessToken, BoxError, Reason, TokenError, TokenRequest, TokenSource,
    shared::{Loaded, MemoryStore, Seal, Shared, StoreError, Swapped, TokenStore, Version},
};

pub(crate) const SEAL: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const BOUND: Duration = Duration::from_secs(30);
/// What is fetched of something that is too large to be a record.
const MOST: usize = 256 * 1024 + 1;

/// A store, and a way around it.
pub(crate) trait Backend: Sync {
    type Store: TokenStore + Clone;

    /// The same store each time, as each process would make it.
    fn store(&self) -> Self::Store;

    /// Puts anything in the place of a record.
    fn put(&self, name: &str, bytes: Vec<u8>) -> impl Future<Output = ()> + Send;

    /// Loses all that it has.
    fn forget(&self) -> impl Future<Output = ()> + Send;
}

/// All of it, each under names of its own.
pub(crate) async fn run(backend: &impl Backend) -> Result<(), BoxError> {
    nothing_there_is_no_error(backend).await?;
    what_is_stored_is_what_is_loaded(backend).await?;
    an_old_version_replaces_nothing(backend).await?;
    of_many_swaps_at_a_time_one_is_done(backend).await?;
    names_that_differ_are_other_records(backend).await?;
    a_swap_that_nobody_waits_for_is_done_or_not(backend).await?;
    the_clock_goes_on(backend).await?;
    waiting_for_a_change_ends_in_bounded_time(backend).await?;
    what_was_forgotten_is_nothing(backend).await?;
    // A store that may forget settles for some time before something is spent.
    tokio::try_join!(
        a_fleet_fetches_once(backend),
        a_swap_whose_answer_is_lost_is_not_done_twice(backend),
        garbage_is_taken_for_nothing_and_replaced(backend),
    )?;
    an_emptied_store_gets_its_token_back(backend).await
}

async fn nothing_there_is_no_error(backend: &impl Backend) -> Result<(), BoxError> {
    let loaded = backend.store().load("nothing").await?;
    assert_eq!((loaded.sealed, loaded.version), (None, Version::NONE));
    Ok(())
}

async fn what_is_stored_is_what_is_loaded(backend: &impl Backend) -> Result<(), BoxError> {
    let (one, other) = (backend.store(), backend.store());
    let mut version = Version::NONE;
    let all_bytes: Vec<u8> = (0..=255).collect();
    for bytes in [all_bytes.clone(), b"\r\n".to_vec(), all_bytes.repeat(800)] {
        version = done(one.swap("bytes", &version, &bytes).await?);
        let loaded = other.load("bytes").await?;
        assert_eq!((loaded.sealed, &loaded.version), (Some(bytes), &version));
    }
    Ok(())
}

async fn an_old_version_replaces_nothing(backend: &impl Backend) -> Result<(), BoxError> {
    let store = backend.store();
    let first = done(store.swap("old", &Version::NONE, b"first").await?);
    let second = done(store.swap("old", &first, b"second").await?);
    for old in [&Version::NONE, &first, &Version::new("never seen")] {
        assert_eq!(store.swap("old", old, b"third").await?, Swapped::Conflict);
    }
    let loaded = store.load("old").await?;
    assert_eq!((loaded.sealed, loaded.version), (Some(b"second".to_vec()), second));
    // Of another record that does not exist it is no version either.
    assert_eq!(store.swap("older", &first, b"third").await?, Swapped::Conflict);
    Ok(())
}

async fn of_many_swaps_at_a_time_one_is_done(backend: &impl Backend) -> Result<(), BoxError> {
    let mut version = Version::NONE;
    for round in 0..5 {
        let swaps = (0..20).map(|nth| {
            let (store, version) = (backend.store(), version.clone());
            tokio::spawn(async move {
                let bytes = format!("{round} {nth}");
                let swapped = store.swap("many", &version, bytes.as_bytes()).await?;
                Ok::<_, StoreError>((bytes, swapped))
            })
        });
        let mut all_done = Vec::new();
        for swap in join_all(swaps).await {
            if let (bytes, Swapped::Done(version)) = swap?? {
                all_done.push((bytes.into_bytes(), version));
            }
        }
        let loaded = backend.store().load("many").await?;
        version = loaded.version.clone();
        assert_eq!(all_done, [(loaded.sealed.unwrap(), loaded.version)]);
    }
    Ok(())
}

async fn names_that_differ_are_other_records(backend: &impl Backend) -> Result<(), BoxError> {
    let store = backend.store();
    let names = ["n", "N", "n/1", "n%2f1", "../n", "n}{", "{n}", "é", "n\0", "n n", "n:*?", "."];
    for name in names {
        done(store.swap(name, &Version::NONE, name.as_bytes()).await?);
    }
    for name in names {
        assert_eq!(store.load(name).await?.sealed.as_deref(), Some(name.as_bytes()), "{name}");
    }
    Ok(())
}

async fn a_swap_that_nobody_waits_for_is_done_or_not(
    backend: &impl Backend,
) -> Result<(), BoxError> {
    let store = backend.store();
    for _ in 0..20 {
        let before = store.load("cut").await?;
        let new = format!("{}.", String::from_utf8(before.sealed.clone().unwrap_or_default())?);
        // Dropped after one poll.
        let swap = store.swap("cut", &before.version, new.as_bytes());
        drop(futures_util::poll!(std::pin::pin!(swap)));
        let sealed = store.load("cut").await?.sealed;
        assert!(sealed == before.sealed || sealed == Some(new.into_bytes()), "{sealed:?}");
    }
    Ok(())
}

async fn the_clock_goes_on(backend: &impl Backend) -> Result<(), BoxError> {
    let store = backend.store();
    let mut before = SystemTime::now() - Duration::from_secs(60);
    for _ in 0..5 {
        let now = store.load("clock").await?.now;
        assert!(now >= before, "{now:?} {before:?}");
        before = now;
    }
    assert!(before < SystemTime::now() + Duration::from_secs(60));
    Ok(())
}

async fn waiting_for_a_change_ends_in_bounded_time(backend: &impl Backend) -> Result<(), BoxError> {
    let store = backend.store();
    let version = done(store.swap("change", &Version::NONE, b"a").await?);
    timeout(BOUND, store.changed("change", &version)).await?;
    timeout(BOUND, store.changed("change", &Version::NONE)).await?;
    Ok(())
}

async fn what_was_forgotten_is_nothing(backend: &impl Backend) -> Result<(), BoxError> {
    let store = backend.store();
    let version = done(store.swap("gone", &Version::NONE, b"a").await?);
    backend.forget().await;
    let loaded = store.load("gone").await?;
    assert_eq!((loaded.sealed, loaded.version), (None, Version::NONE));
    assert_eq!(store.swap("gone", &version, b"b").await?, Swapped::Conflict);
    done(store.swap("gone", &Version::NONE, b"b").await?);
    Ok(())
}

fn done(swapped: Swapped) -> Version {
    match swapped {
        Swapped::Done(version) => version,
        other => panic!("{other:?}"),
    }
}

// ===== A fleet over it =====

/// Counts its fetches. A refresh token that is sent twice is refused.
#[derive(Clone, Default)]
pub(crate) struct Source {
    fetches: Arc<AtomicUsize>,
    is_rotating: bool,
}

impl Source {
    pub(crate) fn rotating(is_rotating: bool) -> Self {
        Self { is_rotating, ..Self::default() }
    }

    pub(crate) fn fetches(&self) -> usize {
        self.fetches.load(SeqCst)
    }
}

impl TokenSource for Source {
    async fn fetch(&self, request: TokenRequest) -> Result<AccessToken, TokenError> {
        let nth = self.fetches.fetch_add(1, SeqCst) + 1;
        let token = AccessToken::new(format!("t-{nth}")).map_err(TokenError::permanent)?;
        let token = token.with_lifetime(Duration::from_secs(600));
        if !self.is_rotating {
            return Ok(token);
        }
        let sent = request.previous().and_then(AccessToken::refresh_token).map(str::to_owned);
        if sent != (nth > 1).then(|| format!("r-{}", nth - 1)) {
            return Err(TokenError::permanent("invalid_grant"));
        }
        Ok(token.with_refresh_token(format!("r-{nth}")))
    }

    fn is_repeatable(&self) -> bool {
        !self.is_rotating
    }
}

/// One process of a fleet. It has time: the machine may be busy. But a store that may forget settles
/// for four times as long.
pub(crate) fn process(source: &Source, store: impl TokenStore, name: &str) -> Shared<Source> {
    let store_timeout = Duration::from_secs(if store.is_durable() { 10 } else { 2 });
    Shared::new(source.clone(), store).name(name).seal(Seal::new(SEAL)).store_timeout(store_timeout)
}

pub(crate) fn first() -> TokenRequest {
    TokenRequest::new(Reason::First)
}

pub(crate) fn rejected(token: &AccessToken) -> TokenRequest {
    TokenRequest::new(Reason::Rejected).with_previous(token.clone()).with_rejected(token.clone())
}

async fn a_fleet_fetches_once(backend: &impl Backend) -> Result<(), BoxError> {
    for (name, is_rotating) in [("fleet", false), ("fleet-r", true)] {
        let source = Source::rotating(is_rotating);
        let fleet: Vec<_> = (0..10).map(|_| process(&source, backend.store(), name)).collect();
        let tokens = join_all(fleet.iter().map(|it| it.fetch(first()))).await;
        let t_1 = tokens[0].clone()?;
        for token in tokens {
            assert_eq!(token?.secret(), "t-1");
        }
        for token in join_all(fleet.iter().map(|it| it.fetch(rejected(&t_1)))).await {
            assert_eq!(token?.secret(), "t-2");
        }
        assert_eq!(source.fetches(), 2);
    }
    Ok(())
}

/// A store whose answers to swaps are lost.
#[derive(Clone)]
struct Lossy<T>(T);

impl<T: TokenStore + Clone> TokenStore for Lossy<T> {
    async fn load(&self, name: &str) -> Result<Loaded, StoreError> {
        self.0.load(name).await
    }

    async fn swap(&self, name: &str, seen: &Version, sealed: &[u8]) -> Result<Swapped, StoreError> {
        self.0.swap(name, seen, sealed).await?;
        // Sent again, as a client that lost the connection would: it is no second swap.
        assert_eq!(self.0.swap(name, seen, sealed).await?, Swapped::Conflict);
        Err(StoreError::new("the answer is lost"))
    }
}

async fn a_swap_whose_answer_is_lost_is_not_done_twice(
    backend: &impl Backend,
) -> Result<(), BoxError> {
    let store = backend.store();
    for is_rotating in [false, true] {
        let name = if is_rotating { "lost-r" } else { "lost" };
        let source = Source::rotating(is_rotating);
        let one = process(&source, Lossy(store.clone()), name);
        let outcome = one.fetch(first()).await;
        // What repeats is fetched without the store; what is spent is not sent at all.
        assert_eq!((outcome.is_ok(), source.fetches()), (!is_rotating, usize::from(!is_rotating)));
        // The lease that it may have got is given back.
        let other = process(&source, store.clone(), name);
        assert!(timeout(BOUND, other.fetch(first())).await?.is_ok());
    }
    Ok(())
}

async fn garbage_is_taken_for_nothing_and_replaced(backend: &impl Backend) -> Result<(), BoxError> {
    let of_another_key = {
        let (memory, source) = (MemoryStore::new(), Source::default());
        let other = Shared::new(source, memory.clone()).name("garbage");
        other.seal(Seal::new(SEAL.replace("00", "ff"))).fetch(first()).await?;
        memory.sealed("garbage").unwrap()
    };
    let of_another_name = {
        let (memory, source) = (MemoryStore::new(), Source::default());
        process(&source, memory.clone(), "another").fetch(first()).await?;
        memory.sealed("another").unwrap()
    };
    let of_a_future_format = vec![9; 400];
    let truncated = of_another_name[..40].to_vec();
    let huge = vec![1; 10 << 20];
    for garbage in
        [Vec::new(), truncated, of_a_future_format, of_another_key, of_another_name, huge]
    {
        backend.put("garbage", garbage.clone()).await;
        let loaded = backend.store().load("garbage").await?;
        let len = loaded.sealed.map_or(0, |sealed| sealed.len());
        assert!(len == garbage.len().min(MOST), "{len} of {}", garbage.len());
        let source = Source::default();
        for _ in 0..2 {
            let token = process(&source, backend.store(), "garbage").fetch(first()).await?;
            assert_eq!((token.secret(), source.fetches()), ("t-1", 1), "{}", garbage.len());
        }
    }
    Ok(())
}

async fn an_emptied_store_gets_its_token_back(backend: &impl Backend) -> Result<(), BoxError> {
    let source = Source::rotating(true);
    let one = process(&source, backend.store(), "emptied");
    one.fetch(first()).await?;
    backend.forget().await;
    let other = process(&source, backend.store(), "emptied");
    if backend.store().is_durable() {
        // An operator deleted the file. The process that has the token puts it back at its next fetch.
        assert_eq!(one.fetch(first()).await?.secret(), "t-1");
    }
    assert_eq!(timeout(BOUND, other.fetch(first())).await??.secret(), "t-1");
    assert_eq!(source.fetches(), 1);
    Ok(())
}
