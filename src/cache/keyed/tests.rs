//! Which entry goes and which stays, and when a token ends.

mod outage;

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::UNIX_EPOCH,
};

use futures_util::FutureExt;

use super::*;
use crate::{
    error::CacheError,
    key::{InvalidTokenKey, NoSubject},
    source::{TokenRequest, from_fn},
};

const S: Duration = Duration::from_secs(1);

fn scope(name: impl Into<String>) -> TokenKey {
    TokenKey::new().scope(name)
}

fn user(name: &str) -> TokenKey {
    TokenKey::new().on_behalf_of(subject(name))
}

fn subject(name: &str) -> Subject {
    Subject::new(AccessToken::new(name).unwrap())
}

/// What the request asks for: the scope, or else the user's token.
fn asked_for(request: &TokenRequest) -> String {
    let key = request.key().expect("the cache shows the key");
    let scope = key.requested_scope().map(str::to_owned);
    scope.or_else(|| key.subject().map(|it| it.token().secret().to_owned())).unwrap_or_default()
}

/// A source that answers as the test says, and records its fetches.
#[derive(Clone, Default)]
struct Service(Arc<Inner>);

#[derive(Default)]
struct Inner {
    fetches: Mutex<Vec<String>>,
    error: Mutex<Option<TokenError>>,
    /// Fetches wait until its sender is dropped.
    gate: Mutex<Option<tokio::sync::watch::Receiver<()>>>,
    lifetime: Mutex<Option<Duration>>,
}

impl Service {
    fn source(&self) -> impl TokenSource + use<> {
        let this = self.clone();
        from_fn(move |request: TokenRequest| {
            let this = this.clone();
            async move {
                let asked_for = asked_for(&request);
                this.0.fetches.lock().unwrap().push(asked_for.clone());
                let gate = this.0.gate.lock().unwrap().clone();
                if let Some(mut gate) = gate {
                    let _closed = gate.changed().await;
                }
                let error = this.0.error.lock().unwrap().clone();
                if let Some(error) = error {
                    return Err(error);
                }
                let nth = this.0.fetches.lock().unwrap().len();
                let token = AccessToken::new(format!("{asked_for}-{nth}")).unwrap();
                let lifetime = *this.0.lifetime.lock().unwrap();
                Ok(lifetime.map_or(token.clone(), |lifetime| token.with_lifetime(lifetime)))
            }
        })
    }

    fn fetches(&self) -> Vec<String> {
        self.0.fetches.lock().unwrap().clone()
    }

    fn fail_with(&self, error: impl Into<Option<TokenError>>) {
        *self.0.error.lock().unwrap() = error.into();
    }

    /// Makes fetches wait until the returned sender is dropped.
    fn close(&self) -> tokio::sync::watch::Sender<()> {
        let (sender, receiver) = tokio::sync::watch::channel(());
        *self.0.gate.lock().unwrap() = Some(receiver);
        sender
    }

    fn builder(&self) -> KeyedTokenCacheBuilder {
        let policy = RefreshPolicy::builder().attempts(1).due_jitter(0.0).pause_jitter(0.0);
        KeyedTokenCache::builder(self.source()).policy(policy.build().unwrap())
    }

    fn holding(&self, capacity: usize) -> KeyedTokenCache {
        self.builder().capacity(capacity).build().unwrap()
    }
}

async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

// ===== One cache for each key =====

