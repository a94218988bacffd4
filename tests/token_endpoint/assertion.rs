//! Client authentication by assertions that are given, or signed by a signer.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use futures_util::StreamExt;
use tower_bearer::{
    BoxError, RefreshPolicy, Secret, TokenCache, TokenError,
    oauth2::{
        AssertionType, Audience, BodyFormat, ClientAssertion, ClientAuth,
        EndpointErrorKind as Kind, Signer, SigningAlgorithm, TokenEndpoint, TokenEndpointBuilder,
    },
};

use super::{
    assertion_support::{ISSUER, JWT_BEARER, Jwt, nameless},
    support::{
        OK, Scripted, URL, answer, answer_with, cause, cut, fetch, fetch_with, kind, sent, shown,
    },
};

const INVALID_CLIENT: &str = r#"{"error":"invalid_client"}"#;

fn refusal(builder: TokenEndpointBuilder) -> String {
    let error = builder.transport(Scripted::default()).build().unwrap_err().to_string();
    assert!(error.contains("`client_") && !error.contains("hush"), "{error}");
    error
}

async fn unsent(builder: TokenEndpointBuilder) -> TokenError {
    let service = Scripted::default();
    let endpoint = builder.transport(service.clone()).build().unwrap();
    let error = fetch(&endpoint).await.unwrap_err();
    assert!(service.seen().is_empty());
    assert_eq!(*kind(&error), Kind::Credential);
    assert!(shown(&error).contains("`client_assertion`: "), "{error}");
    assert!(!shown(&error).contains("hush"), "{error}");
    error
}

// ===== Given =====

#[tokio::test]
async fn a_projected_token_is_read_from_its_file_for_each_fetch_and_sent_with_the_id() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let service = Scripted::new([answer(200, OK), answer(200, OK)]);
    let builder = nameless().client_assertion(ClientAssertion::token(Secret::file(file.path())));
    let endpoint = builder.transport(service.clone()).build().unwrap();
    for token in ["eyJhbGciOiJSUzI1NiJ9.e30.b25l\n", "eyJhbGciOiJSUzI1NiJ9.e30.dHdv\n"] {
        std::fs::write(file.path(), token).unwrap();
        fetch(&endpoint).await.unwrap();
    }
    let sent = |token| {
        format!(
            "grant_type=client_credentials&client_id=my-app&client_assertion_type=urn%3Aietf\
             %3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion={token}"
        )
    };
    let tokens = ["eyJhbGciOiJSUzI1NiJ9.e30.b25l", "eyJhbGciOiJSUzI1NiJ9.e30.dHdv"];
    assert_eq!(service.bodies(), tokens.map(sent));
    assert_eq!(service.seen()[0].header("authorization"), "");
}

#[tokio::test]
async fn a_jwt_svid_is_sent_as_what_it_is_and_without_an_id_if_there_is_none() {
    let svid = ClientAssertion::token("eyJ0.e30.c2ln").assertion_type(AssertionType::JwtSpiffe);
    let builder = TokenEndpoint::builder(URL);
    let seen = sent(builder.client_assertion(svid)).await;
    let spiffe = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe";
    assert_eq!(seen.param("client_assertion_type"), spiffe);
    assert_eq!(seen.param("client_assertion"), "eyJ0.e30.c2ln");
    assert!(!seen.body.contains("client_id"), "{}", seen.body);
}

#[tokio::test]
async fn in_a_json_body_an_assertion_is_a_member() {
    let builder = nameless().client_assertion(ClientAssertion::token("eyJ0.e30.c2ln"));
    let seen = sent(builder.body_format(BodyFormat::Json)).await;
    let expected = format!(
        r#"{{"client_assertion":"eyJ0.e30.c2ln","client_assertion_type":"{JWT_BEARER}","client_id":"my-app","grant_type":"client_credentials"}}"#
    );
    assert_eq!(seen.body, expected);
}

