//! What went wrong is found in whatever the layers above, and the program, make of the error.

use std::{
    convert::Infallible,
    error::Error,
    io,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::{
    Service, ServiceBuilder, ServiceExt,
    retry::Policy,
    util::{BoxCloneSyncService, BoxService},
};
use tower_bearer::{
    AccessToken, BearerAuthLayer, BoxError, CacheError, TokenCache, TokenError, from_fn,
    oauth2::{EndpointError, TokenEndpoint},
};

const API: &str = "https://api.example.com/";

/// An endpoint that refuses.
fn endpoint() -> TokenEndpoint {
    let service = tower::service_fn(async |_: Request<Full<Bytes>>| {
        let refusal = Response::builder().status(401);
        refusal.body(r#"{"error":"invalid_client"}"#.to_owned())
    });
    let builder = TokenEndpoint::builder("https://auth.example.com/token").client_id("me");
    builder.client_secret("hush").transport(service).build().unwrap()
}

async fn refused() -> TokenError {
    TokenCache::new(endpoint()).get().await.unwrap_err()
}

async fn api(_: Request<String>) -> Result<Response<String>, Infallible> {
    Ok(Response::new(String::new()))
}

fn layer() -> BearerAuthLayer {
    BearerAuthLayer::new(endpoint()).origin(API).unwrap()
}

fn request() -> Request<String> {
    Request::get(API).body(String::new()).unwrap()
}

fn assert_found(error: &(dyn Error + 'static), path: &str) {
    let found = TokenError::find_in(error).unwrap_or_else(|| panic!("{path}: {error:?}"));
    assert!(!found.is_transient() && found.to_string().contains("invalid_client"), "{path}");
    let found = EndpointError::find_in(error).unwrap_or_else(|| panic!("{path}: {error:?}"));
    assert_eq!(found.error(), Some("invalid_client"), "{path}");
}

/// What a stack ends with.
async fn assert_found_above<S>(stack: S, path: &str)
where
    S: Service<Request<String>, Response = Response<String>>,
    S::Error: Into<BoxError>,
{
    let error: BoxError = stack.oneshot(request()).await.unwrap_err().into();
    assert_found(error.as_ref(), path);
}

#[derive(Clone)]
struct Twice(u8);

impl<Res, E> Policy<Request<String>, Res, E> for Twice {
    type Future = std::future::Ready<()>;

    fn retry(&mut self, _: &mut Request<String>, _: &mut Result<Res, E>) -> Option<Self::Future> {
        self.0 = self.0.checked_sub(1)?;
        Some(std::future::ready(()))
    }

    fn clone_request(&mut self, request: &Request<String>) -> Option<Request<String>> {
        Some(request.clone())
    }
}

#[tokio::test]
async fn an_error_is_found_above_the_layer_and_above_each_of_towers_boxes() {
    let bare = || ServiceBuilder::new().layer(layer()).service_fn(api);
    assert_found_above(bare(), "the layer").await;
    let builder = ServiceBuilder::new;
    assert_found_above(builder().buffer(4).service(bare()), "Buffer").await;
    assert_found_above(builder().timeout(Duration::from_secs(9)).service(bare()), "Timeout").await;
    assert_found_above(builder().retry(Twice(2)).service(bare()), "Retry").await;
    assert_found_above(builder().load_shed().service(bare()), "LoadShed").await;
    assert_found_above(builder().buffer(4).buffer(4).service(bare()), "two Buffers").await;
    assert_found_above(BoxService::new(bare()), "BoxService").await;
    assert_found_above(BoxCloneSyncService::new(bare()), "BoxCloneSyncService").await;
    let all = builder()
        .load_shed()
        .timeout(Duration::from_secs(9))
        .buffer(4)
        .retry(Twice(2))
        .layer(layer())
        .concurrency_limit(4)
        .timeout(Duration::from_secs(9))
        .service_fn(api);
    assert_found_above(all, "the guide's order of layers").await;
}

/// A service that needs a token to be ready: what its `poll_ready` fails with, tower's `Buffer`
/// wraps for each who waits.
#[derive(Clone)]
struct NeverReady(TokenError);

impl Service<Request<String>> for NeverReady {
    type Response = Response<String>;
    type Error = TokenError;
    type Future = std::future::Pending<Result<Response<String>, TokenError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TokenError>> {
        Poll::Ready(Err(self.0.clone()))
    }

    fn call(&mut self, _: Request<String>) -> Self::Future {
        panic!("called without being ready")
    }
}

#[tokio::test]
async fn an_error_is_found_in_the_one_that_a_buffer_shares_out() {
    let never = NeverReady(refused().await);
    let buffer = ServiceBuilder::new().buffer(4).service(never.clone());
    let error = buffer.oneshot(request()).await.unwrap_err();
    assert!(error.is::<tower::buffer::error::ServiceError>(), "{error:?}");
    let twice = ServiceBuilder::new().buffer(4).buffer(4).service(never);
    assert_found(error.as_ref(), "Buffer's `ServiceError`");
    assert_found_above(twice, "one in another").await;
}

#[derive(Debug, thiserror::Error)]
enum Program {
    #[error("no invoices")]
    Named(#[source] BoxError),
    #[error(transparent)]
    Transparent(#[from] TokenError),
    #[error(transparent)]
    Boxed(BoxError),
}

#[tokio::test]
async fn an_error_is_found_in_what_a_program_makes_of_it() {
    let error = refused().await;
    let boxed = || BoxError::from(error.clone());
    assert_found(&error, "itself");
    assert_found(&Box::new(error.clone()), "a box");
    assert_found(&Arc::new(error.clone()), "an `Arc`");
    assert_found(&io::Error::other(error.clone()), "an `io::Error`");
    assert_found(&Program::Named(boxed()), "an error with a source");
    assert_found(&Program::from(error.clone()), "a transparent error");
    assert_found(&Program::Boxed(boxed()), "a transparent error around a box");
    let twice = Program::Boxed(Program::from(error.clone()).into());
    assert_found(&twice, "a transparent error in another one");
    let cause = TokenError::permanent(Program::Named(boxed()));
    assert_eq!(TokenError::find_in(&cause).unwrap().to_string(), "no invoices");
    assert!(EndpointError::find_in(&cause).is_some(), "through the cause of another");
}

#[tokio::test]
async fn an_error_is_found_in_anyhows_however_it_came_there() {
    let error = refused().await;
    let from_itself = || anyhow::Error::new(error.clone());
    let from_box = || anyhow::anyhow!(BoxError::from(error.clone()));
    for (path, made) in [
        ("From", from_itself()),
        ("a box", from_box()),
        ("a context", from_itself().context("no invoices")),
        ("a box with two contexts", from_box().context("no invoices").context("no report")),
        ("a program's error", anyhow::Error::new(Program::from(error.clone()))),
    ] {
        assert_found(made.as_ref(), path);
        let boxed = BoxError::from(made);
        assert_found(boxed.as_ref(), &format!("{path}, boxed again"));
        let again = anyhow::anyhow!(boxed);
        assert_found(again.as_ref(), &format!("{path}, boxed again, in another"));
    }
}

#[tokio::test]
async fn what_was_found_can_be_kept_and_found_again() {
    let outer = Program::from(refused().await);
    let kept = TokenError::find_in(&outer).unwrap().clone();
    assert_found(&Program::from(kept), "what was found, in another error");
}

#[tokio::test]
async fn the_reason_of_a_cache_is_found_with_its_kind_and_no_endpoint_is_made_up() {
    let source = from_fn(|_| std::future::pending::<Result<AccessToken, TokenError>>());
    tokio::time::pause();
    let error: anyhow::Error = TokenCache::new(source).get().await.unwrap_err().into();
    let found = TokenError::find_in(error.as_ref()).unwrap();
    assert!(matches!(found.downcast_ref(), Some(CacheError::FetchTimeout(_))), "{found}");
    assert!(EndpointError::find_in(error.as_ref()).is_none());
    for other in [BoxError::from("another"), io::Error::other("another").into()] {
        assert!(TokenError::find_in(other.as_ref()).is_none());
        assert!(EndpointError::find_in(other.as_ref()).is_none());
    }
}

/// A report of the whole chain says each thing once.
#[tokio::test]
async fn the_chain_ends_and_shows_the_failure_once() {
    let cause = Program::Named("it is sealed".into());
    let error = anyhow::Error::new(TokenError::transient(cause)).context("no report");
    let shown = "no report: no invoices: an access token was needed: it is sealed";
    assert_eq!(format!("{error:#}"), shown);
}
