//! No memory is given back with a secret in it.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering},
};

use tower_bearer::{
    AccessToken, Reason, Rejection, Secret, TokenCache, TokenError, TokenRequest, TokenSource,
    from_fn, local::StoredToken,
};

const NEEDLE: &str = "a-needle-that-is-nowhere-else";

static LEAKS: AtomicUsize = AtomicUsize::new(0);

/// Looks for the needle in all that is given back. A reallocation is a copy here, so what
/// stays behind when a buffer grows is found too.
struct Inspector;

#[global_allocator]
static INSPECTOR: Inspector = Inspector;

// SAFETY: memory comes from the system's allocator and goes back to it; it is zeroed, so that
// all of it may be read.
unsafe impl GlobalAlloc for Inspector {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        let bytes = unsafe { std::slice::from_raw_parts(memory, layout.size()) };
        if bytes.windows(NEEDLE.len()).any(|window| window == NEEDLE.as_bytes()) {
            LEAKS.fetch_add(1, Ordering::SeqCst);
        }
        unsafe { System.dealloc(memory, layout) }
    }
}

fn leaks() -> usize {
    LEAKS.swap(0, Ordering::SeqCst)
}

async fn fetch(source: impl TokenSource) -> usize {
    let token = source.fetch(TokenRequest::new(Reason::First)).await.unwrap();
    token.secret().len()
}

/// A token goes through the cache and two renewals, and its header value outlives them all.
async fn tokens() {
    let cache = TokenCache::new(from_fn(|request: TokenRequest| async move {
        let refresh_token = request.previous().and_then(AccessToken::refresh_token);
        let refresh_token = refresh_token.unwrap_or(NEEDLE).to_owned();
        // Another one each time, in a buffer that does not grow.
        let mut secret = String::with_capacity(100);
        secret.push_str(NEEDLE);
        secret.push_str(&"+".repeat(request.previous().map_or(0, |p| p.secret().len())));
        let token = AccessToken::new(secret).map_err(TokenError::permanent)?;
        Ok(token.with_refresh_token(refresh_token).with_scope("a"))
    }));
    let mut header = cache.get().await.unwrap().header_value().clone();
    for _ in 0..2 {
        let token = cache.get().await.unwrap();
        cache.accepted(&token, None);
        if let Ok(renewed) = cache.renew(Rejection::new(token)).await {
            header = renewed.header_value().clone();
        }
    }
    drop(cache);
    // The task of the last flight lets go of the cache too.
    tokio::task::yield_now().await;
    assert!(header.to_str().unwrap().contains(NEEDLE));
}

/// A user's token is exchanged, and refused.
#[cfg(all(feature = "keyed", feature = "oauth2"))]
async fn subjects() {
    use http_body_util::{BodyExt, Full};
    use tower_bearer::{
        Subject, TokenKey,
        oauth2::{BodyFormat, TokenEndpoint, TokenExchange},
    };

    let service = tower::service_fn(async |request: http::Request<Full<bytes::Bytes>>| {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        assert!(body.windows(NEEDLE.len()).any(|window| window == NEEDLE.as_bytes()));
        let answer = http::Response::builder().status(400);
        answer.body(Full::<bytes::Bytes>::from(r#"{"error":"invalid_request"}"#))
    });
    for format in [BodyFormat::Form, BodyFormat::Json] {
        let endpoint = TokenEndpoint::builder("https://auth.example.com/token")
            .body_format(format)
            .token_exchange(TokenExchange::new().actor_token(NEEDLE))
            .transport(service)
            .build()
            .unwrap();
        let subject = Subject::new(AccessToken::new(NEEDLE).unwrap());
        let key = TokenKey::new().on_behalf_of(subject);
        let request = TokenRequest::new(Reason::First).with_key(key);
        endpoint.fetch(request).await.unwrap_err();
    }
}

/// One test, because the inspector sees all threads.
#[tokio::test]
async fn a_secret_is_wiped_when_the_last_clone_goes() {
    drop(String::from(NEEDLE));
    assert_eq!(leaks(), 1, "the inspector sees a leak");

    tokens().await;
    assert_eq!(leaks(), 0, "token, refresh token, header value");

    #[cfg(all(feature = "keyed", feature = "oauth2"))]
    {
        subjects().await;
        assert_eq!(leaks(), 0, "subject's token, actor's token");
    }

    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("secret");
    std::fs::write(&path, NEEDLE).unwrap();

    let fixed = Secret::new(NEEDLE);
    assert_eq!(fixed.clone().read().await.unwrap().len(), NEEDLE.len());
    drop(fixed);
    assert_eq!(leaks(), 0, "fixed");

    Secret::file(&path).read().await.unwrap();
    assert_eq!(leaks(), 0, "file");

    Secret::from_fn(async || Ok(NEEDLE.to_owned())).read().await.unwrap();
    assert_eq!(leaks(), 0, "function");

    assert_eq!(fetch(StoredToken::file(&path)).await, NEEDLE.len());
    assert_eq!(leaks(), 0, "token in a file");

    #[cfg(all(feature = "command", unix))]
    {
        use tower_bearer::local::TokenCommand;

        let cat = || TokenCommand::new("cat").arg(&path);
        assert_eq!(fetch(cat()).await, NEEDLE.len());
        assert_eq!(leaks(), 0, "token on a command's output");

        std::fs::write(&path, r#"{"token":"a-needle-that-is-nowhere-else"}"#).unwrap();
        assert_eq!(fetch(cat()).await, NEEDLE.len());
        assert_eq!(leaks(), 0, "token in JSON");

        Secret::json_file(&path, "token").read().await.unwrap();
        assert_eq!(leaks(), 0, "JSON file");
    }
}