#[tokio::test]
async fn a_token_that_cannot_be_one_is_named_and_only_a_half_written_one_may_pass() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    let of_file = || nameless().client_assertion(ClientAssertion::token(Secret::file(&file)));
    for (content, problem, passes) in [
        ("", "is empty", false),
        ("hush", "holds no JWT", false),
        ("<html>hush.hush.hush", "holds no JWT", false),
        ("eyJhbGciOiJSUzI1NiJ9.eyJodXNoIjo", "half-written", true),
        ("eyJhbGciOiJSUzI1NiJ9.e30.", "half-written", true),
    ] {
        std::fs::write(&file, content).unwrap();
        let service = Scripted::default();
        let endpoint = of_file().transport(service.clone()).build().unwrap();
        let error = fetch(&endpoint).await.unwrap_err();
        assert_eq!((kind(&error), error.is_transient()), (&Kind::Credential, passes), "{content}");
        let text = shown(&error);
        assert!(
            text.contains(problem) && text.contains("token") && !text.contains("hush"),
            "{text}"
        );
        assert!(service.seen().is_empty());
    }
    std::fs::remove_file(&file).unwrap();
    assert!(
        fetch_with(of_file(), answer(200, OK)).await.unwrap_err().to_string().contains("exist")
    );
    std::fs::create_dir(&file).unwrap();
    let error = fetch_with(of_file(), answer(200, OK)).await.unwrap_err();
    assert!(error.to_string().contains("is not a regular file"), "{error}");
}

/// Promise 33.
#[tokio::test(start_paused = true)]
async fn while_a_token_is_half_written_the_last_access_token_stays_in_use() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "eyJ0.e30.c2ln").unwrap();
    let service = Scripted::new([answer(200, OK)]);
    let builder = nameless().client_assertion(ClientAssertion::token(Secret::file(file.path())));
    let endpoint = builder.transport(service.clone()).build().unwrap();
    let policy = RefreshPolicy::builder().due_share(0.5).due_jitter(0.0).build().unwrap();
    let cache = TokenCache::with_policy(endpoint, policy);
    cache.get().await.unwrap();
    std::fs::write(file.path(), "eyJ0").unwrap();
    // Due, and not expired.
    tokio::time::sleep(Duration::from_secs(2000)).await;
    assert_eq!(cache.get().await.unwrap().secret(), "at-1");
    let mut changes = cache.subscribe();
    while changes.next().await.unwrap().last_error().is_none() {}
    assert_eq!(cache.get().await.unwrap().secret(), "at-1");
    assert_eq!(service.seen().len(), 1);
}

// ===== In place of secrets =====

#[test]
fn what_an_assertion_is_sent_as_is_no_parameter() {
    for name in ["client_assertion", "client_assertion_type"] {
        let error = nameless().client_auth(ClientAuth::None).param(name, "hush");
        let error = error.transport(Scripted::default()).build().unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("`.client_assertion(..)`"), "{error}");
    }
}

#[tokio::test]
async fn an_assertion_stands_in_place_of_secrets_and_of_basic() {
    let with = || nameless().client_assertion(ClientAssertion::token("eyJ0.e30.c2ln"));
    assert!(refusal(with().client_secret("hush")).contains("`client_secret` would be sent"));
    for basic in [ClientAuth::Basic, ClientAuth::BasicRaw] {
        assert!(refusal(with().client_auth(basic)).contains("`client_auth` is Basic"));
    }
    for in_body in [ClientAuth::Body, ClientAuth::None] {
        let seen = sent(with().client_auth(in_body)).await;
        assert_eq!(
            (seen.param("client_id").as_str(), seen.header("authorization")),
            ("my-app", "")
        );
    }
}

#[test]
fn a_token_has_no_settings_of_what_is_made_here() {
    type Set = fn(ClientAssertion) -> ClientAssertion;
    let settings: [Set; 6] = [
        |it| it.key_id("a"),
        |it| it.issuer(ISSUER),
        |it| it.audience(Audience::TokenEndpoint),
        |it| it.algorithm(SigningAlgorithm::Es256),
        |it| it.header_type("JWT"),
        |it| it.lifetime(Duration::from_secs(1)),
    ];
    for set in settings {
        let builder = nameless().client_assertion(set(ClientAssertion::token("hush.hush.hush")));
        assert!(
            refusal(builder)
                .contains("`client_assertion` has a setting that does not apply to a `token`")
        );
    }
}

// ===== Signed by a signer =====

/// Signs with whatever the test says.
struct Kms {
    algorithm: SigningAlgorithm,
    signature: Result<Vec<u8>, &'static str>,
    asked: Arc<AtomicUsize>,
}

impl Kms {
    fn new(signature: Result<Vec<u8>, &'static str>) -> Self {
        Self { algorithm: SigningAlgorithm::Es256, signature, asked: Arc::default() }
    }
}

impl Signer for Kms {
    fn algorithm(&self) -> SigningAlgorithm {
        self.algorithm
    }

    fn key_id(&self) -> Option<String> {
        Some("version-7".to_owned())
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, BoxError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        assert_eq!(message.split(|byte| *byte == b'.').count(), 2);
        Ok(self.signature.clone()?)
    }
}

