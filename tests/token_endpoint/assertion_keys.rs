//! Assertions that are signed here: the keys, in every form in which they come.

use std::time::Duration;

use aws_lc_rs::{
    hmac,
    signature::{
        self, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair, RsaKeyPair, UnparsedPublicKey, VerificationAlgorithm,
    },
};
use base64::{Engine, prelude::BASE64_STANDARD};
use tower_bearer::{
    Secret, TokenError, TokenSource,
    oauth2::{
        ClientAssertion, EndpointErrorKind as Kind, SigningAlgorithm as Algorithm,
        TokenEndpointBuilder,
    },
};

use super::{
    assertion_support::{ISSUER, JWT_BEARER, Jwt, key, key_file, key_text, nameless},
    support::{OK, Scripted, answer, fetch, kind, sent, shown},
};

const LONG: &str = "hush-hush-hush-hush-hush-hush-hush-hush-hush-hush-hush-hush-hush-hush";

fn with(assertion: ClientAssertion) -> TokenEndpointBuilder {
    nameless().client_assertion(assertion.issuer(ISSUER))
}

fn private_key(name: &str) -> ClientAssertion {
    ClientAssertion::private_key(key(name))
}

async fn made(assertion: ClientAssertion) -> Jwt {
    let seen = sent(with(assertion)).await;
    assert_eq!(seen.param("client_assertion_type"), JWT_BEARER);
    assert_eq!(seen.param("client_id"), "my-app");
    assert_eq!(seen.header("authorization"), "");
    seen.assertion()
}

