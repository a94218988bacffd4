//! Which step follows which: without a service and without a body.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use http::{Request, Response, Uri, header::WWW_AUTHENTICATE};
use tokio::{runtime, time::advance};

use super::*;
use crate::{
    cache::{RefreshPolicy, TokenCache},
    error::CacheError,
    origin::{FinalUri, Origin},
    rules::{Admission, RequestHead, Rules},
    source::from_fn,
};

const API: &str = "https://api.example.com";
const S: Duration = Duration::from_secs(1);

fn token(secret: &str) -> AccessToken {
    AccessToken::new(secret).unwrap()
}

fn api() -> Origin {
    API.parse().unwrap()
}

/// Each fetch returns the next token: `t1`, `t2`, …
fn minting(lifetime: Option<Duration>) -> TokenCache {
    let minted = AtomicUsize::new(0);
    let policy = RefreshPolicy::builder().due_jitter(0.0).build().unwrap();
    let fetch = move |_| {
        let token = token(&format!("t{}", minted.fetch_add(1, Relaxed) + 1));
        std::future::ready(Ok(match lifetime {
            Some(lifetime) => token.with_lifetime(lifetime),
            None => token,
        }))
    };
    TokenCache::with_policy(from_fn(fetch), policy)
}

/// Only a fetch needs a runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// A cache that holds `t1`.
fn holding() -> TokenCache {
    let cache = minting(None);
    block_on(cache.get()).unwrap();
    cache
}

fn rules(cache: &TokenCache) -> Rules {
    let mut rules = Rules::new(cache.into());
    rules.add(api(), None).unwrap();
    rules
}

fn admitted(rules: &Rules) -> Exchange {
    match rules.admit(&RequestHead::of(&Request::get(API).body(()).unwrap())) {
        Admission::Ready(pass) => Exchange::new(pass),
        other => panic!("{other:?}"),
    }
}

fn exchange(cache: &TokenCache) -> Exchange {
    admitted(&rules(cache))
}

fn response(status: u16) -> Response<()> {
    Response::builder().status(status).body(()).unwrap()
}

fn answered(exchange: &Exchange, response: &Response<()>) -> Next {
    exchange.answered(&ResponseHead::of(response), || true)
}

/// An exchange, and that of its replay with the token that is current then.
fn rejected(cache: &TokenCache) -> (Exchange, Exchange) {
    let first = exchange(cache);
    let Next::Renew(rejection) = answered(&first, &response(401)) else { panic!("no renewal") };
    let renewed = block_on(cache.renew(rejection));
    let replay = first.renewed(renewed).expect("a replay");
    (first, replay)
}

fn carried(exchange: &Exchange) -> String {
    let mut headers = HeaderMap::new();
    assert!(exchange.put(&mut headers));
    headers["authorization"].to_str().unwrap().to_owned()
}

/// Whether the cache wants to know that its token was accepted there.
fn is_watched(cache: &TokenCache) -> bool {
    cache.granted(Some(&api())).unwrap().watched
}

// ===== The first call =====

#[test]
fn an_accepted_request_is_over_and_proves_the_token_once() {
    let cache = holding();
    let rules = rules(&cache);
    let exchange = admitted(&rules);
    assert!(is_watched(&cache));
    assert!(!exchange.takes_for_granted(StatusCode::OK), "it is news");
    for _ in 0..2 {
        assert!(matches!(answered(&exchange, &response(200)), Next::Answer));
        assert!(!is_watched(&cache));
        assert!(exchange.takes_for_granted(StatusCode::OK));
    }
}

#[test]
fn only_what_is_below_400_is_taken_for_granted_and_only_by_plain_rules() {
    let cache = holding();
    cache.accepted(&token("t1"), Some(&api()));
    let exchange = exchange(&cache);
    for (status, granted) in [(200, true), (304, true), (399, true), (400, false), (401, false)] {
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(exchange.takes_for_granted(status), granted, "{status}");
    }
    let mut spoken = rules(&cache);
    spoken.verdicts().grpc = true;
    assert!(!admitted(&spoken).takes_for_granted(StatusCode::OK));
    let mut judged = rules(&cache);
    judged.verdicts().rejected_when = Some(Arc::new(|_| false));
    assert!(!admitted(&judged).takes_for_granted(StatusCode::OK));
}

