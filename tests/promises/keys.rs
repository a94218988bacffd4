//! Promises 26 to 31, through the layer.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, header::AUTHORIZATION};
use http_body_util::Full;
use tower::{Layer, Service, ServiceExt, limit::ConcurrencyLimitLayer};
use tower_bearer::{
    AccessToken, BearerAuth, BearerAuthLayer, CacheError, KeyedTokenCache, Refused, Subject,
    TokenError, TokenKey, TokenRequest, TokenSource, from_fn,
};

use crate::support::*;

fn subject(user: &str) -> Subject {
    Subject::new(token(user))
}

fn of_user(user: &str) -> TokenKey {
    TokenKey::new().on_behalf_of(subject(user))
}

/// A request with that key.
fn with(key: TokenKey) -> Request<Full<Bytes>> {
    let mut request = get("/");
    request.extensions_mut().insert(key);
    request
}

/// Sends through this very service.
async fn call(stack: &mut BearerAuth<Api>, request: Request<Full<Bytes>>) {
    let ready = ServiceExt::<Request<Full<Bytes>>>::ready(stack).await.unwrap();
    ready.call(request).await.unwrap();
}

/// Exchanges a user's token for `ann-1`, `ann-2`, …, and the program's own for `own-1`, …
#[derive(Clone, Default)]
struct Exchange(Arc<Mutex<Vec<String>>>);

