//! Promises 19 and 20 where the inner service takes long to be ready, or holds on to things.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response};
use http_body_util::Full;
use tokio::{task::JoinHandle, time::advance};
use tower::{
    BoxError, Layer, Service, ServiceExt,
    limit::{ConcurrencyLimit, ConcurrencyLimitLayer},
};
use tower_bearer::{AccessToken, ReplayLimit, TokenCache};

use crate::support::*;

/// An API with room for one request at a time.
type Limited = ConcurrencyLimit<Api>;

/// A request through the layer on its way to that API. Its cache has no token yet.
struct Sent {
    desk: Desk,
    api: Api,
    cache: TokenCache,
    limited: Limited,
    request: JoinHandle<Result<Response<Full<Bytes>>, BoxError>>,
}

fn sent() -> Sent {
    sent_with_revoked(&[])
}

fn sent_with_revoked(revoked: &[&str]) -> Sent {
    let (source, desk) = manual();
    let (api, cache) = (Api::new(), cache(source));
    for secret in revoked {
        api.revoke(secret);
    }
    let limited: Limited = ConcurrencyLimitLayer::new(1).layer(api.clone());
    let stack = layer(&cache).layer(limited.clone());
    let request = tokio::spawn(async move { send(&stack, get("/")).await });
    Sent { desk, api, cache, limited, request }
}

/// Takes the only place, as soon as it is free.
async fn occupy(limited: &Limited) -> Limited {
    let mut occupant = limited.clone();
    ServiceExt::<Request<Full<Bytes>>>::ready(&mut occupant).await.unwrap();
    occupant
}

fn living(secret: &str, seconds: u32) -> AccessToken {
    token(secret).with_lifetime(seconds * S)
}