fn signed_by(kms: Kms) -> TokenEndpointBuilder {
    nameless().client_assertion(ClientAssertion::signer(kms).issuer(ISSUER))
}

#[tokio::test]
async fn an_assertion_says_what_it_has_to_and_nothing_else() {
    let assertion = sent(signed_by(Kms::new(Ok(vec![7; 64])))).await.assertion();
    assert_eq!(
        assertion.header,
        serde_json::json!({
            "alg": "ES256", "typ": "client-authentication+jwt", "kid": "version-7",
        })
    );
    assert_eq!(assertion.signature, [7; 64]);
    let Jwt { claims, .. } = &assertion;
    let mut names: Vec<_> = claims.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["aud", "exp", "iat", "iss", "jti", "sub"]);
    let said = ["iss", "sub", "aud"].map(|name| assertion.claim(name));
    assert_eq!(said, ["my-app", "my-app", ISSUER]);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert!(now - assertion.seconds("iat") <= 5);
    assert_eq!(assertion.seconds("exp") - assertion.seconds("iat"), 60);
    assert_eq!(assertion.claim("jti").len(), 22, "128 bits in base64url");
}

#[tokio::test]
async fn the_settings_of_an_assertion_replace_what_it_says_by_default() {
    let with = |set: fn(ClientAssertion) -> ClientAssertion| async move {
        let assertion = set(ClientAssertion::signer(Kms::new(Ok(vec![7; 64]))));
        sent(nameless().client_assertion(assertion)).await.assertion()
    };
    let aud = with(|it| it.audience(Audience::TokenEndpoint)).await;
    assert_eq!(aud.claim("aud"), URL);
    let aud = with(|it| it.audience(Audience::Exactly("urn:my:server".to_owned()))).await;
    assert_eq!(aud.claim("aud"), "urn:my:server");
    let other = with(|it| {
        it.issuer(ISSUER).key_id("mine").header_type("JWT").lifetime(Duration::from_secs(300))
    });
    let other = other.await;
    assert_eq!((other.header("kid"), other.header("typ")), ("mine", "JWT"));
    assert_eq!(other.seconds("exp") - other.seconds("iat"), 300);
}

/// Promise 32.
#[tokio::test]
async fn each_exchange_has_an_assertion_of_its_own_a_repeated_one_too() {
    let service = Scripted::new([answer(200, OK), cut(), answer(200, OK)]);
    let kms = Kms::new(Ok(vec![7; 64]));
    let asked = Arc::clone(&kms.asked);
    let builder = signed_by(kms).refresh_token("rt-0");
    let endpoint = builder.transport(service.clone()).build().unwrap();
    fetch(&endpoint).await.unwrap();
    fetch(&endpoint).await.unwrap();
    let ids = service.seen().into_iter().map(|seen| seen.assertion().claim("jti").to_owned());
    let ids: std::collections::HashSet<_> = ids.collect();
    assert_eq!((ids.len(), asked.load(Ordering::Relaxed)), (3, 3));
}

#[tokio::test]
async fn a_signature_in_der_is_sent_as_two_numbers() {
    let number = |last: u8| [vec![0x02, 33, 0], vec![0xff; 31], vec![last]].concat();
    let der = [vec![0x30, 70], number(1), number(2)].concat();
    let assertion = sent(signed_by(Kms::new(Ok(der)))).await.assertion();
    let fixed = [vec![0xff; 31], vec![1], vec![0xff; 31], vec![2]].concat();
    assert_eq!(assertion.signature, fixed);
}