impl Exchange {
    fn fetched(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn tokens(&self) -> KeyedTokenCache {
        KeyedTokenCache::builder(self.source()).policy(exact().build().unwrap()).build().unwrap()
    }

    fn source(&self) -> impl TokenSource + use<> {
        let fetched = Arc::clone(&self.0);
        from_fn(move |request: TokenRequest| {
            let key = request.key().expect("the cache shows the key").clone();
            let user = key.subject().map_or("own", |subject| subject.token().secret());
            let scope = key.requested_scope().unwrap_or_default();
            let mut fetched = fetched.lock().unwrap();
            fetched.push(format!("{user}{scope}"));
            let token = token(&format!("{user}{scope}-{}", fetched.len()));
            async { Ok(token) }
        })
    }
}

fn keyed(tokens: &KeyedTokenCache) -> BearerAuthLayer {
    BearerAuthLayer::from_cache(tokens).origin(API).unwrap()
}

// ===== 26 =====

#[tokio::test(start_paused = true)]
async fn requests_whose_keys_differ_never_share_a_token_and_equal_keys_share_one() {
    let (api, exchange) = (Api::new(), Exchange::default());
    let stack = keyed(&exchange.tokens()).layer(api.clone());
    for key in [of_user("ann"), of_user("bob"), of_user("ann"), of_user("ann").scope("x")] {
        send(&stack, with(key)).await.unwrap();
    }
    send(&stack, get("/")).await.unwrap();
    assert_eq!(api.tokens(), ["ann-1", "bob-2", "ann-1", "annx-3", "own-4"]);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_used_again_and_again_gives_each_request_the_token_of_its_key() {
    let (api, exchange) = (Api::new(), Exchange::default());
    let mut stack = keyed(&exchange.tokens()).layer(api.clone());
    for key in [Some("ann"), None, Some("bob"), None, None, Some("ann"), Some("ann"), None] {
        let request = key.map_or_else(|| get("/"), |user| with(of_user(user)));
        call(&mut stack, request).await;
    }
    let tokens = ["ann-1", "own-2", "bob-3", "own-2", "own-2", "ann-1", "ann-1", "own-2"];
    assert_eq!(api.tokens(), tokens);
    assert_eq!(exchange.fetched().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_layer_over_a_single_cache_refuses_a_request_that_brings_a_key() {
    let (api, mint) = (Api::new(), Mint::default());
    let stack = layer(&cache(mint.clone())).layer(api.clone());
    send(&stack, get("/")).await.unwrap();
    for key in [of_user("ann"), TokenKey::new().scope("a"), TokenKey::new()] {
        let error = send(&stack, with(key)).await.unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&Refused::UnexpectedKey));
        assert!(error.to_string().contains("KeyedTokenCache"), "{error}");
    }
    assert_eq!(api.tokens(), ["t1"]);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_cannot_be_used_is_refused_and_nothing_is_fetched() {
    let (api, exchange) = (Api::new(), Exchange::default());
    let stack = keyed(&exchange.tokens()).layer(api.clone());
    let error = send(&stack, with(TokenKey::new().scope("a".repeat(9000)))).await.unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(Refused::InvalidKey(_))), "{error}");
    assert!(api.seen().is_empty() && exchange.fetched().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_key_that_cannot_be_used_never_gets_what_is_there_for_another() {
    let (api, exchange) = (Api::new(), Exchange::default());
    let tokens = exchange.tokens();
    let mut stack = keyed(&tokens).layer(api.clone());
    for _ in 0..2 {
        call(&mut stack, with(TokenKey::new())).await;
        call(&mut stack, with(of_user("ann"))).await;
    }
    let too_large = |key: TokenKey| key.scope("a".repeat(9000));
    for key in [too_large(TokenKey::new()), too_large(of_user("ann"))] {
        let error = send(&stack, with(key.clone())).await.unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(Refused::InvalidKey(_))), "{error}");
        tokens.get(&key).await.unwrap_err();
        tokens.forget(&key);
    }
    assert_eq!((api.seen().len(), tokens.len()), (4, 2));
}

#[tokio::test(start_paused = true)]
async fn layers_with_other_rules_over_one_map_share_tokens_and_nothing_else() {
    let (api, exchange) = (Api::new(), Exchange::default());
    let tokens = exchange.tokens();
    let bearer = keyed(&tokens);
    // The API here knows the other header alone, and would reject this one.
    let api_key = bearer.clone().header("x-api-key").unwrap().rejected_when(|_| false);
    let plain = BearerAuthLayer::from_cache(&tokens).origin("http://internal.example").unwrap();
    let allowed = plain.clone().allow_plaintext();
    let internal = || {
        let mut request = with(of_user("ann"));
        *request.uri_mut() = "http://internal.example/".parse().unwrap();
        request
    };
    for _ in 0..2 {
        send(&bearer.layer(api.clone()), with(of_user("ann"))).await.unwrap();
        send(&api_key.layer(api.clone()), with(of_user("ann"))).await.unwrap();
        send(&allowed.layer(api.clone()), internal()).await.unwrap();
        send(&plain.layer(api.clone()), internal()).await.unwrap_err();
    }
    let headers: Vec<_> = api.seen().into_iter().map(|seen| seen.parts.headers).collect();
    let carried = |headers: &HeaderMap, name: &str| headers.get(name).cloned();
    for three in headers.chunks(3) {
        assert_eq!(carried(&three[0], "authorization").unwrap(), "Bearer ann-1");
        assert_eq!(carried(&three[1], "authorization"), None);
        assert_eq!(carried(&three[1], "x-api-key").unwrap(), "ann-1");
        assert_eq!(carried(&three[2], "authorization").unwrap(), "Bearer ann-1");
    }
    assert_eq!(headers.len(), 6);
    assert_eq!(exchange.fetched(), ["ann"]);
}

#[tokio::test(start_paused = true)]
async fn a_key_goes_by_the_route_of_its_origin() {
    let (api, exchange, mint) = (Api::new(), Exchange::default(), Mint::default());
    let stack = layer(&cache(mint))
        .route("https://other.example", exchange.tokens())
        .unwrap()
        .layer(api.clone());
    let other = |key: Option<TokenKey>| {
        let mut request = key.map_or_else(|| get("/"), with);
        *request.uri_mut() = "https://other.example/".parse().unwrap();
        request
    };
    send(&stack, get("/")).await.unwrap();
    for _ in 0..2 {
        send(&stack, other(Some(of_user("ann")))).await.unwrap();
        send(&stack, other(None)).await.unwrap();
    }
    send(&stack, with(of_user("ann"))).await.unwrap_err();
    assert_eq!(api.tokens(), ["t1", "ann-1", "own-2", "ann-1", "own-2"]);
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_is_changed_after_its_use_shares_nothing_with_what_it_was() {
    let (api, exchange) = (Api::new(), Exchange::default());
    let to = |uri: &str| {
        let mut request = with(of_user("ann"));
        *request.uri_mut() = uri.parse().unwrap();
        request
    };
    let layer = keyed(&exchange.tokens()).origin("https://other.example").unwrap();
    let layer = layer.assume_origin(API).unwrap();
    send(&layer.layer(api.clone()), to("/")).await.unwrap();
    // The service is gone, so the layer is changed in place.
    let layer = layer.assume_origin("https://unnamed.example").unwrap();
    let error = send(&layer.layer(api.clone()), to("/")).await.unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(Refused::NotNamed(_))), "{error}");
    assert_eq!(api.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_assumed_origin_that_gets_a_route_after_its_use_gets_the_token_of_that_route() {
    let (api, other) = (Api::new(), Mint::default());
    other.always(token("other"));
    let layer = BearerAuthLayer::from_cache(cache(Mint::default())).any_https();
    let layer = layer.assume_origin(API).unwrap();
    for _ in 0..2 {
        send(&layer.layer(api.clone()), get_from("/")).await.unwrap();
    }
    // The service is gone, so the layer is changed in place.
    let layer = layer.route(API, cache(other)).unwrap();
    send(&layer.layer(api.clone()), get_from("/")).await.unwrap();
    assert_eq!(api.tokens(), ["t1", "t1", "other"]);
}

// ===== 27 =====

#[tokio::test(start_paused = true)]
async fn where_a_subject_is_required_a_request_without_one_is_refused_and_nothing_is_sent() {
    let (api, exchange) = (Api::new(), Exchange::default());
    let tokens = exchange.tokens();
    // The program's own token is here, and others use it.
    send(&keyed(&tokens).layer(api.clone()), get("/")).await.unwrap();
    let stack = keyed(&tokens).require_subject().layer(api.clone());
    for _ in 0..2 {
        for request in [get("/"), with(TokenKey::new()), with(TokenKey::new().scope("a"))] {
            let error = send(&stack, request).await.unwrap_err();
            assert_eq!(error.downcast_ref(), Some(&Refused::NoSubject));
        }
        send(&stack, with(of_user("ann"))).await.unwrap();
    }
    assert_eq!(api.tokens(), ["own-1", "ann-2", "ann-2"]);
    assert_eq!(exchange.fetched(), ["own", "ann"]);
}

#[tokio::test(start_paused = true)]
async fn where_a_subject_is_required_a_single_cache_serves_no_request() {
    let (api, mint) = (Api::new(), Mint::default());
    let cache = cache(mint.clone());
    cache.get().await.unwrap();
    let stack = layer(&cache).require_subject().layer(api.clone());
    for request in [get("/"), with(of_user("ann"))] {
        send(&stack, request).await.unwrap_err();
    }
    assert!(api.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_requires_a_subject_after_its_use_serves_nothing_that_it_kept() {
    let api = Api::new();
    let layer = layer(&cache(Mint::default()));
    for _ in 0..2 {
        send(&layer.layer(api.clone()), get("/")).await.unwrap();
    }
    // The service is gone, so the layer is changed in place.
    let stack = layer.require_subject().layer(api.clone());
    let error = send(&stack, get("/")).await.unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&Refused::NoSubject));
    assert_eq!(api.tokens(), ["t1", "t1"]);
}

#[tokio::test(start_paused = true)]
async fn a_subject_comes_from_exactly_one_bearer_token_of_the_incoming_request() {
    let mut headers = HeaderMap::new();
    for line in ["", "Bearer", "Bearer  ", "Basic YTpi", "Bearer a b"] {
        headers.insert(AUTHORIZATION, HeaderValue::from_str(line).unwrap());
        Subject::from_headers(&headers).unwrap_err();
    }
    headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer ann"));
    assert_eq!(Subject::from_headers(&headers).unwrap(), subject("ann"));
    headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer bob"));
    Subject::from_headers(&headers).unwrap_err();
}

// ===== 28 =====

#[tokio::test(start_paused = true)]
async fn a_key_and_a_map_show_no_secret() {
    let exchange = Exchange::default();
    let tokens = exchange.tokens();
    let key = of_user("hush");
    tokens.get(&key).await.unwrap();
    let layer = keyed(&tokens).require_subject();
    let shown = format!("{key:?} {tokens:?} {layer:?} {:?}", tokens.cache(&key));
    assert!(!shown.contains("hush"), "{shown}");
}

// ===== 29 =====

#[tokio::test(start_paused = true)]
async fn forget_takes_a_token_away_at_once_also_from_a_service_that_has_used_it() {
    let (api, exchange) = (Api::new(), Exchange::default());
    let tokens = exchange.tokens();
    let mut stack = keyed(&tokens).layer(api.clone());
    for forget in [false, false, true, true] {
        if forget {
            tokens.forget(&of_user("ann"));
        }
        call(&mut stack, with(of_user("ann"))).await;
    }
    assert_eq!(api.tokens(), ["ann-1", "ann-1", "ann-2", "ann-3"]);
    tokens.forget(&TokenKey::new());
    call(&mut stack, get("/")).await;
    tokens.forget(&TokenKey::new());
    call(&mut stack, get("/")).await;
    assert_eq!(api.tokens()[4..], ["own-4", "own-5"]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_for_the_inner_service_does_not_send_a_forgotten_token() {
    for lifetime in [Duration::ZERO, 100 * S] {
        let (source, mut desk) = manual();
        let (api, tokens) = (Api::new(), KeyedTokenCache::builder(source).build().unwrap());
        let limited = ConcurrencyLimitLayer::new(1).layer(api.clone());
        let stack = keyed(&tokens).layer(limited.clone());
        let request = tokio::spawn(async move { send(&stack, with(of_user("ann"))).await });
        let flight = desk.next().await;

        api.close_gate();
        take_permit(limited).await;
        assert_eq!(api.waiting(), 1, "the permit is taken");
        flight.reply(Ok(token("t1").with_lifetime(lifetime)));
        settle().await;
        tokens.forget(&of_user("ann"));
        api.open_gate();
        let error = request.await.unwrap().unwrap_err();
        let error = TokenError::find_in(&*error).unwrap();
        assert_eq!(error.downcast_ref(), Some(&CacheError::Forgotten));
        assert_eq!(api.tokens(), ["-"]);
    }
}

// ===== 30 =====

#[tokio::test(start_paused = true)]
async fn a_401_for_one_subject_renews_that_subjects_token_alone() {
    let (api, exchange) = (Api::new(), Exchange::default());
    let stack = keyed(&exchange.tokens()).layer(api.clone());
    send(&stack, with(of_user("ann"))).await.unwrap();
    send(&stack, with(of_user("bob"))).await.unwrap();
    api.revoke("ann-1");
    assert_eq!(send(&stack, with(of_user("ann"))).await.unwrap().status(), 200);
    send(&stack, with(of_user("bob"))).await.unwrap();
    assert_eq!(api.tokens(), ["ann-1", "bob-2", "ann-1", "ann-3", "bob-2"]);
    assert_eq!(exchange.fetched(), ["ann", "bob", "ann"]);
}

#[tokio::test(start_paused = true)]
async fn a_subject_that_has_expired_is_refused_before_any_fetch() {
    let (api, exchange) = (Api::new(), Exchange::default());
    let stack = keyed(&exchange.tokens()).require_subject().layer(api.clone());
    let ended = AccessToken::new("ann").unwrap().with_expiry(SystemTime::now() - S);
    let key = TokenKey::new().on_behalf_of(Subject::new(ended));
    let error = send(&stack, with(key)).await.unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&Refused::SubjectExpired));
    assert!(api.seen().is_empty() && exchange.fetched().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_token_is_not_used_past_its_subjects_expiry() {
    let (api, exchange) = (Api::new(), Exchange::default());
    let mut stack = keyed(&exchange.tokens()).require_subject().layer(api.clone());
    let ends_soon = AccessToken::new("ann").unwrap().with_expiry(SystemTime::now() + 60 * S);
    let key = TokenKey::new().on_behalf_of(Subject::new(ends_soon));
    call(&mut stack, with(key.clone())).await;
    tokio::time::advance(60 * S).await;
    // The wall clock, which the test cannot move, has the subject live on: a new token is needed.
    call(&mut stack, with(key)).await;
    assert_eq!(api.tokens(), ["ann-1", "ann-2"]);
}
