//! A request with a usable token takes no lock.

use std::{convert::Infallible, sync::mpsc, thread, time::Duration};

use futures_util::FutureExt;
use http::{Extensions, Request, Response};
use tower::{Layer, Service, service_fn};

use crate::{
    cache::{Rejection, TokenCache},
    error::TokenError,
    layer::BearerAuthLayer,
    source::from_fn,
    token::AccessToken,
};

const BOUND: Duration = Duration::from_secs(30);

/// A cache whose tokens never expire. Each fetch returns another token.
fn cache() -> TokenCache {
    TokenCache::new(from_fn(|request| async move {
        let before = request.previous().map_or(0, |token| token.secret().len());
        AccessToken::new("t".repeat(before + 1)).map_err(TokenError::permanent)
    }))
}

/// Runs the work on another thread while this one holds the cache's lock.
fn while_locked<T: Send + 'static>(
    cache: &TokenCache,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (sender, done) = mpsc::channel();
    cache.while_locked(|| {
        thread::spawn(move || sender.send(work()));
        done.recv_timeout(BOUND).expect("it waits for the lock, or has failed")
    })
}

/// Sends requests from another thread while this one holds the lock. That thread has sent a request
/// before, because each thread has its own passes.
fn send_while_locked(cache: &TokenCache, layer: &BearerAuthLayer, uri: &'static str) {
    let stack = layer.layer(service_fn(|request: Request<()>| async move {
        let bearer = request.headers()["authorization"].clone();
        Ok::<_, Infallible>(Response::new(bearer))
    }));
    // Each request goes through its own clone of the service, as is common.
    let send = move |extensions: Extensions| {
        let mut request = Request::get(uri).body(()).unwrap();
        *request.extensions_mut() = extensions;
        let response = stack.clone().call(request).now_or_never().expect("a token is there");
        assert_eq!(response.unwrap().into_body(), "Bearer t");
    };
    let (lock, locked) = mpsc::channel();
    let (sender, done) = mpsc::channel();
    thread::spawn(move || {
        send(Extensions::new());
        sender.send(()).unwrap();
        locked.recv().unwrap();
        send(Extensions::new());
        let mut extensions = Extensions::new();
        extensions.insert("a user's own");
        send(extensions);
        sender.send(()).unwrap();
    });
    let next = || done.recv_timeout(BOUND).expect("it waits for the lock, or has failed");
    next();
    cache.while_locked(|| {
        lock.send(()).unwrap();
        next();
    });
}

#[tokio::test]
async fn a_usable_token_is_had_without_the_lock() {
    let cache = cache();
    let first = cache.get().await.unwrap();
    let get = |cache: &TokenCache| {
        let cache = cache.clone();
        move || cache.get().now_or_never().expect("it is there").unwrap().secret().to_owned()
    };
    assert_eq!(while_locked(&cache, get(&cache)), "t");
    // The next token, which does not expire either.
    cache.renew(Rejection::new(first)).await.unwrap();
    assert_eq!(while_locked(&cache, get(&cache)), "tt");
    // The same token again, which is now suspect.
    let second = cache.current().unwrap();
    cache.renew(Rejection::new(second)).await.expect_err("a backoff");
    assert_eq!(while_locked(&cache, get(&cache)), "tt");
}

#[tokio::test]
async fn a_request_with_a_usable_token_takes_no_lock() {
    let cache = cache();
    cache.get().await.unwrap();
    let layer = || BearerAuthLayer::from_cache(cache.clone());
    let named = layer().origin("https://api.example").unwrap();
    send_while_locked(&cache, &named, "https://api.example/");
    send_while_locked(&cache, &named.origin("https://b.example").unwrap(), "https://b.example/");
    send_while_locked(&cache, &layer().any_https(), "https://c.example/");
    let assumed = layer().origin("https://api.example").unwrap();
    let assumed = assumed.assume_origin("https://api.example").unwrap();
    send_while_locked(&cache, &assumed, "/path");
}
