//! Promise 4 for requests whose future is polled on another runtime than where it was made.

use futures_util::FutureExt;
use tokio::{runtime::Runtime, time::Instant};
use tower::{Layer, Service, ServiceExt};
use tower_bearer::{BearerAuth, CacheError, Rejection, TokenError};

use crate::support::*;

type Sent = <BearerAuth<Api> as Service<http::Request<http_body_util::Full<bytes::Bytes>>>>::Future;

/// Made ready and called on that runtime, and not polled yet.
fn called_on(runtime: &Runtime, stack: &BearerAuth<Api>) -> Sent {
    let _inside = runtime.enter();
    called(stack)
}

fn called(stack: &BearerAuth<Api>) -> Sent {
    let mut stack = stack.clone();
    let ready = ServiceExt::<http::Request<http_body_util::Full<bytes::Bytes>>>::ready(&mut stack);
    ready.now_or_never().expect("it is always ready").unwrap();
    stack.call(get("/"))
}

/// A request that was made on a runtime, and perhaps polled on it, before that runtime went.
struct Orphan {
    request: Sent,
    api: Api,
    desk: Desk,
    /// Where the flight that it waits for runs.
    flies_on: Runtime,
}

impl Orphan {
    fn new(is_polled: bool) -> Self {
        let (source, desk) = manual();
        let (api, cache) = (Api::new(), cache(source));
        let flies_on = a_runtime();
        flies_on.block_on(async { assert!(cache.get().now_or_never().is_none()) });
        let gone = a_runtime();
        let mut request = called_on(&gone, &layer(&cache).layer(api.clone()));
        if is_polled {
            let _inside = gone.enter();
            assert!((&mut request).now_or_never().is_none());
        }
        Self { request, api, desk, flies_on }
    }

    /// It gets its token where the flight runs.
    fn goes_on(mut self) {
        self.flies_on.block_on(async {
            let request = tokio::spawn(self.request);
            settle().await;
            self.desk.next().await.answer("a");
            assert_eq!(request.await.unwrap().unwrap().status(), 200);
        });
        assert_eq!(self.api.tokens(), ["a"]);
    }
}

fn cause(error: &tower::BoxError) -> &CacheError {
    error.downcast_ref::<TokenError>().unwrap().downcast_ref().unwrap()
}

#[test]
fn a_request_without_any_runtime_fails_at_once_and_does_not_panic() {
    let stack = layer(&cache(Mint::default())).layer(Api::new());
    let error = called(&stack).now_or_never().expect("at once").unwrap_err();
    assert_eq!(cause(&error), &CacheError::NoRuntime);
}

#[test]
fn a_wait_that_is_first_polled_outside_of_a_runtime_goes_on_inside_of_one() {
    let (source, mut desk) = manual();
    let api = Api::new();
    let stack = layer(&cache(source)).layer(api.clone());
    let runtime = a_runtime();
    let mut request = called_on(&runtime, &stack);
    assert!((&mut request).now_or_never().is_none(), "no panic");
    runtime.block_on(async {
        desk.next().await.answer("a");
        assert_eq!(request.await.unwrap().status(), 200);
    });
    assert_eq!(api.tokens(), ["a"]);
}

#[test]
fn a_renewal_that_is_first_polled_outside_of_a_runtime_fails_or_waits_and_does_not_panic() {
    let (source, mut desk) = manual();
    let cache = cache(source);
    let runtime = a_runtime();
    runtime.block_on(async {
        desk.fill(&cache, token("a")).await;
    });
    let error = cache.renew(Rejection::new(token("a"))).now_or_never().unwrap().unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&CacheError::NoRuntime));
    let api = Api::new();
    api.revoke("a");
    let response = called(&layer(&cache).layer(api)).now_or_never().unwrap().unwrap();
    assert_eq!(response.status(), 401, "the rejection is the answer");
    assert_eq!(cache.current().unwrap().secret(), "a");
}

#[test]
fn outside_of_a_runtime_the_suspect_token_is_used_during_a_renewal() {
    let (source, mut desk) = manual();
    let cache = cache(source);
    let runtime = a_runtime();
    let renewal = runtime.block_on(async {
        desk.fill(&cache, token("a")).await;
        cache.reject(Rejection::new(token("a")));
        assert!(cache.get().now_or_never().is_none(), "who can wait does");
        desk.next().await
    });
    let suspect = cache.get().now_or_never().expect("there is nothing to wait with");
    assert_eq!(suspect.unwrap().secret(), "a");
    let api = Api::new();
    let stack = layer(&cache).layer(api.clone());
    assert_eq!(called(&stack).now_or_never().unwrap().unwrap().status(), 200);
    renewal.answer("b");
    runtime.block_on(settle());
    assert_eq!(called(&stack).now_or_never().unwrap().unwrap().status(), 200);
    assert_eq!(api.tokens(), ["a", "b"]);
}

#[test]
fn a_request_that_was_made_on_a_runtime_which_nobody_drives_stops_waiting_by_its_own_clock() {
    let (source, _desk) = manual();
    let stack = layer(&cache(source)).layer(Api::new());
    let stalled = a_runtime();
    let request = called_on(&stalled, &stack);
    paused().block_on(async {
        let began = Instant::now();
        let error = tokio::time::timeout(60 * S, request).await.expect("for ever").unwrap_err();
        assert_eq!(cause(&error), &CacheError::FlightLost);
        assert!(began.elapsed() <= 31 * S);
    });
    drop(stalled);
}

#[test]
fn a_flight_that_was_given_up_before_its_runtime_moved_on_asks_nobody() {
    let (source, mut desk) = manual();
    let cache = cache(source);
    let stalled = a_runtime();
    let waits = {
        let _inside = stalled.enter();
        let mut waits = Box::pin(cache.get());
        assert!((&mut waits).now_or_never().is_none());
        waits
    };
    let driven = paused();
    let call = driven.block_on(async {
        let error = cache.get().await.unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&CacheError::FlightLost));
        assert!(cache.get().now_or_never().is_none());
        desk.next().await
    });
    stalled.block_on(async {
        settle().await;
        desk.assert_idle().await;
    });
    drop(waits);
    call.answer("a");
    driven.block_on(settle());
    assert_eq!(cache.current().unwrap().secret(), "a");
}

#[test]
fn a_wait_whose_runtime_is_gone_goes_on_on_another() {
    Orphan::new(false).goes_on();
    Orphan::new(true).goes_on();
}

#[test]
fn a_wait_whose_runtime_is_gone_fails_outside_of_a_runtime_and_does_not_panic() {
    for is_polled in [false, true] {
        let orphan = Orphan::new(is_polled);
        let outcome = orphan.request.now_or_never().expect("there is nothing to wait with");
        assert_eq!(cause(&outcome.unwrap_err()), &CacheError::NoRuntime, "{is_polled}");
    }
}
