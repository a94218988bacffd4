use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

use futures_util::future::join_all;
use tokio::{
    sync::Notify,
    time::{Instant, advance, sleep, timeout},
};

use super::*;
use crate::{error::CacheError, source::Reason};

const SEAL: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const SECOND: Duration = Duration::from_secs(1);

/// A token service that rotates refresh tokens, and revokes the family if one is sent twice.
#[derive(Clone, Default)]
struct Service {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    fetches: AtomicUsize,
    /// The next error, if it is not to be a token.
    error: Mutex<Option<TokenError>>,
    rotates: AtomicBool,
    newest: Mutex<Option<String>>,
    is_revoked: AtomicBool,
    /// Whether it takes the token that was sent before once more, with the same answer.
    forgives: AtomicBool,
    /// Whether answers wait.
    holds: AtomicBool,
    release: Notify,
}

/// One process's way to the service.
struct Source(Service);

impl Service {
    fn rotating() -> Self {
        let service = Self::default();
        service.inner.rotates.store(true, Relaxed);
        service
    }

    fn fetches(&self) -> usize {
        self.inner.fetches.load(Relaxed)
    }

    fn fail(&self, error: TokenError) {
        *self.inner.error.lock().unwrap() = Some(error);
    }

    fn exchange(&self, sent: Option<&str>) -> Result<AccessToken, TokenError> {
        let nth = self.inner.fetches.fetch_add(1, Relaxed) + 1;
        if let Some(error) = self.inner.error.lock().unwrap().take() {
            return Err(error);
        }
        let token = AccessToken::new(format!("t-{nth}")).map_err(TokenError::permanent)?;
        let token = token.with_lifetime(Duration::from_secs(600));
        if !self.inner.rotates.load(Relaxed) {
            return Ok(token);
        }
        let mut newest = self.inner.newest.lock().unwrap();
        let is_newest = newest.as_deref() == sent;
        if !is_newest && !self.inner.forgives.load(Relaxed) {
            self.inner.is_revoked.store(true, Relaxed);
        }
        if self.inner.is_revoked.load(Relaxed) {
            return Err(TokenError::permanent("invalid_grant"));
        }
        let new = format!("r-{nth}");
        *newest = Some(new.clone());
        Ok(token.with_refresh_token(new))
    }
}

impl TokenSource for Source {
    async fn fetch(&self, request: TokenRequest) -> Result<AccessToken, TokenError> {
        sleep(Duration::from_millis(50)).await;
        let sent = request.previous().and_then(AccessToken::refresh_token);
        let answer = self.0.exchange(sent);
        if self.0.inner.holds.load(Relaxed) {
            self.0.inner.release.notified().await;
        }
        answer
    }

    fn is_repeatable(&self) -> bool {
        !self.0.inner.rotates.load(Relaxed)
    }
}

/// A store that can be switched off.
#[derive(Clone)]
struct Flaky {
    store: MemoryStore,
    is_away: Arc<AtomicBool>,
    is_slow: Arc<AtomicBool>,
    loads: Arc<AtomicUsize>,
}

impl Flaky {
    fn new() -> Self {
        Self {
            store: MemoryStore::new(),
            is_away: Arc::default(),
            is_slow: Arc::default(),
            loads: Arc::default(),
        }
    }

    async fn answer(&self) -> Result<(), StoreError> {
        if self.is_slow.load(Relaxed) {
            std::future::pending::<()>().await;
        }
        if self.is_away.load(Relaxed) { Err(StoreError::new("connection refused")) } else { Ok(()) }
    }
}

impl TokenStore for Flaky {
    async fn load(&self, name: &str) -> Result<Loaded, StoreError> {
        self.loads.fetch_add(1, Relaxed);
        self.answer().await?;
        TokenStore::load(&self.store, name).await
    }

    async fn swap(&self, name: &str, seen: &Version, sealed: &[u8]) -> Result<Swapped, StoreError> {
        self.answer().await?;
        TokenStore::swap(&self.store, name, seen, sealed).await
    }

    async fn changed(&self, name: &str, seen: &Version) {
        TokenStore::changed(&self.store, name, seen).await;
    }
}

