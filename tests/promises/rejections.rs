//! Promises 12 and 15 where rejections come in numbers, and what their challenges ask for.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use futures_util::{FutureExt, future::join_all};
use http::{
    Request, Response,
    header::{AUTHORIZATION, WWW_AUTHENTICATE},
};
use http_body_util::Full;
use tokio::{
    task::JoinSet,
    time::{Instant, advance, sleep},
};
use tower::Layer;
use tower_bearer::{
    AccessToken, BearerAuthLayer, CacheError, Challenge, Reason, Rejection, TokenCache, TokenError,
    TokenRequest, TokenSource, from_fn,
};

use crate::support::*;

type Answer = Result<Response<Full<Bytes>>, Infallible>;

fn status(status: u16) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::default()).unwrap()
}

// ===== 15: an origin that accepts what it rejects =====

#[tokio::test(start_paused = true)]
async fn one_broken_replica_of_ten_costs_the_budget_and_holds_nobody_up() {
    let (mint, calls) = (Mint::taking(S / 5), Arc::new(AtomicUsize::new(0)));
    let replicas = tower::service_fn({
        let calls = Arc::clone(&calls);
        move |_: Request<Full<Bytes>>| {
            let is_broken = calls.fetch_add(1, SeqCst) % 10 == 9;
            async move {
                sleep(S / 50).await;
                Answer::Ok(status(if is_broken { 401 } else { 200 }))
            }
        }
    });
    let stack = layer(&cache(mint.clone())).layer(replicas);
    send(&stack, get("/warm")).await.unwrap();

    // A minute of a hundred requests a second.
    let mut requests = JoinSet::new();
    for _ in 0..6000 {
        let stack = stack.clone();
        requests.spawn(async move {
            let began = Instant::now();
            send(&stack, get("/")).await.unwrap();
            began.elapsed()
        });
        sleep(S / 100).await;
    }
    let took = requests.join_all().await;
    assert!(mint.fetches() <= 1 + 20 + 60 / 5, "{}", mint.fetches());
    let held_up = took.iter().filter(|took| **took > S / 50).count();
    // The requests that were rejected, and are sent again.
    assert!(held_up < mint.fetches() * 3, "{held_up}");
    assert_eq!(calls.load(SeqCst), 6001 + held_up, "no request waits for another's renewal");
    // On average a request takes little longer than the API does.
    let mean = took.iter().sum::<std::time::Duration>() / 6000;
    assert!(mean <= S / 50 * 6 / 5, "{mean:?}");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_rejections_over_a_tenth_of_a_second_cause_one_fetch_and_one_replay_each() {
    let (mint, calls) = (Mint::taking(S / 20), Arc::new(AtomicUsize::new(0)));
    let api = tower::service_fn({
        let calls = Arc::clone(&calls);
        move |request: Request<Full<Bytes>>| {
            let nth = u32::try_from(calls.fetch_add(1, SeqCst)).unwrap();
            let is_revoked = request.headers()[AUTHORIZATION] == "Bearer t1";
            async move {
                // The fetch ends while half of them are still to come.
                sleep(S + S * nth / 10_000).await;
                Answer::Ok(status(if is_revoked { 401 } else { 200 }))
            }
        }
    });
    let cache = cache(mint.clone());
    cache.get().await.unwrap();
    let stack = layer(&cache).layer(api);
    let mut requests = JoinSet::new();
    for _ in 0..1000 {
        let stack = stack.clone();
        requests.spawn(async move { send(&stack, get("/")).await.unwrap().status() });
    }
    assert!(requests.join_all().await.into_iter().all(|status| status == 200));
    assert_eq!((mint.fetches(), calls.load(SeqCst)), (2, 2000));
}

#[tokio::test(start_paused = true)]
async fn a_path_that_always_rejects_at_an_origin_that_accepts_others_costs_the_budget() {
    let mint = Mint::default();
    let api = tower::service_fn(|request: Request<Full<Bytes>>| async move {
        Answer::Ok(status(if request.uri().path() == "/bad" { 401 } else { 200 }))
    });
    let stack = layer(&cache(mint.clone())).layer(api);
    for _ in 0..100 {
        send(&stack, get("/good")).await.unwrap();
        assert_eq!(send(&stack, get("/bad")).await.unwrap().status(), 401);
        advance(S / 50).await;
    }
    assert!(mint.fetches() <= 1 + 20, "{}", mint.fetches());
    for _ in 0..100 {
        let asked = send(&stack, get("/bad")).now_or_never();
        assert_eq!(asked.expect("the rejection is the answer at once").unwrap().status(), 401);
    }
}

#[tokio::test(start_paused = true)]
async fn an_api_that_rejects_on_purpose_takes_the_renewals_of_no_other() {
    let mint = Mint::default();
    let cache = cache(mint.clone());
    let (good, turns) = (Api::new(), Arc::new(AtomicUsize::new(0)));
    let bad = tower::service_fn(move |_: Request<Full<Bytes>>| {
        let turn = turns.fetch_add(1, SeqCst);
        async move { Answer::Ok(status(if turn % 2 == 0 { 200 } else { 401 })) }
    });
    let to_good = layer(&cache).layer(good.clone());
    let to_bad = layer(&cache).origin("https://bad.example").unwrap().layer(bad);
    for _ in 0..200 {
        send(&to_bad, get_from("https://bad.example")).await.unwrap();
    }
    let spent = mint.fetches();
    assert!(spent <= 1 + 20, "{spent}");
    send(&to_good, get("/")).await.unwrap();
    good.revoke(cache.current().unwrap().secret());
    assert_eq!(send(&to_good, get("/")).await.unwrap().status(), 200);
    assert_eq!(mint.fetches(), spent + 1);
}

#[tokio::test(start_paused = true)]
async fn seventy_origins_that_reject_everything_cost_no_fetch_each_time() {
    let mint = Mint::default();
    let api = Api::new();
    api.reject_all(true);
    let origins: Vec<_> = (0..70).map(|n| format!("https://{n}.example")).collect();
    let auth = BearerAuthLayer::from_cache(cache(mint.clone()));
    let auth = origins.iter().fold(auth, |auth, origin| auth.origin(origin).unwrap());
    let stack = auth.layer(api);
    for _ in 0..5 {
        for origin in &origins {
            assert_eq!(send(&stack, get_from(origin)).await.unwrap().status(), 401);
        }
    }
    assert_eq!(mint.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn tokens_that_are_expired_on_arrival_and_an_api_that_rejects_all_cost_a_fetch_a_request() {
    let mint = Mint::living(std::time::Duration::ZERO);
    let api = Api::new();
    api.reject_all(true);
    let stack = layer(&cache(mint.clone())).layer(api);
    for _ in 0..100 {
        assert_eq!(send(&stack, get("/")).await.unwrap().status(), 401);
    }
    assert!(mint.fetches() <= 102, "{}", mint.fetches());
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_rejections_of_as_many_origins_share_one_flight() {
    let (source, mut desk) = manual();
    let cache = cache(source);
    desk.fill(&cache, token("a")).await;
    let renewals = (0..10_000).map(|n| {
        let origin = format!("https://{n}.example").parse().unwrap();
        let (cache, rejection) = (cache.clone(), Rejection::new(token("a")).with_origin(origin));
        tokio::spawn(async move { cache.renew(rejection).await.unwrap().secret().to_owned() })
    });
    let renewals: Vec<_> = renewals.collect();
    let call = desk.next().await;
    desk.assert_idle().await;
    call.answer("b");
    for renewal in join_all(renewals).await {
        assert_eq!(renewal.unwrap(), "b");
    }
    desk.assert_idle().await;
}

// ===== 12: what others have to do with it =====

#[tokio::test(start_paused = true)]
async fn an_api_that_accepts_the_token_is_not_held_up_while_another_ones_renewal_hangs() {
    let (source, mut desk) = manual();
    let cache = cache(source);
    let (good, bad) = (Api::new(), Api::new());
    bad.reject_all(true);
    let to_good = layer(&cache).layer(good.clone());
    let to_bad = layer(&cache).origin("https://bad.example").unwrap().layer(bad);
    desk.fill(&cache, token("a")).await;
    send(&to_good, get("/")).await.unwrap();
    let rejected =
        tokio::spawn(async move { send(&to_bad, get_from("https://bad.example")).await });
    let hangs = desk.next().await;
    for _ in 0..5 {
        advance(S).await;
        let answered = send(&to_good, get("/")).now_or_never().expect("it waits for nobody");
        assert_eq!(answered.unwrap().status(), 200);
    }
    hangs.answer("b");
    rejected.await.unwrap().unwrap();
    send(&to_good, get("/")).await.unwrap();
    assert_eq!(good.tokens().last().unwrap(), "b");
}

#[tokio::test(start_paused = true)]
async fn an_acceptance_ends_the_backoff_that_the_same_token_has_caused_at_a_proven_origin() {
    let mint = Mint::default();
    mint.always(token("old"));
    let api = Api::new();
    let stack = layer(&cache(mint.clone())).layer(api.clone());
    send(&stack, get("/")).await.unwrap();
    api.revoke("old");
    for _ in 0..60 {
        assert_eq!(send(&stack, get("/")).await.unwrap().status(), 401);
        advance(S).await;
    }
    let fetches = mint.fetches();
    assert!((4..=6).contains(&fetches), "0, 5, 15, 35 s: {fetches}");
    api.accept_again("old");
    assert_eq!(send(&stack, get("/")).await.unwrap().status(), 200);
    api.revoke("old");
    mint.always(token("new"));
    assert_eq!(send(&stack, get("/")).await.unwrap().status(), 200, "the file was rotated");
    assert_eq!(mint.fetches(), fetches + 1);
}

#[tokio::test(start_paused = true)]
async fn a_rejection_that_names_no_origin_is_renewed_at_once_if_the_layer_saw_an_acceptance() {
    let mint = Mint::default();
    let cache = cache(mint.clone());
    let stack = layer(&cache).layer(Api::new());
    for _ in 0..5 {
        send(&stack, get("/")).await.unwrap();
        let current = cache.current().unwrap();
        let renewed = cache.renew(Rejection::new(current.clone())).await.unwrap();
        assert_ne!(renewed.secret(), current.secret());
    }
    assert_eq!(mint.fetches(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_waits_for_a_renewal_gets_its_token_although_it_is_expired_on_arrival() {
    let (source, mut desk) = manual();
    let cache = cache(source);
    let api = Api::new();
    api.revoke("a");
    let stack = layer(&cache).layer(api.clone());
    desk.fill(&cache, token("a")).await;
    cache.reject(Rejection::new(token("a")));
    let renewal = desk.next().await;
    let request = tokio::spawn(async move { send(&stack, get("/")).await.unwrap().status() });
    settle().await;
    renewal.reply(Ok(token("b").with_lifetime(std::time::Duration::ZERO)));
    assert_eq!(request.await.unwrap(), 200);
    assert_eq!(api.tokens(), ["b"], "not the one that was rejected");
}

// ===== What a challenge asks for =====

/// Tokens say which claims they were fetched for: `x-2` is the second token, for `x`. It can be
/// made to wait.
fn claiming(takes: std::time::Duration) -> (impl TokenSource, Arc<Mutex<Vec<String>>>) {
    let minted = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&minted);
    let source = from_fn(move |request: TokenRequest| {
        let claims = request.challenge().and_then(|challenge| challenge.param("claims"));
        let mut minted = minted.lock().unwrap();
        let secret = format!("{}-{}", claims.unwrap_or("plain"), minted.len() + 1);
        minted.push(secret.clone());
        async move {
            sleep(takes).await;
            Ok(token(&secret).with_lifetime(101 * S))
        }
    });
    (source, log)
}

/// An API whose path says which claims it wants.
async fn wants_claims(request: Request<Full<Bytes>>) -> Answer {
    sleep(S / 100).await;
    let claims = request.uri().path().trim_start_matches('/').to_owned();
    let bearer = request.headers()["authorization"].to_str().unwrap();
    if bearer.starts_with(&format!("Bearer {claims}")) {
        return Ok(status(200));
    }
    let mut response = status(401);
    let challenge = format!("Bearer error=\"insufficient_claims\", claims=\"{claims}\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge.parse().unwrap());
    Ok(response)
}

#[tokio::test(start_paused = true)]
async fn two_requests_that_are_rejected_at_once_with_other_claims_both_end_well() {
    let (source, minted) = claiming(S);
    let stack = layer(&cache(source)).layer(tower::service_fn(wants_claims));
    send(&stack, get("/plain")).await.unwrap();
    let both = ["/x", "/y"].map(|path| {
        let stack = stack.clone();
        tokio::spawn(async move { send(&stack, get(path)).await.unwrap().status() })
    });
    for request in both {
        assert_eq!(request.await.unwrap(), 200);
    }
    assert_eq!(*minted.lock().unwrap(), ["plain-1", "x-2", "y-3"]);
}

#[tokio::test(start_paused = true)]
async fn a_step_up_that_races_a_refresh_gets_its_claims_and_the_next_request_too() {
    let (source, minted) = claiming(S);
    let cache = cache(source);
    let stack = layer(&cache).layer(tower::service_fn(wants_claims));
    send(&stack, get("/plain")).await.unwrap();
    advance(85 * S).await;
    send(&stack, get("/plain")).await.unwrap();
    assert!(cache.status().is_fetching(), "a refresh");
    for _ in 0..3 {
        assert_eq!(send(&stack, get("/x")).await.unwrap().status(), 200);
    }
    assert_eq!(*minted.lock().unwrap(), ["plain-1", "plain-2", "x-3"]);
}

#[tokio::test(start_paused = true)]
async fn a_plain_rejection_that_is_followed_by_a_first_challenge_for_claims_waits_for_nothing() {
    let (source, minted) = claiming(S);
    let turns = Arc::new(AtomicUsize::new(0));
    let api = tower::service_fn(move |request: Request<Full<Bytes>>| {
        let is_first = turns.fetch_add(1, SeqCst) == 0;
        async move { if is_first { Ok(status(401)) } else { wants_claims(request).await } }
    });
    let stack = layer(&cache(source)).layer(api);
    assert_eq!(send(&stack, get("/x")).await.unwrap().status(), 401, "it is sent again once");
    assert_eq!(send(&stack, get("/x")).await.unwrap().status(), 200);
    assert!(minted.lock().unwrap().len() <= 3, "{minted:?}");
}

#[tokio::test(start_paused = true)]
async fn a_flight_for_a_step_up_is_shared_by_the_callers_that_need_the_same() {
    struct StepsUp(AtomicUsize);
    impl TokenSource for StepsUp {
        async fn fetch(&self, request: TokenRequest) -> Result<AccessToken, TokenError> {
            let nth = self.0.fetch_add(1, SeqCst) + 1;
            sleep(S).await;
            let wanted = request.challenge().and_then(|challenge| challenge.param("acr_values"));
            Ok(token(&format!("{}-{nth}", wanted.unwrap_or("plain"))))
        }
        fn can_satisfy(&self, challenge: &Challenge) -> bool {
            challenge.param("acr_values").is_some()
        }
    }
    let cache = cache(StepsUp(AtomicUsize::new(0)));
    let first = cache.get().await.unwrap();
    let challenge = Challenge::new("Bearer")
        .with_param("error", "insufficient_user_authentication")
        .with_param("acr_values", "gold");
    let rejection = Rejection::new(first).with_challenge(challenge);
    let renewals = join_all((0..10).map(|_| cache.renew(rejection.clone()))).await;
    for renewed in renewals {
        assert_eq!(renewed.unwrap().secret(), "gold-2");
    }
    assert_eq!(cache.status().flights(), 2);
}

#[tokio::test(start_paused = true)]
async fn each_nonce_is_a_challenge_of_its_own_and_the_budget_is_their_bound() {
    let mint = Mint::default();
    let cache = cache(mint.clone());
    let mut current = cache.get().await.unwrap();
    let mut outcomes = HashMap::new();
    for n in 0..100 {
        let challenge = Challenge::new("Bearer").with_param("nonce", n.to_string());
        let rejection = Rejection::new(current.clone())
            .with_origin(API.parse().unwrap())
            .with_challenge(challenge);
        let outcome = cache.renew(rejection).await;
        *outcomes.entry(outcome.is_ok()).or_insert(0) += 1;
        current = cache.get().await.unwrap();
        cache.accepted(&current, Some(&API.parse().unwrap()));
    }
    assert_eq!((outcomes[&true], mint.fetches()), (20, 21));
}

/// The API names the scope of each path, as the registries of containers do, or offers HTTP Digest.
#[tokio::test(start_paused = true)]
async fn a_revoked_token_is_one_fetch_whatever_scope_or_digest_nonce_each_rejection_names() {
    for (scheme, param) in [("Bearer", "scope"), ("Digest", "nonce")] {
        let mint = Mint::taking(S);
        let cache = cache(mint.clone());
        let revoked = cache.get().await.unwrap();
        let rejection = |n: u32| {
            let challenge = Challenge::new(scheme).with_param(param, n.to_string());
            let rejection = Rejection::new(revoked.clone()).with_challenge(challenge);
            rejection.with_origin(API.parse().unwrap())
        };
        for renewed in join_all((0..50).map(|n| cache.renew(rejection(n)))).await {
            assert_eq!(renewed.unwrap().secret(), "t2", "{scheme} {param}");
        }
        cache.reject(rejection(50));
        settle().await;
        assert_eq!(mint.fetches(), 2, "{scheme} {param}");
    }
}

/// A source that asks for the scope of the challenge.
struct Scoped(AtomicUsize);

impl TokenSource for Scoped {
    async fn fetch(&self, request: TokenRequest) -> Result<AccessToken, TokenError> {
        let nth = self.0.fetch_add(1, SeqCst) + 1;
        sleep(S).await;
        let scope = request.challenge().and_then(|challenge| challenge.param("scope"));
        Ok(token(&format!("{}-{nth}", scope.unwrap_or("plain"))))
    }

    fn can_satisfy(&self, challenge: &Challenge) -> bool {
        challenge.param("scope").is_some()
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_can_satisfy_a_scope_is_asked_for_each() {
    let cache = cache(Scoped(AtomicUsize::new(0)));
    let first = cache.get().await.unwrap();
    let renew = |scope: &'static str| {
        let challenge = Challenge::new("Bearer").with_param("scope", scope);
        cache.renew(Rejection::new(first.clone()).with_challenge(challenge))
    };
    let (read, write) = tokio::join!(renew("read"), renew("write"));
    assert_eq!((read.unwrap().secret(), write.unwrap().secret()), ("read-2", "write-3"));
}

#[tokio::test(start_paused = true)]
async fn what_the_flight_is_asked_for_is_what_the_rejection_brought() {
    let (source, mut desk) = manual();
    let cache = cache(source);
    desk.fill(&cache, token("a")).await;
    let challenge = Challenge::new("Bearer").with_param("claims", "c");
    let renewal = renew(&cache, Rejection::new(token("a")).with_challenge(challenge.clone()));
    let call = desk.next().await;
    assert_eq!(call.request.reason(), Reason::Rejected);
    assert_eq!(call.request.challenge(), Some(&challenge));
    assert_eq!(call.request.previous().unwrap().secret(), "a");
    call.reply(Err(busy()));
    assert_eq!(renewal.await.unwrap().unwrap_err().to_string(), "busy");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_waits_for_a_second_flight_waits_no_longer_than_the_policy_says() {
    let (source, mut desk) = manual();
    let policy = exact().max_wait(2 * S).build().unwrap();
    let cache = TokenCache::with_policy(source, policy);
    desk.fill(&cache, token("a")).await;
    cache.reject(Rejection::new(token("a")));
    let first = desk.next().await;
    let challenge = Challenge::new("Bearer").with_param("claims", "c");
    let began = Instant::now();
    let renewal = renew(&cache, Rejection::new(token("a")).with_challenge(challenge));
    settle().await;
    advance(S).await;
    first.answer("b");
    let _second = desk.next().await;
    let error = renewal.await.unwrap().unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&CacheError::WaitTimeout(2 * S)));
    assert_eq!(began.elapsed(), 2 * S);
}
