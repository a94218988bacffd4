//! `Debug` and `Display` of every public type that holds a secret, and the errors of other sources.

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use tower_bearer::{
    AccessToken, BoxError, Challenge, Reason, Rejection, Secret, Subject, TokenCache, TokenKey,
    TokenRequest, TokenSource, from_fn,
    local::{StoredToken, TokenCommand},
    oauth2::{ClientAssertion, Config, HeaderText, TokenExchange},
    shared::{MemoryStore, Seal, Shared},
};

use crate::{
    ACCESS, ACTOR, API_KEY, CLIENT_SECRET, HEADER_KEY, KEY, REFRESH, SEAL, SUBJECT, output::Output,
};

pub(crate) async fn walk(output: &Output) {
    values(output);
    secrets(output).await;
    sources(output).await;
    configurations(output);
}

fn values(output: &Output) {
    let token = AccessToken::new(ACCESS).unwrap().with_refresh_token(REFRESH);
    let subject = Subject::new(AccessToken::new(SUBJECT).unwrap());
    let key = TokenKey::new().scope("a").on_behalf_of(subject.clone());
    let mut headers = HeaderMap::new();
    for wrong in ["", "Basic eA==", "Bearer", "Bearer a b"] {
        let wrong = format!("{wrong} {SUBJECT} {ACCESS}");
        headers.insert(AUTHORIZATION, HeaderValue::from_str(&wrong).unwrap());
        output.error(&Subject::from_headers(&headers).unwrap_err());
    }
    headers.insert(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {SUBJECT}")).unwrap());
    output.debug(Subject::from_headers(&headers).unwrap());
    headers.insert("www-authenticate", HeaderValue::from_static("Bearer realm=\"x\""));
    let challenge = Challenge::from_headers(&headers).remove(0);
    let request = TokenRequest::new(Reason::Rejected)
        .with_previous(token.clone())
        .with_rejected(token.clone())
        .with_challenge(challenge)
        .with_key(key.clone());
    output.debug((&token, token.header_value(), &subject, &key, key.subject(), &request));
    output.debug((Rejection::new(token.clone()), Secret::new(CLIENT_SECRET)));
    output.debug((HeaderText::from(HEADER_KEY), HeaderText::from(Secret::new(HEADER_KEY))));
    output.debug((
        ClientAssertion::private_key(KEY),
        ClientAssertion::client_secret(CLIENT_SECRET),
        ClientAssertion::token(ACCESS),
        TokenExchange::new().subject_token(SUBJECT).actor_token(ACTOR),
        Seal::new(SEAL),
        StoredToken::new(ACCESS),
    ));
    for wrong in [format!("Bearer {ACCESS}"), format!("{ACCESS}\n"), format!("{ACCESS}é")] {
        output.error(&AccessToken::new(wrong).unwrap_err());
    }
}

/// Wherever they are kept, and whatever is wrong with them.
async fn secrets(output: &Output) {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let json = serde_json::json!({"apikey": API_KEY, "other": [CLIENT_SECRET]}).to_string();
    for secret in [
        Secret::file(file("good", CLIENT_SECRET)),
        Secret::file(directory.path().join("missing")),
        Secret::file(file("empty", "")),
        Secret::file(file("long", &CLIENT_SECRET.repeat(5000))),
        Secret::json_file(file("good.json", &json), "apikey"),
        Secret::json_file(file("good.json", &json), "other"),
        Secret::json_file(file("cut.json", &json[..json.len() - 2]), "apikey"),
        Secret::json_file(file("no.json", CLIENT_SECRET), "apikey"),
        Secret::from_fn(async || Ok(CLIENT_SECRET.to_owned())),
        Secret::from_fn(async || Err(BoxError::from("sealed"))),
        Secret::new(""),
        Secret::env("A_NAME_THAT_IS_NOT_SET"),
    ] {
        output.debug(&secret);
        if let Err(error) = secret.read().await {
            output.error(&error);
        }
    }
    let broken = &KEY[..KEY.len() / 2];
    for key in [KEY, broken, CLIENT_SECRET, &KEY.replace('\n', "\\n")] {
        for assertion in [ClientAssertion::private_key(key), ClientAssertion::client_secret(key)] {
            let builder = tower_bearer::oauth2::TokenEndpoint::builder("https://127.0.0.1:1/token")
                .client_id("me")
                .client_assertion(assertion.issuer("https://auth.example.com"));
            match builder.build() {
                Ok(endpoint) => drop(fetch(output, endpoint).await),
                Err(error) => output.error(&error),
            }
        }
        let builder = tower_bearer::oauth2::TokenEndpoint::builder("https://127.0.0.1:1/token")
            .client_id("me")
            .client_certificate(key, Secret::from_fn(async || Ok(CLIENT_SECRET.to_owned())));
        match builder.build() {
            Ok(endpoint) => drop(fetch(output, endpoint).await),
            Err(error) => output.error(&error),
        }
    }
}

async fn fetch(output: &Output, source: impl TokenSource) -> Option<AccessToken> {
    match source.fetch(TokenRequest::new(Reason::First)).await {
        Ok(token) => Some(token),
        Err(error) => {
            output.error(&error);
            None
        }
    }
}

async fn sources(output: &Output) {
    for text in [format!("{ACCESS} {CLIENT_SECRET}"), format!("Bearer {ACCESS}\n\n{ACCESS}")] {
        fetch(output, StoredToken::new(text)).await;
    }
    // What a command says on its error output is shown, so that is its own matter.
    for script in [
        format!("printf '%s' '{ACCESS}'"),
        format!("printf '%s\\n%s' '{ACCESS}' '{ACCESS}'"),
        format!("printf '{{\"token\":[\"%s\"]}}' '{ACCESS}'"),
        format!("printf '{{\"token\":\"%s' '{ACCESS}'"),
        format!("printf '%s' '{ACCESS}'; exit 3"),
        format!("printf '%s' '{ACCESS}' | tr a b; kill -9 $$"),
    ] {
        let command = TokenCommand::new("sh").arg("-c").arg(script).env("SECRET", CLIENT_SECRET);
        fetch(output, command).await;
    }
    let store = MemoryStore::new();
    let token = || AccessToken::new(ACCESS).unwrap().with_refresh_token(REFRESH);
    for _ in 0..2 {
        let source = from_fn(move |_| async move { Ok(token()) });
        let shared = Shared::new(source, store.clone()).name("orders").seal(Seal::new(SEAL));
        output.debug(&shared);
        let cache = TokenCache::new(shared);
        output.debug(cache.get().await.unwrap());
        output.debug(cache.refresh().await.is_ok());
    }
    for name in store.names() {
        let sealed = store.sealed(&name).unwrap();
        output.say(String::from_utf8_lossy(&sealed));
        output.debug((&store, &sealed));
        store.put(&name, b"garbage".to_vec());
    }
    let source = from_fn(move |_| async move { Ok(token()) });
    let shared = Shared::new(source, store).name("orders").seal(Seal::new(SEAL));
    output.debug(TokenCache::new(shared).get().await.unwrap());
}

/// A secret that somebody wrote where none may be.
fn configurations(output: &Output) {
    let mut places = vec![
        serde_json::json!({"url": "https://a.example", "client_secret": CLIENT_SECRET}),
        serde_json::json!({"url": "https://a.example", "client_secret": {"text": CLIENT_SECRET}}),
        serde_json::json!({"url": "https://a.example", "client_secret": {"env": [CLIENT_SECRET]}}),
        serde_json::json!({"url": "https://a.example", "client_secret": [CLIENT_SECRET]}),
        serde_json::json!({"url": "https://a.example", CLIENT_SECRET: 1}),
        serde_json::json!({"url": {"a": CLIENT_SECRET}}),
        serde_json::json!(CLIENT_SECRET),
        serde_json::json!({"url": "https://a.example", "client_id": "me",
            "headers": {"x-key": HEADER_KEY}, "params": {"key": {"text": "a"}}}),
    ];
    let keys = ["timeout", "scope", "body_format", "client_auth", "client_assertion", "fields"];
    places.extend(
        keys.map(|key| serde_json::json!({"url": "https://a.example", key: CLIENT_SECRET})),
    );
    for place in places {
        match serde_json::from_value::<Config>(place) {
            Ok(config) => output.debug((&config, config.builder().build().is_ok())),
            Err(error) => output.error(&error),
        }
    }
}