fn process(service: &Service, store: impl TokenStore) -> Shared<Source> {
    Shared::new(Source(service.clone()), store).name("orders").seal(Seal::new(SEAL))
}

fn first() -> TokenRequest {
    TokenRequest::new(Reason::First)
}

fn due(previous: &AccessToken) -> TokenRequest {
    TokenRequest::new(Reason::Due).with_previous(previous.clone())
}

fn rejected(token: &AccessToken) -> TokenRequest {
    TokenRequest::new(Reason::Rejected).with_previous(token.clone()).with_rejected(token.clone())
}

fn secrets(outcomes: Vec<Result<AccessToken, TokenError>>) -> Vec<String> {
    outcomes.into_iter().map(|outcome| outcome.unwrap().secret().to_owned()).collect()
}

fn shared_error(error: &TokenError) -> &SharedError {
    error.downcast_ref().expect("an error of the fleet")
}

// ===== One fetch for all =====

#[tokio::test(start_paused = true)]
async fn a_fleet_fetches_once_for_each_refresh_and_each_renewal() {
    for service in [Service::default(), Service::rotating()] {
        let store = MemoryStore::new();
        let fleet: Vec<_> = (0..20).map(|_| process(&service, store.clone())).collect();
        let tokens = join_all(fleet.iter().map(|it| it.fetch(first()))).await;
        assert_eq!(secrets(tokens.clone()), vec!["t-1"; 20]);
        let t_1 = tokens[0].clone().unwrap();

        let tokens = join_all(fleet.iter().map(|it| it.fetch(due(&t_1)))).await;
        assert_eq!(secrets(tokens.clone()), vec!["t-2"; 20]);
        let t_2 = tokens[0].clone().unwrap();

        let tokens = join_all(fleet.iter().map(|it| it.fetch(rejected(&t_2)))).await;
        assert_eq!(secrets(tokens), vec!["t-3"; 20]);
        assert_eq!(service.fetches(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_starts_later_fetches_nothing_and_counts_the_life_from_the_fetch() {
    let (service, store) = (Service::default(), MemoryStore::new());
    process(&service, store.clone()).fetch(first()).await.unwrap();
    advance(Duration::from_secs(100)).await;
    let token = process(&service, store).fetch(first()).await.unwrap();
    let left = token.lifetime().unwrap();
    assert_eq!((token.secret(), service.fetches()), ("t-1", 1));
    assert!((498..=499).contains(&left.as_secs()), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn limits_beyond_all_bounds_are_the_largest() {
    let shared = process(&Service::rotating(), MemoryStore::new());
    let shared = shared.store_timeout(Duration::MAX).lease(Duration::MAX);
    let settings = &shared.member.settings;
    assert_eq!((settings.store_timeout, settings.lease), (60 * SECOND, 3600 * SECOND));
    assert_eq!(shared.fetch(first()).await.unwrap().secret(), "t-1");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_is_rejected_at_once_waits() {
    let (service, store) = (Service::default(), MemoryStore::new());
    let (one, other) = (process(&service, store.clone()), process(&service, store));
    let t_1 = one.fetch(first()).await.unwrap();
    let t_2 = one.fetch(rejected(&t_1)).await.unwrap();
    for process in [&one, &other] {
        let error = process.fetch(rejected(&t_2)).await.unwrap_err();
        assert!(matches!(shared_error(&error), SharedError::TooSoon(_)) && error.is_transient());
        assert!(error.retry_after().is_some());
    }
    advance(Duration::from_secs(5)).await;
    assert_eq!(other.fetch(rejected(&t_2)).await.unwrap().secret(), "t-3");
    assert_eq!(service.fetches(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_does_not_end_the_fetch() {
    let (service, store) = (Service::default(), MemoryStore::new());
    let one = process(&service, store.clone());
    assert!(timeout(Duration::from_millis(20), one.fetch(first())).await.is_err());
    drop(one);
    let token = process(&service, store).fetch(first()).await.unwrap();
    assert_eq!((token.secret(), service.fetches()), ("t-1", 1));
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_shared_and_passes() {
    let (service, store) = (Service::default(), MemoryStore::new());
    let (one, other) = (process(&service, store.clone()), process(&service, store));
    service.fail(TokenError::transient("503"));
    assert_eq!(one.fetch(first()).await.unwrap_err().to_string(), "503");
    let error = other.fetch(first()).await.unwrap_err();
    assert!(matches!(shared_error(&error), SharedError::Paused(_)) && error.is_transient());
    assert_eq!(service.fetches(), 1);
    advance(SECOND).await;
    assert_eq!(other.fetch(first()).await.unwrap().secret(), "t-2");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_panics_is_an_error_and_the_next_one_leads_soon() {
    let store = MemoryStore::new();
    let source = crate::source::from_fn(|request: TokenRequest| async move {
        assert_ne!(request.reason(), Reason::First, "on purpose");
        AccessToken::new("a").map_err(TokenError::permanent)
    });
    let shared = Shared::new(source, store).name("orders").seal(Seal::new(SEAL));
    let error = shared.fetch(first()).await.unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&CacheError::SourcePanicked));
    advance(SECOND).await;
    assert!(shared.fetch(TokenRequest::new(Reason::Expired)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_source_that_panics_before_it_returns_a_future_gives_the_lease_back_too() {
    let source = crate::source::from_fn(|request: TokenRequest| {
        assert_ne!(request.reason(), Reason::First, "on purpose");
        std::future::ready(AccessToken::new("a").map_err(TokenError::permanent))
    });
    let shared = Shared::new(source, MemoryStore::new()).name("orders").seal(Seal::new(SEAL));
    let error = shared.fetch(first()).await.unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&CacheError::SourcePanicked));
    let began = Instant::now();
    advance(SECOND).await;
    assert!(shared.fetch(TokenRequest::new(Reason::Expired)).await.is_ok());
    assert!(began.elapsed() < SECOND * 2, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_source_that_hangs_holds_up_the_fleet_for_a_lease_and_no_longer() {
    let (service, store) = (Service::default(), MemoryStore::new());
    let fleet = [process(&service, store.clone()), process(&service, store.clone())];
    service.inner.holds.store(true, Relaxed);
    let began = Instant::now();
    let hanging = fleet[0].fetch(first());
    let waiting = async {
        sleep(SECOND).await;
        service.inner.holds.store(false, Relaxed);
        fleet[1].fetch(TokenRequest::new(Reason::Expired)).await
    };
    let (hung, waited) = tokio::join!(hanging, waiting);
    assert!(matches!(hung.unwrap_err().downcast_ref(), Some(CacheError::FetchTimeout(_))));
    let paused = waited.unwrap_err();
    assert!(matches!(shared_error(&paused), SharedError::Paused(_)), "{paused}");
    assert!(began.elapsed() < LEASE, "{:?}", began.elapsed());
}

// ===== Names =====

#[tokio::test(start_paused = true)]
async fn a_token_of_one_name_never_answers_for_another() {
    let (service, store) = (Service::default(), MemoryStore::new());
    let of = |name: &str| {
        Shared::new(Source(service.clone()), store.clone()).name(name).seal(Seal::new(SEAL))
    };
    assert_eq!(of("orders").fetch(first()).await.unwrap().secret(), "t-1");
    assert_eq!(of("invoices").fetch(first()).await.unwrap().secret(), "t-2");
    // Not even if somebody moves it there.
    store.put("invoices", store.sealed("orders").unwrap());
    assert_eq!(of("invoices").fetch(first()).await.unwrap().secret(), "t-3");
}

#[cfg(feature = "keyed")]
#[tokio::test(start_paused = true)]
async fn keys_have_a_record_each_whose_name_shows_nothing() {
    use crate::key::{Subject, TokenKey};

    let (service, store) = (Service::default(), MemoryStore::new());
    let fleet = [process(&service, store.clone()), process(&service, store.clone())];
    let key = |subject: &str| {
        let subject = Subject::new(AccessToken::new(subject).unwrap());
        first().with_key(TokenKey::new().scope("hush").on_behalf_of(subject))
    };
    for (subject, token) in [("ann", "t-1"), ("bob", "t-2")] {
        for process in &fleet {
            assert_eq!(process.fetch(key(subject)).await.unwrap().secret(), token);
        }
    }
    assert_eq!(fleet[1].fetch(first()).await.unwrap().secret(), "t-3");
    let names = store.names();
    assert_eq!(names.len(), 3);
    let shown = names.join(" ");
    assert!(!shown.contains("ann") && !shown.contains("hush"), "{shown}");
}

#[cfg(feature = "keyed")]
#[tokio::test(start_paused = true)]
async fn what_is_stored_is_for_no_key_that_cannot_be_used_and_for_no_subject_that_is_gone() {
    use crate::key::{InvalidTokenKey, NoSubject, Subject, TokenKey};

    let (service, store) = (Service::default(), MemoryStore::new());
    let process = process(&service, store);
    let ann = || AccessToken::new("ann").unwrap();
    let with = |key: TokenKey| first().with_key(key);
    let of_ann = TokenKey::new().on_behalf_of(Subject::new(ann()));
    for key in [TokenKey::new(), of_ann] {
        process.fetch(with(key)).await.unwrap();
    }
    let invalid = TokenKey::new().scope("s".repeat(9000));
    let error = process.fetch(with(invalid)).await.unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&InvalidTokenKey::TooLarge));
    let gone = Subject::new(ann().with_expiry(std::time::UNIX_EPOCH));
    let error = process.fetch(with(TokenKey::new().on_behalf_of(gone))).await.unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&NoSubject::Expired));
    assert_eq!(service.fetches(), 2);
}

#[cfg(feature = "keyed")]
#[tokio::test(start_paused = true)]
async fn a_keyed_cache_over_it_shares_the_token_of_each_key() {
    use crate::{cache::keyed::KeyedTokenCache, key::TokenKey};

    let (service, store) = (Service::default(), MemoryStore::new());
    let cache = || KeyedTokenCache::builder(process(&service, store.clone())).build().unwrap();
    let fleet = [cache(), cache()];
    for (scope, token) in [("a", "t-1"), ("b", "t-2")] {
        for cache in &fleet {
            let key = TokenKey::new().scope(scope);
            assert_eq!(cache.get(&key).await.unwrap().secret(), token);
        }
    }
}

#[cfg(feature = "keyed")]
#[tokio::test(start_paused = true)]
async fn a_pause_of_one_key_holds_up_no_other_key_of_any_process() {
    use crate::{cache::keyed::KeyedTokenCache, key::TokenKey};

    let (service, store) = (Service::default(), MemoryStore::new());
    let cache = || KeyedTokenCache::builder(process(&service, store.clone())).build().unwrap();
    let (one, other) = (cache(), cache());
    let [a, b] = ["a", "b"].map(|scope| TokenKey::new().scope(scope));
    // The service refuses what one user asks for.
    service.fail(TokenError::permanent("invalid_scope"));
    one.get(&a).await.unwrap_err();
    let error = other.get(&a).await.unwrap_err();
    assert!(matches!(shared_error(&error), SharedError::Paused(_)), "{error}");
    assert_eq!(other.get(&b).await.unwrap().secret(), "t-2");
}

#[cfg(feature = "keyed")]
#[tokio::test(start_paused = true)]
async fn a_renewal_that_waits_is_a_failure_of_its_key_alone() {
    let (service, key) = (Service::default(), crate::key::TokenKey::new().scope("a"));
    let one = process(&service, MemoryStore::new());
    let t_1 = one.fetch(first().with_key(key.clone())).await.unwrap();
    let t_2 = one.fetch(rejected(&t_1).with_key(key.clone())).await.unwrap();
    let error = one.fetch(rejected(&t_2).with_key(key)).await.unwrap_err();
    assert!(matches!(shared_error(&error), SharedError::TooSoon(_)), "{error}");
    assert!(error.is_transient() && error.concerns_key_only());
}

#[cfg(feature = "keyed")]
#[tokio::test(start_paused = true)]
async fn a_source_that_spends_its_refresh_token_is_not_shared_by_keys() {
    let service = Service::rotating();
    let request = first().with_key(crate::key::TokenKey::new().scope("a"));
    let error = process(&service, MemoryStore::new()).fetch(request).await.unwrap_err();
    assert!(matches!(shared_error(&error), SharedError::KeyedRotation) && !error.is_transient());
    assert_eq!(service.fetches(), 0);
}

// ===== A store that fails =====

#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_what_repeats_is_fetched_by_each() {
    for slow in [false, true] {
        let (service, store) = (Service::default(), Flaky::new());
        let fleet = [process(&service, store.clone()), process(&service, store.clone())];
        if slow { &store.is_slow } else { &store.is_away }.store(true, Relaxed);
        let began = Instant::now();
        let tokens = join_all(fleet.iter().map(|it| it.fetch(first()))).await;
        assert_eq!(secrets(tokens).len(), 2);
        assert!(began.elapsed() < 2 * SECOND, "{:?}", began.elapsed());
        assert_eq!(service.fetches(), 2);
    }
}

/// A store in which all writes but the first ones meet a conflict.
struct Conflicting {
    store: MemoryStore,
    /// How many more writes succeed.
    writes: AtomicUsize,
    conflicts: Arc<AtomicUsize>,
}

impl Conflicting {
    fn after(writes: usize) -> Self {
        let (store, writes) = (MemoryStore::new(), AtomicUsize::new(writes));
        Self { store, writes, conflicts: Arc::default() }
    }
}

impl TokenStore for Conflicting {
    async fn load(&self, name: &str) -> Result<Loaded, StoreError> {
        TokenStore::load(&self.store, name).await
    }

    async fn swap(&self, name: &str, seen: &Version, sealed: &[u8]) -> Result<Swapped, StoreError> {
        let less = |left: usize| left.checked_sub(1);
        if self.writes.fetch_update(Relaxed, Relaxed, less).is_ok() {
            return TokenStore::swap(&self.store, name, seen, sealed).await;
        }
        self.conflicts.fetch_add(1, Relaxed);
        Ok(Swapped::Conflict)
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_in_which_every_write_meets_a_conflict_costs_a_fetch_within_seconds() {
    let service = Service::default();
    let shared = process(&service, Conflicting::after(0));
    let token = timeout(SECOND * 5, shared.fetch(first())).await.expect("in time").unwrap();
    assert_eq!((token.secret(), service.fetches()), ("t-1", 1));

    let service = Service::rotating();
    let store = MemoryStore::new();
    store.put("orders", "garbage");
    let shared = process(&service, Conflicting { store, ..Conflicting::after(0) });
    let error = timeout(SECOND * 5, shared.fetch(first())).await.expect("in time").unwrap_err();
    assert!(matches!(shared_error(&error), SharedError::StoreAway(_)) && error.is_transient());
    assert_eq!(service.fetches(), 0, "nothing is spent");
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_write_meets_conflicts_leaves_pauses_between_its_tries() {
    let service = Service::default();
    let store = Conflicting::after(1);
    let conflicts = Arc::clone(&store.conflicts);
    let shared = process(&service, store);
    assert_eq!(shared.fetch(first()).await.unwrap().secret(), "t-1");
    sleep(LEASE * 2).await;
    assert!(conflicts.load(Relaxed) < 100, "{conflicts:?}");
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_nothing_is_spent() {
    let (service, store) = (Service::rotating(), Flaky::new());
    let one = process(&service, store.clone());
    let t_1 = one.fetch(first()).await.unwrap();
    store.is_away.store(true, Relaxed);
    let error = one.fetch(due(&t_1)).await.unwrap_err();
    assert!(matches!(shared_error(&error), SharedError::StoreAway(_)) && error.is_transient());
    assert_eq!(service.fetches(), 1);
    store.is_away.store(false, Relaxed);
    assert_eq!(one.fetch(due(&t_1)).await.unwrap().secret(), "t-2");
}

#[tokio::test(start_paused = true)]
async fn what_was_spent_is_stored_before_it_is_used_however_long_that_takes() {
    let (service, store) = (Service::rotating(), Flaky::new());
    let one = process(&service, store.clone());
    let t_1 = one.fetch(first()).await.unwrap();
    service.inner.holds.store(true, Relaxed);
    let renewal = tokio::spawn({
        let request = due(&t_1);
        async move { one.fetch(request).await }
    });
    sleep(SECOND).await;
    store.is_away.store(true, Relaxed);
    service.inner.release.notify_one();
    // Past the lease.
    sleep(Duration::from_secs(60)).await;
    assert!(!renewal.is_finished());
    store.is_away.store(false, Relaxed);
    service.inner.holds.store(false, Relaxed);
    assert_eq!(renewal.await.unwrap().unwrap().secret(), "t-2");
    let other = process(&service, store);
    assert_eq!(other.fetch(due(&t_1)).await.unwrap().secret(), "t-2");
    assert_eq!(service.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_scope_that_is_too_long_for_a_record_holds_up_nobody() {
    let source = crate::source::from_fn(|_| async {
        let token = AccessToken::new("a").map_err(TokenError::permanent)?;
        Ok(token.with_refresh_token("r").with_scope("s".repeat(300 * 1024)))
    });
    let source = Arc::new(source);
    let store = MemoryStore::new();
    let process = || {
        let unsealed = Shared::new(Arc::clone(&source), store.clone());
        unsealed.name("orders").seal(Seal::new(SEAL)).rotating()
    };
    for process in [process(), process()] {
        let token = timeout(SECOND * 20, process.fetch(first())).await.expect("in time").unwrap();
        assert_eq!((token.secret(), token.scope()), ("a", None));
    }
}

#[tokio::test(start_paused = true)]
async fn an_emptied_store_gets_the_token_back_and_nobody_fetches() {
    for (service, interval) in [(Service::default(), 30), (Service::rotating(), 3)] {
        let store = MemoryStore::new();
        let one = process(&service, store.clone());
        one.fetch(first()).await.unwrap();
        store.clear();
        sleep(Duration::from_secs(interval)).await;
        let other = process(&service, store);
        assert_eq!(other.fetch(first()).await.unwrap().secret(), "t-1");
        assert_eq!(service.fetches(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_with_an_older_refresh_token_does_not_spend_it_in_an_emptied_store() {
    let (service, store) = (Service::rotating(), MemoryStore::new());
    let (old, new) = (process(&service, store.clone()), process(&service, store.clone()));
    let t_1 = old.fetch(first()).await.unwrap();
    // The other one has it from now on, and this one's look has not come yet.
    new.fetch(due(&t_1)).await.unwrap();
    store.clear();
    assert_eq!(old.fetch(due(&t_1)).await.unwrap().secret(), "t-2");
    assert_eq!((service.fetches(), service.inner.is_revoked.load(Relaxed)), (2, false));
}

#[tokio::test(start_paused = true)]
async fn a_process_that_starts_at_an_emptied_store_spends_nothing_that_others_hold() {
    let (service, store) = (Service::rotating(), MemoryStore::new());
    let one = process(&service, store.clone());
    one.fetch(first()).await.unwrap();
    store.clear();
    let other = process(&service, store);
    assert_eq!(other.fetch(first()).await.unwrap().secret(), "t-1");
    assert_eq!(service.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_emptied_while_one_fetches_lets_nobody_else_fetch() {
    let (service, store) = (Service::rotating(), MemoryStore::new());
    let (one, other) = (process(&service, store.clone()), process(&service, store.clone()));
    let t_1 = one.fetch(first()).await.unwrap();
    other.fetch(first()).await.unwrap();
    service.inner.holds.store(true, Relaxed);
    let slow = tokio::spawn({
        let request = due(&t_1);
        async move { one.fetch(request).await }
    });
    sleep(SECOND).await;
    service.inner.holds.store(false, Relaxed);
    store.clear();
    let waits = tokio::spawn(async move { other.fetch(rejected(&t_1)).await });
    // Longer than a store settles; not longer than the lease.
    sleep(Duration::from_secs(20)).await;
    assert_eq!(service.fetches(), 2);
    service.inner.release.notify_one();
    for answer in [slow, waits] {
        assert_eq!(answer.await.unwrap().unwrap().secret(), "t-2");
    }
    assert!(!service.inner.is_revoked.load(Relaxed));
}

#[tokio::test(start_paused = true)]
async fn an_emptied_store_holds_up_a_renewal_for_ten_seconds_and_no_longer() {
    let (service, store) = (Service::rotating(), MemoryStore::new());
    let one = process(&service, store.clone()).lease(Duration::from_secs(120));
    let t_1 = one.fetch(first()).await.unwrap();
    store.clear();
    let began = Instant::now();
    assert_eq!(one.fetch(rejected(&t_1)).await.unwrap().secret(), "t-2");
    assert!(began.elapsed() < Duration::from_secs(11), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn garbage_is_ignored_and_replaced() {
    let sealed_by_another = {
        let (service, store) = (Service::default(), MemoryStore::new());
        let other = Shared::new(Source(service), store.clone()).name("orders");
        other.seal(Seal::new(SEAL.replace("00", "ff"))).fetch(first()).await.unwrap();
        store.sealed("orders").unwrap()
    };
    for garbage in [vec![], vec![1; 40], vec![9; 400], vec![1; 10 << 20], sealed_by_another] {
        let (service, store) = (Service::default(), MemoryStore::new());
        store.put("orders", garbage);
        assert_eq!(process(&service, store.clone()).fetch(first()).await.unwrap().secret(), "t-1");
        assert_eq!(process(&service, store).fetch(first()).await.unwrap().secret(), "t-1");
        assert_eq!(service.fetches(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_seal_that_cannot_be_read_is_an_error_and_nothing_is_sent() {
    let service = Service::default();
    let shared = Shared::new(Source(service.clone()), MemoryStore::new()).seal(Seal::new("hush"));
    let error = shared.fetch(first()).await.unwrap_err();
    assert!(matches!(shared_error(&error), SharedError::Seal(_)) && !error.is_transient());
    assert!(!format!("{error} {error:?} {shared:?}").contains("hush"));
    assert_eq!(service.fetches(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_seal_that_never_answers_keeps_no_task_of_a_caller_that_has_gone() {
    let seal = Seal::new(crate::Secret::from_fn(std::future::pending));
    let shared = Shared::new(Source(Service::default()), MemoryStore::new()).seal(seal);
    for _ in 0..10 {
        assert!(timeout(SECOND, shared.fetch(first())).await.is_err());
    }
    sleep(SECOND).await;
    assert_eq!(Arc::strong_count(&shared.member), 1);
}

#[tokio::test(start_paused = true)]
async fn the_sealing_key_can_be_rotated() {
    let (service, store) = (Service::default(), MemoryStore::new());
    let new_key = SEAL.replace("00", "ff");
    let with =
        |seal: Seal| Shared::new(Source(service.clone()), store.clone()).name("a").seal(seal);
    let old = with(Seal::new(SEAL).also_opens(new_key.as_str()));
    let new = with(Seal::new(new_key.as_str()).also_opens(SEAL));
    let t_1 = old.fetch(first()).await.unwrap();
    assert_eq!(new.fetch(first()).await.unwrap().secret(), "t-1");
    assert_eq!(new.fetch(due(&t_1)).await.unwrap().secret(), "t-2");
    assert_eq!(old.fetch(due(&t_1)).await.unwrap().secret(), "t-2");
    assert_eq!(service.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn while_an_older_sealing_key_cannot_be_read_a_refresh_token_sealed_with_it_is_not_spent() {
    let (service, store) = (Service::rotating(), MemoryStore::new());
    let t_1 = process(&service, store.clone()).fetch(first()).await.unwrap();

    let directory = tempfile::tempdir().unwrap();
    let old_key = directory.path().join("seal-of-last-year");
    std::fs::write(&old_key, &SEAL[..20]).unwrap();
    let seal = Seal::new(SEAL.replace("00", "ff")).also_opens(crate::Secret::file(&old_key));
    let new = Shared::new(Source(service.clone()), store).name("orders").seal(seal);
    let error = new.fetch(due(&t_1)).await.unwrap_err();
    assert!(matches!(shared_error(&error), SharedError::StoreAway(_)), "{error}");
    assert!(error.is_transient() && error.to_string().contains("seal-of-last-year"), "{error}");
    assert_eq!(service.fetches(), 1);

    std::fs::write(&old_key, SEAL).unwrap();
    assert_eq!(new.fetch(due(&t_1)).await.unwrap().secret(), "t-2");
}

// ===== A process that ends half-way =====

/// A leader has sent the refresh token, and what came back is lost with it.
async fn lose_an_answer(service: &Service, store: &MemoryStore, previous: &AccessToken) {
    service.inner.holds.store(true, Relaxed);
    let leader = process(service, store.clone());
    // Its task goes on, but never gets its answer.
    assert!(timeout(SECOND, leader.fetch(due(previous))).await.is_err());
    service.inner.holds.store(false, Relaxed);
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_between_exchange_and_store_a_forgiving_service_is_asked_once_more() {
    let (service, store) = (Service::rotating(), MemoryStore::new());
    service.inner.forgives.store(true, Relaxed);
    let one = process(&service, store.clone());
    let t_1 = one.fetch(first()).await.unwrap();
    lose_an_answer(&service, &store, &t_1).await;
    assert_eq!(one.fetch(due(&t_1)).await.unwrap().secret(), "t-3");
    assert_eq!(service.fetches(), 3);
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_between_exchange_and_store_a_refusal_says_that_the_token_is_lost() {
    let (service, store) = (Service::rotating(), MemoryStore::new());
    let one = process(&service, store.clone());
    let t_1 = one.fetch(first()).await.unwrap();
    lose_an_answer(&service, &store, &t_1).await;
    let error = one.fetch(due(&t_1)).await.unwrap_err();
    assert!(matches!(shared_error(&error), SharedError::RefreshTokenLost(_)));
    assert!(!error.is_transient() && error.to_string().contains("invalid_grant"), "{error}");
    // The token that is still good stays for processes that start.
    assert_eq!(process(&service, store).fetch(first()).await.unwrap().secret(), "t-1");
}

#[tokio::test(start_paused = true)]
async fn a_late_success_is_what_all_get_even_after_a_successors_refusal() {
    let (service, store) = (Service::rotating(), MemoryStore::new());
    let one = process(&service, store.clone());
    let t_1 = one.fetch(first()).await.unwrap();
    lose_an_answer(&service, &store, &t_1).await;
    assert!(one.fetch(due(&t_1)).await.is_err());
    // Now its answer comes.
    service.inner.release.notify_one();
    sleep(SECOND).await;
    assert_eq!(one.fetch(due(&t_1)).await.unwrap().secret(), "t-2");
}

#[tokio::test(start_paused = true)]
async fn a_refused_successor_reads_again() {
    let (service, store) = (Service::rotating(), MemoryStore::new());
    let one = process(&service, store.clone());
    let t_1 = one.fetch(first()).await.unwrap();
    lose_an_answer(&service, &store, &t_1).await;
    // The late answer is stored while the successor's refusal is on its way.
    service.inner.holds.store(true, Relaxed);
    let successor = tokio::spawn({
        let request = due(&t_1);
        async move { one.fetch(request).await }
    });
    while service.fetches() < 3 {
        sleep(SECOND).await;
    }
    service.inner.release.notify_one();
    sleep(SECOND).await;
    service.inner.release.notify_one();
    assert_eq!(successor.await.unwrap().unwrap().secret(), "t-2");
}

// ===== Under a cache =====

#[tokio::test(start_paused = true)]
async fn no_request_asks_the_store_while_a_usable_token_is_here() {
    let (service, store) = (Service::default(), Flaky::new());
    let cache = crate::cache::TokenCache::new(process(&service, store.clone()));
    cache.get().await.unwrap();
    let loads = store.loads.load(Relaxed);
    store.is_slow.store(true, Relaxed);
    for _ in 0..100 {
        assert_eq!(cache.get().await.unwrap().secret(), "t-1");
    }
    assert_eq!(store.loads.load(Relaxed), loads);
}

#[tokio::test(start_paused = true)]
async fn a_guard_ends_with_the_last_handle() {
    let (service, store) = (Service::rotating(), Flaky::new());
    let one = process(&service, store.clone());
    one.fetch(first()).await.unwrap();
    drop(one);
    let loads = store.loads.load(Relaxed);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(store.loads.load(Relaxed), loads);
}

#[test]
fn what_is_not_set_comes_from_the_source() {
    let service = Service::rotating();
    let shared = Shared::new(Source(service), MemoryStore::new()).seal(Seal::new(SEAL));
    assert_eq!(TokenSource::name(&shared), Some("token"));
    assert!(shared.member.rotates());
    let shared = shared.lease(Duration::ZERO).store_timeout(SECOND);
    assert_eq!(shared.member.settings.lease, MIN_LEASE);
    assert_eq!(shared.member.settings.store_timeout, SECOND);
}