#[tokio::test(start_paused = true)]
async fn equal_keys_share_one_cache_and_one_flight_and_others_share_nothing() {
    let service = Service::default();
    let tokens = service.holding(10);
    let (a, again, b) = (scope("a"), scope("a"), user("a"));
    let (first, second, other) = tokio::join!(tokens.get(&a), tokens.get(&again), tokens.get(&b));
    assert!(first.unwrap().is_same(&second.unwrap()));
    assert_ne!(other.unwrap().secret(), tokens.get(&a).await.unwrap().secret());
    assert_eq!(service.fetches().len(), 2);
    assert_eq!(tokens.len(), 2);
    assert!(tokens.cache(&a).is_same(&tokens.cache(&again)));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_cannot_be_used_has_no_entry_and_fetches_nothing() {
    let service = Service::default();
    let tokens = service.holding(10);
    let bad = TokenKey::new().param("grant_type", "x");
    for error in [tokens.get(&bad).await.unwrap_err(), tokens.cache(&bad).get().await.unwrap_err()]
    {
        assert!(error.downcast_ref::<InvalidTokenKey>().is_some(), "{error}");
        assert!(!error.is_transient());
    }
    assert!(tokens.is_empty() && service.fetches().is_empty());
}

#[test]
fn a_capacity_or_an_idle_time_of_nothing_is_an_error_of_the_builder() {
    let service = Service::default();
    assert_eq!(service.builder().capacity(0).build().unwrap_err().field(), "capacity");
    assert_eq!(service.builder().idle(Duration::ZERO).build().unwrap_err().field(), "idle");
    assert!(service.builder().capacity(1).idle(Duration::from_nanos(1)).build().is_ok());
}

// ===== Eviction =====

#[tokio::test(start_paused = true)]
async fn the_map_holds_its_capacity_however_many_keys_come() {
    let service = Service::default();
    for capacity in [1, 2, 100] {
        let tokens = service.holding(capacity);
        for nth in 0..1000 {
            tokens.get(&scope(nth.to_string())).await.unwrap();
            assert!(tokens.len() <= capacity, "{} of {capacity}", tokens.len());
        }
        assert_eq!(tokens.len(), capacity);
    }
}

#[tokio::test(start_paused = true)]
async fn keys_that_fail_hold_the_capacity_too() {
    let service = Service::default();
    service.fail_with(TokenError::permanent("no"));
    let tokens = service.holding(100);
    for nth in 0..10_000 {
        tokens.get(&scope(nth.to_string())).await.unwrap_err();
    }
    assert_eq!(tokens.len(), 100);
    assert!(tokens.keyed.map.unproven() <= 300, "{}", tokens.keyed.map.unproven());
}

#[tokio::test(start_paused = true)]
async fn a_key_that_never_had_a_token_goes_first() {
    let service = Service::default();
    let tokens = service.holding(10);
    for nth in 0..9 {
        tokens.get(&scope(format!("good{nth}"))).await.unwrap();
    }
    service.fail_with(TokenError::permanent("no"));
    for nth in 0..1000 {
        tokens.get(&scope(format!("bad{nth}"))).await.unwrap_err();
    }
    let before = service.fetches().len();
    for nth in 0..9 {
        tokens.get(&scope(format!("good{nth}"))).await.unwrap();
    }
    assert_eq!(service.fetches().len(), before, "the good ones are still there");
}

#[tokio::test(start_paused = true)]
async fn an_entry_whose_flight_is_under_way_stays_and_the_map_grows_beyond_its_capacity() {
    let service = Service::default();
    let tokens = service.holding(2);
    let gate = service.close();
    let waiting: Vec<_> = (0..10)
        .map(|nth| {
            let tokens = tokens.clone();
            tokio::spawn(async move { tokens.get(&scope(nth.to_string())).await })
        })
        .collect();
    settle().await;
    assert_eq!(tokens.len(), 10);
    for nth in 0..10 {
        assert!(tokens.known(&scope(nth.to_string())).is_some());
    }
    drop(gate);
    for waiting in waiting {
        waiting.await.unwrap().unwrap();
    }
    tokens.get(&scope("another")).await.unwrap();
    settle().await;
    assert!(tokens.len() <= 2, "{}", tokens.len());
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_no_caller_holds_stays_while_its_flight_is_under_way() {
    let service = Service::default();
    let tokens = service.builder().capacity(1).idle(5 * S).build().unwrap();
    let gate = service.close();
    let cache = tokens.cache(&user("ann"));
    let waiting = tokio::spawn(async move { cache.get().await });
    settle().await;
    *service.0.gate.lock().unwrap() = None;
    for nth in 0..10 {
        tokens.get(&scope(nth.to_string())).await.unwrap();
    }
    assert!(tokens.known(&user("ann")).is_some(), "not for want of room");
    tokio::time::advance(6 * S).await;
    tokens.get(&scope("another")).await.unwrap();
    assert!(tokens.known(&user("ann")).is_some(), "not because it was not used");
    drop(gate);
    waiting.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_a_caller_holds_stays() {
    let service = Service::default();
    let tokens = service.holding(2);
    let in_hand = tokens.entry(&scope("held")).unwrap();
    for nth in 0..100 {
        tokens.get(&scope(nth.to_string())).await.unwrap();
    }
    assert!(Arc::ptr_eq(&in_hand, &tokens.known(&scope("held")).unwrap()));
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_is_not_used_for_long_goes_and_one_that_is_stays() {
    let service = Service::default();
    let gone = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&gone);
    let tokens =
        service.builder().idle(100 * S).on_evicted(move |why| log.lock().unwrap().push(why));
    let tokens = tokens.build().unwrap();
    for key in ["used", "idle", "idle2"] {
        tokens.get(&scope(key)).await.unwrap();
    }
    for _ in 0..3 {
        tokio::time::advance(40 * S).await;
        tokens.get(&scope("used")).await.unwrap();
    }
    assert_eq!(tokens.len(), 3, "nobody looks for them until another key comes");
    assert!(tokens.known(&scope("idle")).is_none(), "it was found by its own request");
    tokens.get(&scope("new")).await.unwrap();
    assert_eq!(tokens.len(), 2);
    assert!(tokens.known(&scope("used")).is_some());
    assert_eq!(*gone.lock().unwrap(), [Evicted::Idle, Evicted::Idle]);
}

#[tokio::test(start_paused = true)]
async fn each_evicted_entry_is_reported_once_with_the_reason() {
    let service = Service::default();
    let counts = Arc::new([const { AtomicUsize::new(0) }; 3]);
    let log = Arc::clone(&counts);
    let tokens = service
        .builder()
        .capacity(2)
        .on_evicted(move |why| {
            log[why as usize].fetch_add(1, SeqCst);
        })
        .build()
        .unwrap();
    for nth in 0..10 {
        tokens.get(&scope(nth.to_string())).await.unwrap();
    }
    tokens.forget(&scope("9"));
    tokens.forget(&scope("9"));
    let counts = [Evicted::Capacity, Evicted::Idle, Evicted::Forgotten]
        .map(|why| counts[why as usize].load(SeqCst));
    assert_eq!(counts, [8, 0, 1]);
    assert_eq!(tokens.len(), 1);
}

// ===== Forgotten =====

#[tokio::test(start_paused = true)]
async fn what_is_forgotten_is_gone_at_once_and_the_next_request_fetches_again() {
    let service = Service::default();
    let tokens = service.holding(10);
    let old = tokens.cache(&user("ann"));
    let before = old.get().await.unwrap();
    tokens.forget(&user("ann"));
    assert!(old.current().is_none());
    let error = old.get().await.unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&CacheError::Forgotten));
    assert!(!tokens.get(&user("ann")).await.unwrap().is_same(&before));
    assert_eq!(service.fetches().len(), 2, "the old handle has fetched nothing");
}

#[tokio::test(start_paused = true)]
async fn the_flight_of_a_forgotten_key_ends_at_once_and_publishes_nothing() {
    let service = Service::default();
    let tokens = service.holding(10);
    let gate = service.close();
    let old = tokens.cache(&user("ann"));
    let waiting = tokio::spawn({
        let old = old.clone();
        async move { old.get().await }
    });
    settle().await;
    tokens.forget(&user("ann"));
    let forgotten = tokio::time::Instant::now();
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&CacheError::Forgotten));
    assert_eq!(forgotten.elapsed(), Duration::ZERO);
    drop(gate);
    settle().await;
    assert!(old.current().is_none());
    assert!(tokens.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_has_not_had_its_token_yet_gets_none_that_was_forgotten() {
    let service = Service::default();
    let tokens = service.holding(10);
    let gate = service.close();
    let ann = user("ann");
    let mut waiting = Box::pin(tokens.get(&ann));
    assert!((&mut waiting).now_or_never().is_none());
    drop(gate);
    settle().await;
    assert!(tokens.cache(&ann).current().is_some(), "its flight has ended");
    tokens.forget(&ann);
    let error = waiting.await.unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&CacheError::Forgotten));
}