#[test]
fn what_is_no_rejection_asks_for_no_body_and_an_error_proves_nothing() {
    for status in [400, 403, 404, 429, 500, 503] {
        let cache = holding();
        let exchange = exchange(&cache);
        let response = response(status);
        let next = exchange.answered(&ResponseHead::of(&response), || panic!("who asks?"));
        assert!(matches!(next, Next::Answer), "{status}");
        assert!(is_watched(&cache), "{status}: nothing is proven");
        assert!(!cache.status().is_suspect());
    }
}

#[test]
fn a_rejection_names_the_token_its_origin_and_the_decisive_challenge() {
    let cache = holding();
    let exchange = exchange(&cache);
    let mut response = response(401);
    for line in ["Basic realm=\"x\"", "Bearer error=\"invalid_token\", claims=\"c\""] {
        response.headers_mut().append(WWW_AUTHENTICATE, line.parse().unwrap());
    }
    let Next::Renew(rejection) = answered(&exchange, &response) else { panic!("no renewal") };
    let shown = format!("{rejection:?}");
    assert!(shown.contains(API) && shown.contains("claims"), "{shown}");
    assert!(!shown.contains("Basic"), "{shown}");
    cache.reject(rejection);
    assert!(cache.status().is_suspect(), "it was the current token");
}

#[test]
fn a_rejection_that_cannot_be_replayed_is_the_answer_and_is_reported_to_the_cache() {
    let cache = holding();
    let exchange = exchange(&cache);
    let next = exchange.answered(&ResponseHead::of(&response(401)), || false);
    assert!(matches!(next, Next::Answer));
    assert!(cache.status().is_suspect());
    assert_eq!(cache.status().flights(), 2, "a renewal in the background");
}

#[test]
fn a_rejection_of_another_origin_is_none_and_its_acceptance_proves_nothing() {
    for status in [200, 401] {
        let cache = holding();
        let exchange = exchange(&cache);
        let mut response = response(status);
        response.extensions_mut().insert(FinalUri(Uri::from_static("https://login.example/")));
        assert!(matches!(answered(&exchange, &response), Next::Answer));
        assert!(!cache.status().is_suspect() && is_watched(&cache), "{status}");
    }
    let mut same = response(401);
    same.extensions_mut().insert(FinalUri(Uri::from_static("https://API.example.com:443/else")));
    assert!(matches!(answered(&exchange(&holding()), &same), Next::Renew(_)));
}

#[test]
fn a_request_with_credentials_of_its_own_is_left_alone() {
    let exchange = exchange(&holding());
    let mut headers = HeaderMap::new();
    headers.insert("authorization", "Basic x".parse().unwrap());
    assert!(!exchange.put(&mut headers));
    assert_eq!(headers["authorization"], "Basic x");
}

#[test]
fn only_rules_of_the_users_want_the_whole_head() {
    let cache = holding();
    assert!(!exchange(&cache).judges_parts());
    let mut judged = rules(&cache);
    judged.verdicts().rejected_when = Some(Arc::new(|parts| parts.status == 418));
    let exchange = admitted(&judged);
    assert!(exchange.judges_parts());
    let (parts, ()) = response(418).into_parts();
    let next = exchange.answered(&ResponseHead::of_parts(&parts), || true);
    assert!(matches!(next, Next::Renew(_)));
}

// ===== The replay =====

#[test]
fn a_replay_carries_the_token_that_the_renewal_brought() {
    let (first, replay) = rejected(&holding());
    assert_eq!((carried(&first), carried(&replay)), ("Bearer t1".into(), "Bearer t2".into()));
}

#[test]
fn a_replay_carries_what_the_renewal_brought_though_the_cache_holds_another_token() {
    let cache = holding();
    let replay = exchange(&cache).renewed(Ok(token("other"))).expect("a replay");
    assert_eq!(carried(&replay), "Bearer other");
}

#[test]
fn after_a_renewal_that_failed_the_rejection_is_the_answer() {
    assert!(exchange(&holding()).renewed(Err(CacheError::SameToken.into())).is_none());
}

#[test]
fn whatever_comes_back_from_a_replay_is_the_answer() {
    for status in [200, 401, 403, 503] {
        let (_, replay) = rejected(&holding());
        assert!(matches!(answered(&replay, &response(status)), Next::Answer), "{status}");
    }
}

#[test]
fn a_replay_is_never_taken_for_granted_because_its_end_is_counted() {
    let cache = holding();
    let (_, replay) = rejected(&cache);
    cache.accepted(&token("t2"), Some(&api()));
    assert!(exchange(&cache).takes_for_granted(StatusCode::OK));
    assert!(!replay.takes_for_granted(StatusCode::OK));
}