#[tokio::test(start_paused = true)]
async fn a_token_that_expires_while_its_request_waits_for_readiness_is_not_sent() {
    let Sent { mut desk, api, limited, request, .. } = sent();
    let first = desk.next().await;
    let occupant = occupy(&limited).await;
    first.reply(Ok(living("a", 51)));
    settle().await;
    advance(60 * S).await;
    settle().await;
    drop(occupant);
    let second = desk.next().await;
    assert!(api.seen().is_empty(), "it was not sent");
    drop(occupy(&limited).now_or_never().expect("nothing is held ready during the wait"));
    second.reply(Ok(living("b", 51)));
    assert_eq!(request.await.unwrap().unwrap().status(), 200);
    assert_eq!(api.tokens(), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_newer_token_that_came_while_a_request_waited_for_readiness_is_sent() {
    let Sent { mut desk, api, cache, limited, request } = sent();
    let first = desk.next().await;
    let occupant = occupy(&limited).await;
    first.reply(Ok(living("a", 101)));
    settle().await;
    advance(85 * S).await;
    cache.get().await.unwrap();
    desk.next().await.reply(Ok(living("b", 101)));
    settle().await;
    drop(occupant);
    assert_eq!(request.await.unwrap().unwrap().status(), 200);
    assert_eq!(api.tokens(), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_renewed_token_that_expires_while_the_replay_waits_for_readiness_is_not_sent() {
    let Sent { mut desk, api, limited, request, .. } = sent_with_revoked(&["a"]);
    desk.next().await.reply(Ok(living("a", 1001)));
    let renewal = desk.next().await;
    let occupant = occupy(&limited).await;
    renewal.reply(Ok(living("b", 51)));
    settle().await;
    advance(60 * S).await;
    settle().await;
    drop(occupant);
    let another = desk.next().await;
    assert_eq!(api.tokens(), ["a"], "it was not sent");
    drop(occupy(&limited).now_or_never().expect("nothing is held ready during the wait"));
    another.reply(Ok(living("c", 51)));
    assert_eq!(request.await.unwrap().unwrap().status(), 200);
    assert_eq!(api.tokens(), ["a", "c"]);
}

#[tokio::test(start_paused = true)]
async fn if_no_other_token_can_be_had_a_request_whose_token_has_expired_fails() {
    let Sent { mut desk, api, limited, request, .. } = sent();
    let first = desk.next().await;
    let occupant = occupy(&limited).await;
    first.reply(Ok(living("a", 51)));
    settle().await;
    advance(60 * S).await;
    drop(occupant);
    desk.next().await.reply(Err(invalid_client()));
    assert_eq!(request.await.unwrap().unwrap_err().to_string(), "invalid_client");
    assert!(api.seen().is_empty());
    drop(occupy(&limited).now_or_never().expect("nothing is held up"));
}

/// A body that says when it is dropped.
struct Held(Arc<AtomicBool>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        b"held"
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.store(false, SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn the_rejection_is_not_held_open_during_the_replay() {
    let is_open = Arc::new(AtomicBool::new(false));
    let inner = tower::service_fn({
        let is_open = Arc::clone(&is_open);
        move |request: Request<Full<Bytes>>| {
            assert!(!is_open.load(SeqCst), "it may hold the connection that this call needs");
            let is_rejected = request.headers()["authorization"] == "Bearer t1";
            is_open.store(true, SeqCst);
            let mut response = Response::new(Held(Arc::clone(&is_open)));
            if is_rejected {
                *response.status_mut() = http::StatusCode::UNAUTHORIZED;
            }
            async { Ok::<_, Infallible>(response) }
        }
    });
    let stack = layer(&cache(Mint::default())).layer(inner);
    let response = send(&stack, get("/")).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(is_open.load(SeqCst), "and the answer is the caller's");
}

#[tokio::test(start_paused = true)]
async fn the_judge_of_replays_sees_the_whole_head_of_the_request() {
    for is_warm in [true, false] {
        let api = Api::new();
        api.revoke("t1");
        let cache = cache(Mint::default());
        if is_warm {
            cache.get().await.unwrap();
        }
        let stack = layer(&cache)
            .replay_if(|parts| {
                parts.method == "POST"
                    && parts.uri.path() == "/v1"
                    && parts.headers.contains_key("idempotency-key")
                    && parts.extensions.get::<u8>() == Some(&7)
                    && !parts.headers.contains_key("authorization")
            })
            .layer(api.clone());
        let request = |key: &str| {
            let request = Request::post(format!("{API}/v1")).extension(7_u8).header(key, "k");
            request.body(Full::<Bytes>::from("body")).unwrap()
        };
        assert_eq!(send(&stack, request("idempotency-key")).await.unwrap().status(), 200);
        api.revoke("t2");
        let other = send(&stack, request("x-other")).await.unwrap();
        assert_eq!(other.status(), 401, "it may not be sent again");
        assert_eq!(api.tokens(), ["t1", "t2", "t2"]);
        for seen in api.seen() {
            assert_eq!((seen.parts.method.as_str(), seen.parts.uri.path()), ("POST", "/v1"));
            assert_eq!(seen.parts.extensions.get::<u8>(), Some(&7));
            assert_eq!((&*seen.body, seen.parts.headers.len()), (&b"body"[..], 2));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_allows_nothing_to_be_kept_is_not_sent_again() {
    let api = Api::new();
    api.revoke("t1");
    let stack = layer(&cache(Mint::default())).layer(api.clone());
    let mut request = get("/");
    request.extensions_mut().insert(ReplayLimit(0));
    assert_eq!(send(&stack, request).await.unwrap().status(), 401);
    settle().await;
    assert_eq!(send(&stack, get("/")).await.unwrap().status(), 200);
    assert_eq!(api.tokens(), ["t1", "t2"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_kept_is_dropped_at_once_when_the_response_is_accepted() {
    let inner = tower::service_fn(|_: Request<Full<Bytes>>| async {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    });
    let cache = cache(Mint::default());
    cache.get().await.unwrap();
    let mut stack = layer(&cache).layer(inner);
    // The first one is news; the second is taken for granted.
    for _ in 0..2 {
        let is_held = Arc::new(AtomicBool::new(true));
        let body = Full::new(Bytes::from_owner(Held(Arc::clone(&is_held))));
        let stack = ServiceExt::<Request<Full<Bytes>>>::ready(&mut stack).await.unwrap();
        let mut response = Box::pin(stack.call(Request::get(API).body(body).unwrap()));
        assert_eq!((&mut response).await.unwrap().status(), 200);
        assert!(!is_held.load(SeqCst), "the future is there still, and holds nothing");
    }
}

/// How replays have ended while this was there, as it is counted.
#[cfg(feature = "metrics")]
struct Counted(metrics_util::debugging::DebuggingRecorder);

#[cfg(feature = "metrics")]
impl Counted {
    fn ends(&self) -> Vec<String> {
        let counted = self.0.snapshotter().snapshot().into_vec().into_iter();
        let replays = counted.filter(|(key, ..)| key.key().name() == "tower_bearer_replays_total");
        let end = |key: &metrics::Key| {
            key.labels().find(|label| label.key() == "outcome").unwrap().value().to_owned()
        };
        replays.map(|(key, ..)| end(key.key())).collect()
    }
}

#[cfg(feature = "metrics")]
#[tokio::test(start_paused = true)]
async fn a_replay_that_has_to_wait_again_for_a_token_ends_once_and_is_counted_as_a_replay() {
    for (outcomes, end) in [
        (vec![Ok(living("c", 51))], "answered"),
        (vec![Err(busy())], "failed"),
        (vec![Err(invalid_client()), Err(invalid_client())], "failed"),
    ] {
        let counted = Counted(metrics_util::debugging::DebuggingRecorder::new());
        let _until_the_end = metrics::set_default_local_recorder(&counted.0);
        let Sent { mut desk, cache, limited, request, .. } = sent_with_revoked(&["a"]);
        desk.next().await.reply(Ok(living("a", 1001)));
        let renewal = desk.next().await;
        let occupant = occupy(&limited).await;
        renewal.reply(Ok(living("b", 51)));
        settle().await;
        advance(60 * S).await;
        // With two of them, the source cools down when the replay looks at its token.
        for outcome in outcomes.iter().skip(1) {
            assert!(cache.get().now_or_never().is_none());
            desk.next().await.reply(outcome.clone());
            settle().await;
        }
        drop(occupant);
        settle().await;
        if outcomes.len() == 1 {
            desk.next().await.reply(outcomes[0].clone());
        }
        assert_eq!(request.await.unwrap().is_ok(), end == "answered");
        assert_eq!(counted.ends(), [end]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_replay_is_the_answer() {
    let inner = tower::service_fn(|request: Request<Full<Bytes>>| async move {
        if request.headers()["authorization"] == "Bearer t1" {
            let rejection = Response::builder().status(401).body(Full::<Bytes>::default());
            return Ok(rejection.unwrap());
        }
        Err::<_, BoxError>("cut".into())
    });
    let stack = layer(&cache(Mint::default())).layer(inner);
    #[cfg(feature = "metrics")]
    let counted = Counted(metrics_util::debugging::DebuggingRecorder::new());
    #[cfg(feature = "metrics")]
    let _until_the_end = metrics::set_default_local_recorder(&counted.0);
    assert_eq!(send(&stack, get("/")).await.unwrap_err().to_string(), "cut");
    #[cfg(feature = "metrics")]
    assert_eq!(counted.ends(), ["failed"]);
}

/// Readiness that fails from the second time on.
#[derive(Clone)]
struct Closing(Api, Arc<AtomicBool>);

impl Service<Request<Full<Bytes>>> for Closing {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = <Api as Service<Request<Full<Bytes>>>>::Future;

    fn poll_ready(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), BoxError>> {
        if self.1.swap(true, SeqCst) {
            return std::task::Poll::Ready(Err("closed".into()));
        }
        Service::<Request<Full<Bytes>>>::poll_ready(&mut self.0, cx)
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        self.0.call(request)
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_closed_before_the_replay_is_the_answer() {
    let api = Api::new();
    api.revoke("t1");
    let cache = cache(Mint::default());
    cache.get().await.unwrap();
    let stack = layer(&cache).layer(Closing(api.clone(), Arc::default()));
    #[cfg(feature = "metrics")]
    let counted = Counted(metrics_util::debugging::DebuggingRecorder::new());
    #[cfg(feature = "metrics")]
    let _until_the_end = metrics::set_default_local_recorder(&counted.0);
    assert_eq!(send(&stack, get("/")).await.unwrap_err().to_string(), "closed");
    #[cfg(feature = "metrics")]
    assert_eq!(counted.ends(), ["failed"]);
    assert_eq!(api.tokens(), ["t1"]);
}
