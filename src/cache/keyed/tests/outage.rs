//! What a failure means for the other keys.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_failure_of_the_service_holds_for_all_keys_and_one_at_a_time_tries_again() {
    let service = Service::default();
    let tokens = service.holding(10);
    service.fail_with(TokenError::transient("down"));
    tokens.get(&user("ann")).await.unwrap_err();
    for name in ["bob", "cid", "dee"] {
        let error = tokens.get(&user(name)).await.unwrap_err();
        assert_eq!(error.to_string(), "down");
        assert!(error.is_transient());
    }
    assert_eq!(service.fetches(), ["ann"], "the others have not asked");

    tokio::time::advance(S).await;
    let gate = service.close();
    let trial = tokio::spawn({
        let tokens = tokens.clone();
        async move { tokens.get(&user("bob")).await }
    });
    settle().await;
    assert_eq!(service.fetches(), ["ann", "bob"]);
    tokens.get(&user("eve")).await.unwrap_err();
    assert_eq!(service.fetches(), ["ann", "bob"], "one at a time");

    service.fail_with(None);
    drop(gate);
    trial.await.unwrap().unwrap();
    tokens.get(&user("fay")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn each_trial_that_fails_makes_the_next_one_later() {
    let service = Service::default();
    let tokens = service.holding(100);
    service.fail_with(TokenError::transient("down"));
    let start = tokio::time::Instant::now();
    let mut asked = Vec::new();
    for nth in 0..100_u32 {
        let before = service.fetches().len();
        tokens.get(&user(&nth.to_string())).await.unwrap_err();
        if service.fetches().len() > before {
            asked.push(start.elapsed().as_secs());
        }
        tokio::time::advance(S / 2).await;
    }
    assert_eq!(asked, [0, 1, 3, 7, 15, 30, 45]);
}

/// The cooldown is over, and this key is on trial.
async fn on_trial(
    tokens: &KeyedTokenCache,
    key: TokenKey,
) -> tokio::task::JoinHandle<Result<AccessToken, TokenError>> {
    tokio::time::advance(S).await;
    let tokens = tokens.clone();
    let trial = tokio::spawn(async move { tokens.get(&key).await });
    settle().await;
    trial
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_refused_during_a_trial_asks_soon_after_it() {
    let service = Service::default();
    let tokens = service.holding(10);
    service.fail_with(TokenError::transient("down"));
    tokens.get(&user("first")).await.unwrap_err();
    let gate = service.close();
    let trial = on_trial(&tokens, user("ann")).await;
    tokens.get(&user("bob")).await.unwrap_err();
    service.fail_with(None);
    drop(gate);
    trial.await.unwrap().unwrap();
    tokio::time::advance(S).await;
    tokens.get(&user("bob")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_ends_with_a_failure_of_its_own_key_lets_the_next_key_try() {
    let service = Service::default();
    let tokens = service.holding(10);
    service.fail_with(TokenError::transient("down"));
    tokens.get(&user("first")).await.unwrap_err();
    tokio::time::advance(S).await;
    service.fail_with(TokenError::permanent("invalid_grant"));
    for name in ["ann", "bob"] {
        let error = tokens.get(&user(name)).await.unwrap_err();
        assert_eq!(error.to_string(), "invalid_grant");
    }
    service.fail_with(None);
    tokens.get(&user("cid")).await.unwrap();
    assert_eq!(service.fetches(), ["first", "ann", "bob", "cid"]);
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_is_forgotten_lets_the_next_key_try() {
    let service = Service::default();
    let tokens = service.holding(10);
    service.fail_with(TokenError::transient("down"));
    tokens.get(&user("first")).await.unwrap_err();
    let gate = service.close();
    let trial = on_trial(&tokens, user("ann")).await;
    tokens.forget(&user("ann"));
    trial.await.unwrap().unwrap_err();
    service.fail_with(None);
    drop(gate);
    tokens.get(&user("bob")).await.unwrap();
}

#[test]
fn a_runtime_that_shuts_down_under_a_fetch_says_nothing_of_the_service() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let service = Service::default();
    let tokens = service.holding(10);
    let gate = service.close();
    let gone = runtime();
    gone.block_on(async {
        assert!(tokens.get(&user("ann")).now_or_never().is_none());
        settle().await;
    });
    assert_eq!(service.fetches(), ["ann"]);
    drop((gone, gate));
    runtime().block_on(tokens.get(&user("bob"))).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_permanent_failure_of_the_service_is_over_for_all_when_one_key_has_found_out() {
    let service = Service::default();
    let tokens = service.holding(10);
    service.fail_with(TokenError::permanent("invalid_client").for_all_keys());
    for name in ["ann", "bob", "cid"] {
        tokens.get(&user(name)).await.unwrap_err();
    }
    assert_eq!(service.fetches(), ["ann"]);
    service.fail_with(None);
    tokio::time::advance(30 * S).await;
    tokens.get(&user("dee")).await.unwrap();
    let since = tokio::time::Instant::now();
    for name in ["ann", "bob", "cid"] {
        // The cache asks its source, which knows of the recovery, and then the service.
        while tokens.get(&user(name)).await.is_err() {
            settle().await;
            tokio::time::advance(S).await;
        }
    }
    assert!(since.elapsed() < 10 * S, "{:?}", since.elapsed());
    assert_eq!(service.fetches().len(), 5);
}

/// A source whose secret an operator changes.
#[derive(Clone, Default)]
struct Misconfigured(Arc<[AtomicUsize; 3]>);

impl TokenSource for Misconfigured {
    async fn fetch(&self, _: TokenRequest) -> Result<AccessToken, TokenError> {
        let [fetches, is_mended, _] = &*self.0;
        fetches.fetch_add(1, SeqCst);
        if is_mended.load(SeqCst) > 0 {
            return AccessToken::new("a").map_err(TokenError::permanent);
        }
        Err(TokenError::permanent("invalid_client").for_all_keys())
    }

    async fn recovered(&self) -> bool {
        self.0[2].fetch_add(1, SeqCst);
        self.0[1].load(SeqCst) > 0
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_was_changed_ends_the_outage_for_all_keys() {
    let source = Misconfigured::default();
    let tokens = KeyedTokenCache::builder(source.clone()).build().unwrap();
    for name in ["ann", "bob"] {
        tokens.get(&user(name)).await.unwrap_err();
    }
    source.0[1].store(1, SeqCst);
    let changed = tokio::time::Instant::now();
    for name in ["bob", "ann", "cid"] {
        while tokens.get(&user(name)).await.is_err() {
            settle().await;
            tokio::time::advance(S).await;
        }
    }
    assert!(changed.elapsed() < 10 * S, "{:?}", changed.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_source_is_asked_once_a_second_whether_it_has_recovered_however_many_keys_there_are() {
    let source = Misconfigured::default();
    let tokens = KeyedTokenCache::builder(source.clone()).build().unwrap();
    // In the first second each key learns of the failure.
    for second in 0..5 {
        for nth in 0..100 {
            tokens.get(&user(&nth.to_string())).await.unwrap_err();
            settle().await;
        }
        assert_eq!(source.0[2].load(SeqCst), second);
        tokio::time::advance(S).await;
    }
}

/// A source whose secret is changed for another wrong one.
#[derive(Clone, Default)]
struct StillWrong(Arc<[AtomicUsize; 2]>);

impl TokenSource for StillWrong {
    async fn fetch(&self, _: TokenRequest) -> Result<AccessToken, TokenError> {
        let [fetches, is_changed] = &*self.0;
        fetches.fetch_add(1, SeqCst);
        is_changed.store(0, SeqCst);
        Err(TokenError::permanent("invalid_client").for_all_keys())
    }

    async fn recovered(&self) -> bool {
        self.0[1].load(SeqCst) > 0
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_was_changed_for_another_wrong_one_is_tried_once() {
    let source = StillWrong::default();
    let tokens = KeyedTokenCache::builder(source.clone()).build().unwrap();
    let ask = async |nth: i32| {
        tokens.get(&user(&nth.to_string())).await.unwrap_err();
        settle().await;
    };
    for nth in 0..50 {
        ask(nth).await;
    }
    source.0[1].store(1, SeqCst);
    for nth in 0..50 {
        ask(nth).await;
        ask(nth).await;
    }
    assert_eq!(source.0[0].load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_one_key_caused_holds_for_that_key_alone() {
    let service = Service::default();
    let tokens = service.holding(10);
    service.fail_with(TokenError::permanent("invalid_grant"));
    tokens.get(&user("ann")).await.unwrap_err();
    service.fail_with(None);
    tokens.get(&user("bob")).await.unwrap();
    tokens.get(&user("ann")).await.unwrap_err();
    assert_eq!(service.fetches(), ["ann", "bob"]);
}

#[tokio::test(start_paused = true)]
async fn the_attempts_of_one_flight_are_one_failure() {
    let service = Service::default();
    let policy = RefreshPolicy::builder().attempts(3).pause_jitter(0.0).build().unwrap();
    let tokens = KeyedTokenCache::builder(service.source()).policy(policy).build().unwrap();
    service.fail_with(TokenError::transient("down"));
    tokens.get(&user("ann")).await.unwrap_err();
    assert_eq!(service.fetches(), ["ann"; 3]);
    tokio::time::advance(S).await;
    service.fail_with(None);
    tokens.get(&user("bob")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_here_is_used_while_the_service_is_down_for_others() {
    let service = Service::default();
    let tokens = service.holding(10);
    let here = tokens.get(&user("ann")).await.unwrap();
    service.fail_with(TokenError::transient("down"));
    tokens.get(&user("bob")).await.unwrap_err();
    assert!(tokens.get(&user("ann")).await.unwrap().is_same(&here));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_does_not_answer_is_down_for_all() {
    let service = Service::default();
    let tokens = service.holding(10);
    let _gate = service.close();
    tokens.get(&user("ann")).await.unwrap_err();
    let fetches = service.fetches().len();
    let error = tokens.get(&user("bob")).await.unwrap_err();
    assert!(error.is_transient());
    assert_eq!(service.fetches().len(), fetches);
}

#[tokio::test(start_paused = true)]
async fn a_flight_that_is_forgotten_says_nothing_of_the_service() {
    let service = Service::default();
    let tokens = service.holding(10);
    let gate = service.close();
    let waiting = tokio::spawn({
        let tokens = tokens.clone();
        async move { tokens.get(&user("ann")).await }
    });
    settle().await;
    tokens.forget(&user("ann"));
    waiting.await.unwrap().unwrap_err();
    drop(gate);
    tokens.get(&user("bob")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_source_that_panics_for_one_key_says_nothing_of_the_service() {
    let asked = AtomicUsize::new(0);
    let source = from_fn(move |_: TokenRequest| {
        let nth = asked.fetch_add(1, SeqCst);
        async move {
            assert!(nth > 0, "the first one panics");
            Ok(AccessToken::new("a").unwrap())
        }
    });
    let tokens = KeyedTokenCache::builder(source).build().unwrap();
    let error = tokens.get(&user("ann")).await.unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&CacheError::SourcePanicked));
    tokens.get(&user("bob")).await.unwrap();
}

/// An error that asks for another key's token when it is dropped, on a thread of its own.
#[derive(Debug)]
struct Asking {
    tokens: KeyedTokenCache,
    answered: Arc<AtomicUsize>,
}

impl std::fmt::Display for Asking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("asking")
    }
}

impl std::error::Error for Asking {}

impl Drop for Asking {
    fn drop(&mut self) {
        let (tokens, (done, is_done)) = (self.tokens.clone(), std::sync::mpsc::channel());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            drop(runtime.unwrap().block_on(tokens.get(&user("another"))));
            let _ = done.send(());
        });
        let is_done = is_done.recv_timeout(5 * S).is_ok();
        self.answered.fetch_add(is_done.into(), SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_that_asks_for_a_token_when_it_is_dropped_may_be_that_of_an_outage() {
    for ends_well in [true, false] {
        let (service, answered) = (Service::default(), Arc::new(AtomicUsize::new(0)));
        let tokens = service.holding(10);
        let asking = Asking { tokens: tokens.clone(), answered: Arc::clone(&answered) };
        service.fail_with(TokenError::transient(asking));
        tokens.get(&user("ann")).await.unwrap_err();
        service.fail_with((!ends_well).then(|| TokenError::transient("down")));
        tokens.forget(&user("ann"));
        assert_eq!(answered.load(SeqCst), 0, "the outage has it");
        tokio::time::advance(S).await;
        drop(tokens.get(&user("bob")).await);
        assert_eq!(answered.load(SeqCst), 1, "a lock is held");
    }
}

/// The flight may be dropped by another thread, which looks at the source.
#[tokio::test]
async fn a_key_is_forgotten_by_its_source_before_its_flight_is_ended() {
    let service = Service::default();
    let tokens = service.holding(10);
    let _gate = service.close();
    let ann = user("ann");
    let waiting = tokio::spawn({
        let (tokens, ann) = (tokens.clone(), ann.clone());
        async move { tokens.get(&ann).await }
    });
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    let entry = tokens.keyed.map.get(&ann, Moment::now()).unwrap();
    assert!(entry.is_in_flight());
    let held = entry.source().hold();
    let (sender, started) = std::sync::mpsc::channel();
    let forgetting = std::thread::spawn(move || {
        sender.send(()).unwrap();
        tokens.forget(&ann);
    });
    started.recv().unwrap();
    for _ in 0..10_000 {
        std::thread::yield_now();
        assert!(entry.is_in_flight(), "its source does not know yet why it ends");
    }
    drop(held);
    forgetting.join().unwrap();
    waiting.await.unwrap().unwrap_err();
}