#[test]
fn a_replay_that_is_accepted_proves_the_new_token() {
    let cache = holding();
    let (_, replay) = rejected(&cache);
    assert!(is_watched(&cache));
    answered(&replay, &response(200));
    assert!(!is_watched(&cache));
}

#[test]
fn a_second_rejection_is_reported_to_the_cache() {
    let cache = holding();
    let (_, replay) = rejected(&cache);
    assert!(!cache.status().is_suspect());
    answered(&replay, &response(401));
    assert!(cache.status().is_suspect());
    let next = block_on(cache.renew(Rejection::new(token("t2")).with_origin(api())));
    assert!(
        matches!(next.unwrap_err().downcast_ref(), Some(CacheError::RenewalBackoff(_))),
        "the origin backs off"
    );
}

/// How replays ended, as the counters have it.
#[cfg(feature = "metrics")]
fn counted(work: impl FnOnce()) -> Vec<String> {
    let recorder = metrics_util::debugging::DebuggingRecorder::new();
    metrics::with_local_recorder(&recorder, work);
    let counted = recorder.snapshotter().snapshot().into_vec().into_iter();
    let ended = |key: &metrics::Key| {
        let labels = key.labels().map(metrics::Label::value).collect::<Vec<_>>().join(" ");
        (key.name() == "tower_bearer_replays_total").then_some(labels)
    };
    counted.filter_map(|(key, ..)| ended(key.key())).collect()
}

#[cfg(feature = "metrics")]
#[test]
fn each_end_of_a_replay_is_counted_and_no_end_of_a_first_call() {
    for (status, outcome) in [(200, "answered"), (503, "answered"), (401, "rejected")] {
        let (first, replay) = rejected(&holding());
        let expected = format!("default {API} {outcome}");
        assert_eq!(counted(|| drop(answered(&replay, &response(status)))), [expected], "{status}");
        assert!(counted(|| drop(answered(&first, &response(status)))).is_empty(), "{status}");
    }
    let (first, replay) = rejected(&holding());
    assert_eq!(counted(|| replay.broken()), [format!("default {API} failed")]);
    assert!(counted(|| first.broken()).is_empty());
}

#[cfg(feature = "metrics")]
#[test]
fn an_origin_that_was_not_configured_is_no_label() {
    let cache = holding();
    let mut any = Rules::new((&cache).into());
    any.any_https();
    let first = admitted(&any);
    let replay = first.renewed(Ok(token("other"))).unwrap();
    assert_eq!(counted(|| replay.broken()), ["default other failed"]);
}

// ===== After a wait for something else =====

/// What `recheck` returns, in one word, and what the request then carries.
fn rechecked(exchange: &mut Exchange) -> (&'static str, String) {
    let said = match exchange.recheck() {
        Still::Send => "send",
        Still::Wait(_) => "wait",
        Still::Fail(_) => "fail",
    };
    (said, carried(exchange))
}

