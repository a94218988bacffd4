//! Refresh tokens that are good for one exchange: the server rotates them, and revokes the whole
//! family when one is used twice.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::StatusCode;
use tower_bearer::{
    BoxError, Secret, TokenCache,
    oauth2::{EndpointErrorKind as Kind, TokenEndpoint},
};

use crate::{
    load::Load,
    servers::{endpoint, exchange, forget, login, lose_next_answer, secret_of, seen},
    stack::{Caller, refusal, until},
};

const REVOCATIONS: u64 = 20;

/// What a program keeps of its logins.
#[derive(Clone, Default)]
struct Store(Arc<Mutex<Vec<String>>>);

impl Store {
    async fn log_in(&self, id: &str) {
        let token = login(id).await;
        self.add(&token);
    }

    fn add(&self, token: &str) {
        self.0.lock().unwrap().push(token.to_owned());
    }

    /// Every refresh token that there ever was.
    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// An endpoint that begins with the newest one, and hands in each that follows.
    fn endpoint(&self, id: &str) -> TokenEndpoint {
        let (read, write) = (self.clone(), self.clone());
        let newest = move || {
            let newest = read.all().pop().ok_or_else(|| BoxError::from("never logged in"));
            async { newest }
        };
        endpoint(id, &secret_of(id))
            .refresh_token(Secret::from_fn(newest))
            .on_new_refresh_token(move |token| {
                write.add(&token);
                async {}
            })
            .build()
            .unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_callers_and_revocations_never_use_a_refresh_token_twice() {
    let store = Store::default();
    store.log_in("rotating").await;
    let cache = TokenCache::new(store.endpoint("rotating"));
    let mut load = Load::start(&Caller::new(&cache), 50, Duration::from_millis(10));
    for _ in 0..REVOCATIONS {
        // Every caller has made a call with the token of the moment: no replay is under way.
        load.progress(2).await;
        forget(&cache.current().unwrap()).await;
    }
    load.progress(2).await;
    let figures = load.stop().await;
    let seen = seen("rotating").await;
    figures.report("rotated refresh tokens, 50 callers", seen.granted);
    assert_eq!((seen.granted, seen.refused), (1 + REVOCATIONS, vec![]));
    figures.assert_none_failed();
    let known = store.all();
    assert_eq!(known.len() as u64, 2 + REVOCATIONS, "the hook has got every one");
    assert_eq!(known.iter().collect::<HashSet<_>>().len(), known.len());
}

#[tokio::test]
async fn a_family_that_was_revoked_is_a_permanent_error_until_somebody_logs_in_again() {
    let store = Store::default();
    store.log_in("stolen").await;
    let cache = TokenCache::new(store.endpoint("stolen"));
    let caller = Caller::new(&cache);
    caller.succeed().await;

    // Somebody has got hold of the first one: the server ends all that came of it.
    let answer = exchange(&store.all()[0], "stolen").await;
    assert_eq!(answer["error"], "invalid_grant");
    let call = caller.call().await.unwrap();
    assert_eq!((call.head.status, call.sent), (StatusCode::UNAUTHORIZED, 1));
    let error = cache.status().last_error().cloned().unwrap();
    assert!(!error.is_transient(), "{error}");
    assert_eq!(refusal(&error).error(), Some("invalid_grant"));

    store.log_in("stolen").await;
    let stolen = cache.current().unwrap();
    // The next call makes the cache check whether an operator has mended it.
    caller.call().await.unwrap();
    until(&cache, |status| status.cooldown_until().is_none()).await;
    caller.succeed().await;
    assert_ne!(cache.current().unwrap().secret(), stolen.secret());
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_once_more_and_is_then_a_lost_refresh_token() {
    let store = Store::default();
    store.log_in("unlucky").await;
    let cache = TokenCache::new(store.endpoint("unlucky"));
    lose_next_answer().await;
    let error = cache.get().await.unwrap_err();
    assert!(!error.is_transient(), "{error}");
    assert_eq!(refusal(&error).kind(), &Kind::RefreshTokenLost);
    let seen = seen("unlucky").await;
    assert_eq!((seen.granted, seen.refused), (1, vec!["refresh token already used".to_owned()]));
}
