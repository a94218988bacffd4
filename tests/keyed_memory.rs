//! How much memory a keyed cache holds, exactly. Each thread counts its own.
//!
//! `KEYS=1000000 cargo test --release --all-features --test keyed_memory -- --nocapture` takes a
//! million keys, and prints the figures.

#[path = "common/heap.rs"]
mod heap;

use std::{env, time::Duration};

use tower_bearer::{
    AccessToken, KeyedTokenCache, Subject, TokenCache, TokenError, TokenKey, TokenRequest,
    TokenSource, from_fn,
};

/// The length of a user's token, and of an issued one.
const TOKEN: usize = 100;

fn key(nth: usize) -> TokenKey {
    let user = AccessToken::new(format!("{nth:0>TOKEN$}")).unwrap();
    TokenKey::new().scope("orders:read").on_behalf_of(Subject::new(user))
}

fn source(succeeds: bool) -> impl TokenSource {
    from_fn(move |request: TokenRequest| async move {
        if !succeeds {
            return Err(TokenError::permanent("no such user"));
        }
        let token = match request.key().and_then(TokenKey::subject) {
            Some(subject) => subject.token().secret().to_owned(),
            None => "a".repeat(TOKEN),
        };
        let token = AccessToken::new(token).map_err(TokenError::permanent)?;
        Ok(token.with_lifetime(Duration::from_secs(3600)))
    })
}

/// How many keys come in a row.
fn keys() -> usize {
    env::var("KEYS").ok().and_then(|keys| keys.parse().ok()).unwrap_or(30_000)
}

#[tokio::test]
async fn the_memory_is_that_of_the_capacity_however_many_keys_come() {
    const CAPACITY: usize = 1_000;
    for succeeds in [true, false] {
        let tokens = KeyedTokenCache::builder(source(succeeds)).capacity(CAPACITY);
        let tokens = tokens.build().unwrap();
        let mut after_warm_up = 0;
        for nth in 0..keys() {
            drop(tokens.get(&key(nth)).await);
            if nth == 5 * CAPACITY {
                after_warm_up = heap::live();
            }
        }
        let at_the_end = heap::live();
        println!("{} keys: {after_warm_up} bytes, then {at_the_end}", keys());
        assert!(tokens.len() <= CAPACITY);
        assert!(at_the_end <= after_warm_up + after_warm_up / 10, "{after_warm_up}, {at_the_end}");
    }
}

#[tokio::test]
async fn a_cache_takes_less_than_1792_bytes_and_an_entry_less_than_2560_without_their_tokens() {
    const ENTRIES: usize = 2_000;
    let before = heap::live();
    let mut caches = Vec::with_capacity(ENTRIES);
    for _ in 0..ENTRIES {
        let cache = TokenCache::new(source(true));
        cache.get().await.unwrap();
        caches.push(cache);
    }
    let each = (heap::live() - before) / ENTRIES;
    println!("a cache takes {each} bytes, of which {TOKEN} are its token");
    assert!(each < TOKEN + 1792, "{each}");
    drop(caches);

    let before = heap::live();
    let tokens = KeyedTokenCache::builder(source(true)).build().unwrap();
    for nth in 0..ENTRIES {
        tokens.get(&key(nth)).await.unwrap();
    }
    let each = (heap::live() - before) / ENTRIES;
    println!("an entry takes {each} bytes, of which {} are tokens", 2 * TOKEN);
    assert!(each < 2 * TOKEN + 2560, "{each}");
}