fn says(said: &'static str, secret: &str) -> (&'static str, String) {
    (said, format!("Bearer {secret}"))
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_still_good_is_sent() {
    let cache = minting(Some(101 * S));
    cache.get().await.unwrap();
    let mut exchange = exchange(&cache);
    assert_eq!(rechecked(&mut exchange), says("send", "t1"));
    advance(79 * S).await;
    assert_eq!(rechecked(&mut exchange), says("send", "t1"));
    assert_eq!(cache.status().flights(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_newer_token_is_sent_instead() {
    let cache = minting(Some(101 * S));
    cache.get().await.unwrap();
    let mut exchange = exchange(&cache);
    advance(95 * S).await;
    cache.get().await.unwrap();
    assert_eq!(rechecked(&mut exchange), says("send", "t2"));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_has_expired_is_not_sent_and_the_request_waits_for_another() {
    let cache = minting(Some(101 * S));
    cache.get().await.unwrap();
    let mut exchange = exchange(&cache);
    advance(90 * S).await;
    let Still::Wait(waiting) = exchange.recheck() else { panic!("it has expired") };
    let newer = waiting.pass().await.unwrap();
    assert_eq!(carried(&Exchange::new(newer)), "Bearer t2");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_hears_late_of_its_flight_gets_the_token_of_now() {
    let cache = minting(Some(101 * S));
    let request = Request::get(API).body(()).unwrap();
    let Admission::Waiting(waiting) = rules(&cache).admit(&RequestHead::of(&request)) else {
        panic!("there is no token yet")
    };
    assert_eq!(cache.get().await.unwrap().secret(), "t1");
    advance(1000 * S).await;
    assert_eq!(cache.get().await.unwrap().secret(), "t2");
    assert_eq!(carried(&Exchange::new(waiting.pass().await.unwrap())), "Bearer t2");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_others_wait_to_be_replaced_is_sent_as_long_as_it_has_not_expired() {
    let cache = minting(Some(101 * S));
    cache.get().await.unwrap();
    let mut exchange = exchange(&cache);
    cache.reject(Rejection::new(token("t1")));
    assert!(cache.status().is_fetching());
    assert_eq!(rechecked(&mut exchange), says("send", "t1"));
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_token_has_expired_fails_while_the_source_cools_down() {
    let fails = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let refuses = Arc::clone(&fails);
    let cache = TokenCache::new(from_fn(move |_| {
        std::future::ready(if refuses.load(Relaxed) {
            Err(TokenError::permanent("no such client"))
        } else {
            Ok(token("t1").with_lifetime(101 * S))
        })
    }));
    cache.get().await.unwrap();
    let mut exchange = exchange(&cache);
    advance(95 * S).await;
    fails.store(true, Relaxed);
    cache.get().await.unwrap_err();
    let Still::Fail(error) = exchange.recheck() else { panic!("the source cools down") };
    assert_eq!(error.to_string(), "no such client");
}

#[tokio::test(start_paused = true)]
async fn a_replay_never_goes_back_to_the_token_that_was_rejected() {
    let cache = minting(Some(101 * S));
    cache.get().await.unwrap();
    let first = exchange(&cache);
    // The renewal returned a token that the cache has not kept, or has lost since.
    let mut replay = first.renewed(Ok(token("brief"))).unwrap();
    assert_eq!(rechecked(&mut replay), says("send", "brief"));
    advance(1000 * S).await;
    assert_eq!(rechecked(&mut replay), says("send", "brief"), "it is for this one use");

    let cache = minting(Some(101 * S));
    cache.get().await.unwrap();
    let first = exchange(&cache);
    cache.renew(Rejection::new(token("t1"))).await.unwrap();
    let mut replay = first.renewed(Ok(token("t2"))).unwrap();
    advance(95 * S).await;
    cache.get().await.unwrap();
    assert_eq!(rechecked(&mut replay), says("send", "t3"));
    assert!(replay.pass().is_replay(), "and it is a replay still");
    assert!(matches!(answered(&replay, &response(401)), Next::Answer));
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_waits_for_another_token_is_a_replay_still() {
    let cache = minting(Some(101 * S));
    cache.get().await.unwrap();
    let first = exchange(&cache);
    cache.renew(Rejection::new(token("t1"))).await.unwrap();
    let mut replay = first.renewed(Ok(token("t2"))).unwrap();
    advance(95 * S).await;
    let Still::Wait(waiting) = replay.recheck() else { panic!("it has expired") };
    let replay = Exchange::new(waiting.pass().await.unwrap());
    assert_eq!(carried(&replay), "Bearer t3");
    assert!(!replay.takes_for_granted(StatusCode::OK));
    assert!(matches!(answered(&replay, &response(401)), Next::Answer));
}

#[tokio::test(start_paused = true)]
async fn a_replay_whose_token_has_expired_is_sent_if_only_the_rejected_one_can_be_had() {
    let secrets = std::sync::Mutex::new(vec!["t1", "t3", "t2", "t1"]);
    let cache = TokenCache::new(from_fn(move |_| {
        let secret = secrets.lock().unwrap().pop().unwrap();
        std::future::ready(Ok(token(secret).with_lifetime(101 * S)))
    }));
    cache.get().await.unwrap();
    let first = exchange(&cache);
    cache.renew(Rejection::new(token("t1"))).await.unwrap();
    let mut replay = first.renewed(Ok(token("t2"))).unwrap();
    advance(95 * S).await;
    assert_eq!(cache.get().await.unwrap().secret(), "t3");
    assert_eq!(rechecked(&mut replay), says("send", "t3"));
    advance(95 * S).await;
    assert_eq!(cache.get().await.unwrap().secret(), "t1");
    assert_eq!(rechecked(&mut replay), says("send", "t3"));
}