#[test]
fn a_flight_that_was_given_up_does_not_keep_a_later_one_from_being_forgotten() {
    let runtime = |paused| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(paused).build().unwrap()
    };
    let service = Service::default();
    let tokens = service.holding(10);
    let _gate = service.close();
    let ann = user("ann");
    let stalled = runtime(false);
    {
        let _inside = stalled.enter();
        assert!(tokens.get(&ann).now_or_never().is_none());
    }
    let driven = runtime(true);
    driven.block_on(async {
        let error = tokens.get(&ann).await.unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&CacheError::FlightLost));
    });
    let waiting = driven.spawn({
        let (tokens, ann) = (tokens.clone(), ann.clone());
        async move { tokens.get(&ann).await }
    });
    driven.block_on(settle());
    stalled.block_on(settle());
    driven.block_on(async {
        let forgotten = tokio::time::Instant::now();
        tokens.forget(&ann);
        let error = waiting.await.unwrap().unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&CacheError::Forgotten));
        assert_eq!(forgotten.elapsed(), Duration::ZERO);
    });
}

#[tokio::test(start_paused = true)]
async fn nothing_brings_a_forgotten_token_back() {
    let service = Service::default();
    let tokens = service.holding(10);
    let old = tokens.cache(&user("ann"));
    old.keep_warm();
    old.get().await.unwrap();
    tokens.forget(&user("ann"));
    old.keep_warm();
    old.warm_up();
    let error = old.refresh().await.unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&CacheError::Forgotten));
    tokio::time::advance(3600 * S).await;
    settle().await;
    assert_eq!(service.fetches().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn forgetting_reaches_the_handles_of_entries_that_were_evicted() {
    let service = Service::default();
    let tokens = service.holding(1);
    let handles = [user("ann"), user("ann").scope("a"), user("bob")].map(|key| tokens.cache(&key));
    for handle in &handles {
        handle.get().await.unwrap();
    }
    tokens.get(&scope("another")).await.unwrap();
    assert_eq!(tokens.len(), 1);
    tokens.forget_subject(&subject("ann"));
    assert_eq!(handles.each_ref().map(|it| it.current().is_some()), [false, false, true]);
    tokens.forget(&user("bob"));
    assert!(handles[2].current().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_evicted_gets_its_cache_back_while_somebody_has_a_handle() {
    let service = Service::default();
    let tokens = service.holding(1);
    let handle = tokens.cache(&user("ann"));
    handle.get().await.unwrap();
    tokens.get(&user("bob")).await.unwrap();
    assert!(tokens.known(&user("ann")).is_none());
    assert!(tokens.cache(&user("ann")).is_same(&handle));
    drop(handle);
    tokens.get(&user("bob")).await.unwrap();
    tokens.get(&user("ann")).await.unwrap();
    assert_eq!(service.fetches(), ["ann", "bob", "bob", "ann"]);
}

#[tokio::test(start_paused = true)]
async fn handles_that_are_dropped_are_not_kept_in_mind() {
    let service = Service::default();
    let tokens = service.holding(1);
    for nth in 0..1000 {
        let handle = tokens.cache(&scope(nth.to_string()));
        tokens.get(&scope("another")).await.unwrap();
        drop(handle);
    }
    assert!(tokens.keyed.map.detached() < 64, "{}", tokens.keyed.map.detached());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_for_a_forgotten_key_fails_and_fetches_nothing() {
    let service = Service::default();
    let tokens = service.holding(10);
    let old = tokens.cache(&user("ann"));
    let rejected = old.get().await.unwrap();
    tokens.forget(&user("ann"));
    let error = old.renew(crate::cache::Rejection::new(rejected)).await.unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&CacheError::Forgotten));
    assert_eq!(service.fetches().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_subject_that_is_forgotten_loses_its_tokens_of_all_scopes_and_no_other_does() {
    let service = Service::default();
    let tokens = service.holding(10);
    let keys = [user("ann"), user("ann").scope("a"), user("bob"), scope("a"), TokenKey::new()];
    for key in &keys {
        tokens.get(key).await.unwrap();
    }
    tokens.forget_subject(&subject("ann"));
    let there = keys.map(|key| tokens.known(&key).is_some());
    assert_eq!(there, [false, false, true, true, true]);
}

// ===== Subjects =====

fn user_until(name: &str, left: Duration) -> TokenKey {
    let token = AccessToken::new(name).unwrap().with_expiry(SystemTime::now() + left);
    TokenKey::new().on_behalf_of(Subject::new(token))
}

#[tokio::test(start_paused = true)]
async fn a_token_ends_with_its_subject_and_one_that_ends_earlier_stays_as_it_is() {
    for (own, expected) in [(None, 100), (Some(1000 * S), 100), (Some(60 * S), 60)] {
        let service = Service::default();
        *service.0.lifetime.lock().unwrap() = own;
        let tokens = service.holding(10);
        let key = user_until("ann", 100 * S);
        tokens.get(&key).await.unwrap();
        let expiry = tokens.cache(&key).status().expiry().unwrap();
        let left = expiry - tokio::time::Instant::now();
        // The token counts as expired up to 10 s, or a tenth of its life, early; and real time
        // passes.
        let expected = Duration::from_secs(expected);
        assert!(left <= expected && left + expected / 8 >= expected, "{own:?}: {left:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_fetched_for_a_subject_that_has_expired() {
    let service = Service::default();
    let tokens = service.holding(10);
    let ended = AccessToken::new("ann").unwrap().with_expiry(UNIX_EPOCH + S);
    let key = TokenKey::new().on_behalf_of(Subject::new(ended));
    for error in [tokens.get(&key).await.unwrap_err(), tokens.cache(&key).get().await.unwrap_err()]
    {
        assert_eq!(error.downcast_ref(), Some(&NoSubject::Expired));
    }
    assert!(service.fetches().is_empty() && tokens.is_empty());
}

/// Waits for the wall clock, which no test can move.
fn until(date: SystemTime) {
    while SystemTime::now() < date {
        std::thread::yield_now();
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_arrives_after_its_subject_has_expired_is_given_to_nobody() {
    let service = Service::default();
    let tokens = service.holding(10);
    let gate = service.close();
    let key = user_until("ann", S / 20);
    let waiting = tokio::spawn({
        let (tokens, key) = (tokens.clone(), key.clone());
        async move { tokens.get(&key).await }
    });
    settle().await;
    assert_eq!(service.fetches(), ["ann"]);
    until(key.subject().unwrap().expiry().unwrap());
    drop(gate);
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&NoSubject::Expired));
}

#[tokio::test(start_paused = true)]
async fn a_subject_that_comes_again_with_a_later_expiry_has_tokens_until_then() {
    for is_fetched_meanwhile in [false, true] {
        let service = Service::default();
        let tokens = service.holding(10);
        let first = user_until("ann", S / 20);
        tokens.get(&first).await.unwrap();
        until(first.subject().unwrap().expiry().unwrap());
        tokio::time::advance(S).await;
        if is_fetched_meanwhile {
            tokens.known(&first).unwrap().cache().get().await.unwrap_err();
        }
        let later = user_until("ann", 1000 * S);
        assert_eq!(first, later);
        if is_fetched_meanwhile {
            tokens.get(&later).await.unwrap_err();
            settle().await;
        }
        tokens.get(&later).await.unwrap();
        assert_eq!(service.fetches(), ["ann", "ann"]);
    }
}