#[tokio::test]
async fn a_signer_that_fails_is_transient_and_one_with_another_signature_is_permanent() {
    let error = unsent(signed_by(Kms::new(Err("the vault is sealed")))).await;
    assert!(error.is_transient() && error.to_string().contains("the vault is sealed"), "{error}");
    let error = unsent(signed_by(Kms::new(Ok(b"hush".to_vec())))).await;
    assert!(
        !error.is_transient() && error.to_string().contains("does not fit the algorithm"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_signer_that_hangs_is_given_up_in_time() {
    struct Hangs;

    impl Signer for Hangs {
        fn algorithm(&self) -> SigningAlgorithm {
            SigningAlgorithm::EdDsa
        }

        async fn sign(&self, _: &[u8]) -> Result<Vec<u8>, BoxError> {
            pending().await
        }
    }

    let assertion = ClientAssertion::signer(Hangs).issuer(ISSUER);
    let builder = nameless().client_assertion(assertion).timeout(Duration::from_secs(3));
    let began = tokio::time::Instant::now();
    let error = unsent(builder).await;
    assert_eq!(began.elapsed().as_secs(), 3);
    assert!(error.is_transient() && error.to_string().contains("not signed in time"), "{error}");
}

#[test]
fn what_no_assertion_can_be_made_of_is_refused_when_built() {
    let kms = || ClientAssertion::signer(Kms::new(Ok(vec![7; 64])));
    let hour = Duration::from_secs(3600);
    for (assertion, problem) in [
        (kms(), "`.issuer(\"https://…\")`"),
        (kms().issuer("auth.example.com"), "not an absolute URL"),
        (kms().issuer("https://login.example.com/{tenant}/v2.0"), "placeholder"),
        (kms().audience(Audience::Exactly(String::new())), "empty audience"),
        (kms().issuer(ISSUER).header_type(""), "empty audience or header type"),
        (kms().issuer(ISSUER).key_id(""), "empty `key_id`"),
        (kms().issuer(ISSUER).lifetime(Duration::ZERO), "`lifetime`"),
        (kms().issuer(ISSUER).lifetime(Duration::from_millis(1500)), "`lifetime`"),
        (kms().issuer(ISSUER).lifetime(hour + Duration::from_secs(1)), "`lifetime`"),
        (kms().issuer(ISSUER).algorithm(SigningAlgorithm::Es256), "`algorithm`"),
        (kms().issuer(ISSUER).assertion_type(AssertionType::JwtBearer), "`assertion_type`"),
    ] {
        let error = refusal(nameless().client_assertion(assertion));
        assert!(error.contains("`client_assertion`") && error.contains(problem), "{error}");
    }
    let builder = TokenEndpoint::builder(URL);
    let error = refusal(builder.client_assertion(kms().issuer(ISSUER)));
    assert!(error.contains("needs a `client_id`"), "{error}");
}

// ===== Refused =====

async fn refused_at(date: SystemTime, status: u16, body: &'static str) -> String {
    let date = httpdate::fmt_http_date(date);
    let answer = answer_with(status, &[("date", &date)], body);
    let error = fetch_with(signed_by(Kms::new(Ok(vec![7; 64]))), answer).await.unwrap_err();
    assert!(!error.is_transient());
    error.to_string()
}

#[tokio::test]
async fn the_refusal_of_a_client_whose_clock_is_off_says_so() {
    let (now, off) = (SystemTime::now(), Duration::from_secs(300));
    let behind = refused_at(now + off, 401, INVALID_CLIENT).await;
    assert!(
        behind
            .contains("invalid_client: the clock of this machine, which dates the assertion, is "),
        "{behind}"
    );
    assert!(behind.contains(" s behind the service's"), "{behind}");
    let ahead = refused_at(now - off, 400, INVALID_CLIENT).await;
    assert!(ahead.contains(" s ahead of the service's"), "{ahead}");
    for (date, status, body) in [
        (now + Duration::from_secs(30), 401, INVALID_CLIENT),
        (now + off, 400, r#"{"error":"invalid_scope"}"#),
    ] {
        let text = refused_at(date, status, body).await;
        assert!(!text.contains("clock"), "{text}");
    }
}

#[tokio::test]
async fn for_an_assertion_that_was_given_the_error_says_nothing_of_the_clock() {
    let date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH);
    let builder = nameless().client_assertion(ClientAssertion::token("eyJ0.e30.c2ln"));
    let answer = answer_with(401, &[("date", &date)], INVALID_CLIENT);
    let error = fetch_with(builder, answer).await.unwrap_err();
    assert!(!error.to_string().contains("clock"), "{error}");
}

#[tokio::test]
async fn an_assertion_is_never_shown_and_neither_is_its_signature_alone() {
    let echo = |token: &str| {
        let signature = token.rsplit('.').next().unwrap();
        let said = format!("{token} {signature}");
        answer(400, format!(r#"{{"error":"invalid_client","error_description":"{said}"}}"#))
    };
    let token = "eyJhbGciOiJSUzI1NiJ9.eyJodXNoIjoxfQ.aHVzaC1odXNo";
    let builder = nameless().client_assertion(ClientAssertion::token(token));
    assert!(!format!("{builder:?}").contains("aHVz"));
    let error = fetch_with(builder, echo(token)).await.unwrap_err();
    assert_eq!(cause(&error).error_description(), Some("*** ***"));

    let signature = base64::Engine::encode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, [7; 64]);
    let builder = signed_by(Kms::new(Ok(vec![7; 64])));
    let error = fetch_with(builder, echo(&signature)).await.unwrap_err();
    assert_eq!(cause(&error).error_description(), Some("*** ***"));
}