/// The public key of one of the keys for tests, as the library wants it.
fn public(kind: &str) -> Vec<u8> {
    let pem = key_text(&format!("{kind}.pem"));
    let base64: String = pem.lines().filter(|line| !line.starts_with("--")).collect();
    let der = BASE64_STANDARD.decode(base64).unwrap();
    let ec = |curve| EcdsaKeyPair::from_pkcs8(curve, &der).unwrap().public_key().as_ref().to_vec();
    match kind {
        "rsa" => RsaKeyPair::from_pkcs8(&der).unwrap().public_key().as_ref().to_vec(),
        "p256" => ec(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
        "p384" => ec(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
        _ => Ed25519KeyPair::from_pkcs8(&der).unwrap().public_key().as_ref().to_vec(),
    }
}

fn verification(name: &str) -> &'static dyn VerificationAlgorithm {
    match name {
        "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
        "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
        "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
        "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
        "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
        "ES256" => &ECDSA_P256_SHA256_FIXED,
        "ES384" => &ECDSA_P384_SHA384_FIXED,
        "EdDSA" => &ED25519,
        other => panic!("{other}"),
    }
}

#[track_caller]
pub(crate) fn verify(jwt: &Jwt, kind: &str) {
    let key = UnparsedPublicKey::new(verification(jwt.header("alg")), public(kind));
    key.verify(jwt.message.as_bytes(), &jwt.signature).expect("signed by that key");
}

// ===== Keys =====

#[tokio::test]
async fn each_kind_of_key_signs_by_its_usual_algorithm_in_whatever_form_it_comes() {
    for (name, kind, algorithm) in [
        ("rsa.pem", "rsa", "RS256"),
        ("rsa.pkcs1.pem", "rsa", "RS256"),
        ("rsa.jwk.json", "rsa", "RS256"),
        ("p256.pem", "p256", "ES256"),
        ("p256.sec1.pem", "p256", "ES256"),
        ("p256.jwk.json", "p256", "ES256"),
        ("p384.pem", "p384", "ES384"),
        ("p384.sec1.pem", "p384", "ES384"),
        ("p384.jwk.json", "p384", "ES384"),
        ("ed25519.pem", "ed25519", "EdDSA"),
        ("ed25519.jwk.json", "ed25519", "EdDSA"),
    ] {
        let jwt = made(private_key(name)).await;
        assert_eq!(jwt.header("alg"), algorithm, "{name}");
        let of_jwk = format!("{kind}-1");
        assert_eq!(jwt.header("kid"), if name.contains("jwk") { &of_jwk } else { "" }, "{name}");
        verify(&jwt, kind);
        let jwt = made(private_key(name).key_id("mine")).await;
        assert_eq!(jwt.header("kid"), "mine", "{name}");
    }
}

#[tokio::test]
async fn an_rsa_key_signs_by_any_of_its_algorithms() {
    for algorithm in [
        Algorithm::Rs256,
        Algorithm::Rs384,
        Algorithm::Rs512,
        Algorithm::Ps256,
        Algorithm::Ps384,
        Algorithm::Ps512,
    ] {
        let jwt = made(private_key("rsa.pem").algorithm(algorithm)).await;
        assert_eq!(jwt.header("alg"), algorithm.as_str());
        verify(&jwt, "rsa");
    }
}

#[tokio::test]
async fn a_jwk_says_its_algorithm_itself() {
    let jwk = |alg: &str| {
        let jwk = key_text("rsa.jwk.json").replacen('{', &format!(r#"{{"alg":"{alg}","#), 1);
        ClientAssertion::private_key(Secret::from_fn(move || std::future::ready(Ok(jwk.clone()))))
    };
    let jwt = made(jwk("PS384")).await;
    assert_eq!(jwt.header("alg"), "PS384");
    verify(&jwt, "rsa");
    assert_eq!(made(jwk("PS384").algorithm(Algorithm::Rs512)).await.header("alg"), "RS512");
    for other in ["ES256", "RSA-OAEP"] {
        let error = unusable(jwk(other), false).await;
        assert!(error.contains("a kind that the algorithm does not accept"), "{error}");
    }
}

#[tokio::test]
async fn a_key_in_a_variable_may_have_spaces_for_line_ends_and_a_certificate_beside_it() {
    let both = format!("{}{}", key_text("p256.crt.pem"), key_text("p256.sec1.pem"));
    verify(&made(ClientAssertion::private_key(both.replace('\n', " "))).await, "p256");
}

// ===== Secrets =====

#[tokio::test]
async fn a_secret_signs_by_each_of_its_algorithms_and_is_not_sent() {
    for (algorithm, hash) in [
        (None, hmac::HMAC_SHA256),
        (Some(Algorithm::Hs256), hmac::HMAC_SHA256),
        (Some(Algorithm::Hs384), hmac::HMAC_SHA384),
        (Some(Algorithm::Hs512), hmac::HMAC_SHA512),
    ] {
        let assertion = ClientAssertion::client_secret(LONG);
        let assertion = match algorithm {
            Some(algorithm) => assertion.algorithm(algorithm),
            None => assertion,
        };
        let seen = sent(with(assertion)).await;
        assert!(!seen.body.contains("hush"), "{}", seen.body);
        let jwt = seen.assertion();
        assert_eq!(jwt.header("alg"), algorithm.unwrap_or(Algorithm::Hs256).as_str());
        let key = hmac::Key::new(hash, LONG.as_bytes());
        hmac::verify(&key, jwt.message.as_bytes(), &jwt.signature).unwrap();
    }
}

#[tokio::test]
async fn a_secret_has_to_be_as_long_as_the_hash() {
    for (algorithm, least) in
        [(Algorithm::Hs256, 32), (Algorithm::Hs384, 48), (Algorithm::Hs512, 64)]
    {
        let short = LONG[..least - 1].to_owned();
        let fixed = ClientAssertion::client_secret(short.clone()).algorithm(algorithm);
        let error = refusal(with(fixed));
        assert!(error.contains("shorter than the hash"), "{error}");
        let read = Secret::from_fn(move || std::future::ready(Ok(short.clone())));
        let error =
            unusable(ClientAssertion::client_secret(read).algorithm(algorithm), false).await;
        assert!(error.contains("shorter than the hash"), "{error}");
        made(ClientAssertion::client_secret(&LONG[..least]).algorithm(algorithm)).await;
    }
}

// ===== Certificates =====

#[tokio::test]
async fn a_certificate_is_named_by_its_hash_and_sent_with_its_issuers() {
    let jwt = made(private_key("p256.pem").certificate(key("p256.crt.pem"))).await;
    // As `openssl x509 -outform der | sha256sum` has it.
    assert_eq!(jwt.header("x5t#S256"), "ECgEtWW9yb9O9GXBgU7SDonvSrlZRuIox4yspcUnV60");
    let bare = |name: &str| {
        let pem = key_text(name);
        pem.lines().filter(|line| !line.starts_with("--")).collect::<String>()
    };
    assert_eq!(jwt.header["x5c"], serde_json::json!([bare("p256.crt.pem")]));
    verify(&jwt, "p256");

    let chain = format!("{}{}", key_text("rsa.crt.pem"), key_text("p256.crt.pem"));
    let jwt = made(private_key("rsa.pkcs1.pem").certificate(chain)).await;
    assert_eq!(jwt.header("x5t#S256"), "VgFr7t_cA_BySnMHGOOgQ7_CBOH_q1qsWK1gRo1zFoA");
    assert_eq!(jwt.header["x5c"], serde_json::json!([bare("rsa.crt.pem"), bare("p256.crt.pem")]));
    made(private_key("ed25519.pem").certificate(key("ed25519.crt.pem"))).await;
}

#[tokio::test]
async fn a_certificate_that_is_not_the_keys_or_no_longer_good_is_named() {
    for (certificate, problem, passes) in [
        // One of the two files may be about to be replaced as well.
        ("rsa.crt.pem", "does not match the key", true),
        ("expired.crt.pem", "has expired", false),
        ("p256.pem", "no PEM certificate", false),
    ] {
        let assertion = private_key("p256.pem").certificate(key(certificate));
        let error = unusable(assertion, passes).await;
        assert!(error.contains(certificate) && error.contains(problem), "{error}");
    }
    let broken = key_text("p256.crt.pem").replacen("MII", "AII", 1);
    let error = unusable(private_key("p256.pem").certificate(broken), false).await;
    assert!(error.contains("a certificate that is damaged"), "{error}");
}

// ===== What is no key =====

fn refusal(builder: TokenEndpointBuilder) -> String {
    let error = builder.transport(Scripted::default()).build().unwrap_err().to_string();
    assert!(error.contains("`client_assertion` ") && !error.contains("hush"), "{error}");
    error
}

/// What is said of an assertion that cannot be made.
async fn unusable(assertion: ClientAssertion, passes: bool) -> String {
    let service = Scripted::default();
    let endpoint = with(assertion).transport(service.clone()).build().unwrap();
    let error: TokenError = fetch(&endpoint).await.unwrap_err();
    assert!(service.seen().is_empty());
    assert_eq!((kind(&error), error.is_transient()), (&Kind::Credential, passes), "{error}");
    let shown = shown(&error);
    assert!(shown.contains("`client_assertion`: ") && !shown.contains("hush"), "{shown}");
    error.to_string()
}

#[tokio::test]
async fn what_is_no_key_is_named_with_what_to_mend_and_shows_nothing_of_it() {
    let p256 = key_text("p256.pem");
    let jwk = key_text("p256.jwk.json");
    let without = |name: &str| {
        let mut jwk: serde_json::Value = serde_json::from_str(&key_text("rsa.jwk.json")).unwrap();
        jwk.as_object_mut().unwrap().remove(name);
        jwk.to_string()
    };
    for (text, problem) in [
        ("hush".to_owned(), "holds no private key: neither"),
        (key_text("encrypted.pem"), "is encrypted: decrypt it"),
        (key_text("encrypted.pkcs1.pem"), "is encrypted: decrypt it"),
        (key_text("openssh.pem"), "OpenSSH's own format"),
        (key_text("p256.public.pem"), "only public data"),
        (key_text("p256.crt.pem"), "only public data"),
        (key_text("p521.pem"), "another kind than RSA, P-256"),
        (key_text("p521.sec1.pem"), "another kind than RSA, P-256"),
        (key_text("short.pem"), "fewer than 2048 bits"),
        (p256.replacen("MIG", "AIG", 1), "is damaged"),
        (p256.replace("MIG", "*"), "is damaged"),
        (p256.replace('\n', "\\n"), "PEM needs real line ends"),
        (without("d"), "only public data"),
        (without("qi"), "without `p`, `q`"),
        (without("n"), "is damaged"),
        (without("kty"), "neither PEM nor a JWK"),
        (jwk.replace("\"y\":\"", "\"y\":\"AA"), "is damaged"),
        (jwk.replace("P-256", "P-521"), "another kind than RSA"),
        (jwk.replace("sig", "enc"), "whose `use` is not signing"),
        (format!(r#"{{"keys":[{jwk}]}}"#), "a set of JWKs"),
        (r#"{"kty":"oct","k":"hush"}"#.to_owned(), "`ClientAssertion::client_secret(..)`"),
        (r#"{"kty":7}"#.to_owned(), "is damaged"),
    ] {
        // As soon as it is built, if it is known by then.
        let error = refusal(with(ClientAssertion::private_key(text.clone())));
        assert!(error.contains(problem), "{problem}: {error}");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &text).unwrap();
        let error = unusable(ClientAssertion::private_key(Secret::file(file.path())), false).await;
        let path = file.path().to_string_lossy();
        assert!(error.contains(problem) && error.contains(&*path), "{problem}: {error}");
        let piece = text.get(60..76).unwrap_or(&text).trim();
        assert!(!error.contains(piece), "{error}");
    }
}

#[tokio::test]
async fn a_half_written_key_may_be_whole_at_the_next_try() {
    for (name, kept) in [("p256.pem", 100), ("p256.pem", 20), ("p256.jwk.json", 100)] {
        let half = key_text(name)[..kept].to_owned();
        let half = Secret::from_fn(move || std::future::ready(Ok(half.clone())));
        let error = unusable(ClientAssertion::private_key(half), true).await;
        assert!(error.contains("half-written"), "{error}");
    }
}

#[test]
fn an_algorithm_has_to_fit_the_key() {
    let key = || ClientAssertion::private_key(key_text("p256.pem"));
    for (assertion, problem) in [
        (key().algorithm(Algorithm::Rs256), "a kind that the algorithm does not accept"),
        (key().algorithm(Algorithm::Es384), "a kind that the algorithm does not accept"),
        (key().algorithm(Algorithm::EdDsa), "a kind that the algorithm does not accept"),
        (key().algorithm(Algorithm::Hs256), "only for `client_secret`"),
        (
            ClientAssertion::client_secret(LONG).algorithm(Algorithm::Es256),
            "only for `private_key`",
        ),
        (ClientAssertion::client_secret(LONG).certificate("hush"), "has a `certificate`"),
    ] {
        let error = refusal(with(assertion));
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn neither_a_key_nor_a_secret_is_shown_by_debug() {
    let key = key_text("p256.sec1.pem");
    let shown = format!(
        "{:?} {:?} {:?}",
        with(ClientAssertion::private_key(key.as_str()).key_id("2026-05")),
        ClientAssertion::client_secret(LONG).certificate("hush"),
        private_key("rsa.pem"),
    );
    assert!(!shown.contains("hush") && !shown.contains(&key[40..60]), "{shown}");
    assert!(shown.contains("2026-05") && shown.contains("rsa.pem"), "{shown}");
}

// ===== Keys that change =====

#[tokio::test]
async fn a_key_that_was_replaced_is_used_at_the_next_fetch() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    let service = Scripted::new([answer(200, OK), answer(200, OK)]);
    let endpoint = with(ClientAssertion::private_key(Secret::file(&file)));
    let endpoint = endpoint.transport(service.clone()).build().unwrap();
    for name in ["p256.pem", "ed25519.pem"] {
        std::fs::copy(key_file(name), &file).unwrap();
        fetch(&endpoint).await.unwrap();
    }
    let [old, new] = [0, 1].map(|at| service.seen()[at].assertion());
    verify(&old, "p256");
    verify(&new, "ed25519");
}

#[tokio::test]
async fn a_key_that_was_just_replaced_is_tried_at_once_and_an_unchanged_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    std::fs::copy(key_file("p256.pem"), &file).unwrap();
    let invalid = || answer(401, r#"{"error":"invalid_client"}"#);
    let service = Scripted::new([invalid(), invalid(), answer(200, OK)]);
    let replace = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (is_time, path) = (replace.clone(), file.clone());
    let transport = tower::ServiceBuilder::new()
        .map_request(move |request| {
            // Between the reading and the refusal.
            if is_time.swap(false, std::sync::atomic::Ordering::Relaxed) {
                std::fs::copy(key_file("p384.pem"), &path).unwrap();
            }
            request
        })
        .service(service.clone());
    let endpoint = with(ClientAssertion::private_key(Secret::file(&file)));
    let endpoint = endpoint.transport(transport).build().unwrap();
    // Each assertion differs from the one before, which is no change.
    fetch(&endpoint).await.unwrap_err();
    assert_eq!(service.seen().len(), 1);
    assert!(!endpoint.recovered().await);
    replace.store(true, std::sync::atomic::Ordering::Relaxed);
    fetch(&endpoint).await.unwrap();
    let seen = service.seen();
    verify(&seen[1].assertion(), "p256");
    verify(&seen[2].assertion(), "p384");
}

#[tokio::test]
async fn a_damaged_key_that_was_repaired_is_noticed_before_the_cooldown_ends() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    std::fs::write(&file, "no key").unwrap();
    let service = Scripted::new([answer(200, OK)]);
    let endpoint = with(ClientAssertion::private_key(Secret::file(&file)));
    let endpoint = endpoint.transport(service).build().unwrap();
    fetch(&endpoint).await.unwrap_err();
    assert!(!endpoint.recovered().await);
    std::fs::copy(key_file("rsa.pem"), &file).unwrap();
    assert!(endpoint.recovered().await);
    fetch(&endpoint).await.unwrap();
}

#[tokio::test]
async fn a_life_of_another_length_is_kept_to() {
    let jwt = made(private_key("p256.pem").lifetime(Duration::from_secs(1))).await;
    assert_eq!(jwt.seconds("exp") - jwt.seconds("iat"), 1);
}
