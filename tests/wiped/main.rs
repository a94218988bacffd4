//! No memory is given back with a secret in it.

#[cfg(all(feature = "jwt", feature = "keyed", feature = "reqwest"))]
mod endpoint;
mod inspector;
mod spellings;

use tower_bearer::{
    AccessToken, Reason, Rejection, Secret, TokenCache, TokenError, TokenRequest, TokenSource,
    from_fn, local::StoredToken,
};

use self::inspector::{leaks, look_for};

const NEEDLE: &str = "a-needle-that-is-nowhere-else";

/// The inspector sees all threads, so one test runs at a time.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// No block was given back with a secret in it.
#[track_caller]
fn assert_wiped(what: &str) {
    let leaks = leaks();
    assert!(leaks.is_empty(), "{what}: {leaks:#?}");
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
    // The task of the last flight drops its handle of the cache too.
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

/// What is made of a client's secret or of a token that somebody else gives, and is refused.
#[cfg(feature = "jwt")]
async fn assertions() {
    use http_body_util::{BodyExt, Full};
    use tower_bearer::oauth2::{BodyFormat, ClientAssertion, TokenEndpoint};

    let service = tower::service_fn(async |request: http::Request<Full<bytes::Bytes>>| {
        request.into_body().collect().await.unwrap();
        let answer = http::Response::builder().status(401);
        answer.body(Full::<bytes::Bytes>::from(r#"{"error":"invalid_client"}"#))
    });
    // Made at once: a text that grew would be left by this test itself.
    let made = |parts: &'static [&'static str]| Secret::from_fn(async || Ok(parts.concat()));
    let secret = || made(&[NEEDLE, NEEDLE]);
    let token = || made(&["eyJ0.e30.", NEEDLE]);
    let issuer = "https://auth.example.com";
    for format in [BodyFormat::Form, BodyFormat::Json] {
        for assertion in [
            ClientAssertion::client_secret(secret()).issuer(issuer),
            ClientAssertion::token(token()),
            // No keys, but texts that are read as such.
            ClientAssertion::private_key(secret()).issuer(issuer),
        ] {
            let endpoint = TokenEndpoint::builder("https://auth.example.com/token")
                .client_id("me")
                .body_format(format)
                .client_assertion(assertion)
                .transport(service)
                .build()
                .unwrap();
            endpoint.fetch(TokenRequest::new(Reason::First)).await.unwrap_err();
        }
    }
}

/// A key is read from a file in each form, and signs.
#[cfg(feature = "jwt")]
async fn keys() {
    use http_body_util::Full;
    use tower_bearer::oauth2::{ClientAssertion, TokenEndpoint, providers};

    let service = tower::service_fn(async |_: http::Request<Full<bytes::Bytes>>| {
        let answer = http::Response::builder().status(401);
        answer.body(Full::<bytes::Bytes>::from(r#"{"error":"invalid_client"}"#))
    });
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/keys");
    let directory = tempfile::tempdir().unwrap();
    for name in ["rsa.pem", "rsa.pkcs1.pem", "rsa.jwk.json", "p256.pem", "p256.jwk.json"] {
        let file = format!("{folder}/{name}");
        let assertion = ClientAssertion::private_key(Secret::file(&file));
        let endpoint = TokenEndpoint::builder("https://auth.example.com/token").client_id("me");
        let endpoint = endpoint.client_assertion(assertion.issuer("https://a.example"));
        let account = directory.path().join(name);
        let text = std::fs::read_to_string(&file).unwrap();
        let json = serde_json::json!({
            "type": "service_account", "client_email": "a", "private_key": text,
        });
        std::fs::write(&account, json.to_string()).unwrap();
        let account = providers::google_service_account(Secret::file(&account)).scope("a");
        let builders = if name == "rsa.pem" { vec![endpoint, account] } else { vec![endpoint] };
        for builder in builders {
            let endpoint = builder.transport(service).build().unwrap();
            let pieces = private_pieces(&text);
            look_for(pieces.iter().map(|piece| (name, piece.as_slice())));
            endpoint.fetch(TokenRequest::new(Reason::First)).await.unwrap_err();
            assert_wiped("a key");
        }
    }
    look_for([("needle", NEEDLE.as_bytes())]);
}

/// A piece of a key that is private, as it is written and as it is.
#[cfg(feature = "jwt")]
fn private_pieces(text: &str) -> [Vec<u8>; 2] {
    use base64::{
        Engine,
        prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
    };

    // Of a JWK, `d`; of PEM, a piece of the private number, or of a prime.
    let (piece, engine) = match text.split_once("\"d\":\"") {
        Some((_, d)) => (&d[..28], &BASE64_URL_SAFE_NO_PAD),
        None if text.contains("RSA") => {
            (&text.lines().rev().nth(2).unwrap()[..28], &BASE64_STANDARD)
        }
        None => (&text.lines().nth(1).unwrap()[48..64], &BASE64_STANDARD),
    };
    let decoded = engine.decode(piece).unwrap();
    [piece.as_bytes().to_vec(), decoded]
}

#[tokio::test]
async fn a_secret_is_wiped_when_the_last_clone_goes() {
    let _alone = ALONE.lock().await;
    look_for([("needle", NEEDLE.as_bytes())]);
    drop(String::from(NEEDLE));
    let leaks = leaks();
    assert_eq!(leaks.len(), 1, "the inspector sees a leak");
    assert_eq!(leaks[0].owner, "wiped", "and who made it: {leaks:#?}");

    tokens().await;
    assert_wiped("token, refresh token, header value");

    #[cfg(all(feature = "keyed", feature = "oauth2"))]
    {
        subjects().await;
        assert_wiped("subject's token, actor's token");
    }

    #[cfg(feature = "jwt")]
    {
        assertions().await;
        assert_wiped("client's secret, given token");
        keys().await;
    }

    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("secret");
    std::fs::write(&path, NEEDLE).unwrap();

    let fixed = Secret::new(NEEDLE);
    assert_eq!(fixed.clone().read().await.unwrap().len(), NEEDLE.len());
    drop(fixed);
    assert_wiped("fixed");

    Secret::file(&path).read().await.unwrap();
    assert_wiped("file");

    Secret::from_fn(async || Ok(NEEDLE.to_owned())).read().await.unwrap();
    assert_wiped("function");

    assert_eq!(fetch(StoredToken::file(&path)).await, NEEDLE.len());
    assert_wiped("token in a file");

    #[cfg(all(feature = "command", unix))]
    {
        use tower_bearer::local::TokenCommand;

        let cat = || TokenCommand::new("cat").arg(&path);
        assert_eq!(fetch(cat()).await, NEEDLE.len());
        assert_wiped("token on a command's output");

        std::fs::write(&path, r#"{"token":"a-needle-that-is-nowhere-else"}"#).unwrap();
        assert_eq!(fetch(cat()).await, NEEDLE.len());
        assert_wiped("token in JSON");

        // Whatever is escaped, and whatever stands beside it.
        let escaped = NEEDLE.replace('-', "\\u002d");
        std::fs::write(&path, format!(r#"{{"x":"{NEEDLE}\n","token":"\n{escaped}"}}"#)).unwrap();
        look_for([("needle", NEEDLE.as_bytes())]);
        assert_eq!(fetch(cat()).await, NEEDLE.len());
        assert_wiped("token in JSON, escaped");

        assert_eq!(Secret::json_file(&path, "token").read().await.unwrap().as_str(), NEEDLE);
        assert_wiped("JSON file");
    }
}
