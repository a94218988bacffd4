//! The errors of the crate are found in what outer layers make of them.

#[path = "common/scripted.rs"]
mod scripted;

use std::{
    error::Error,
    future::{Ready, pending},
    io,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_bearer::{
    AccessToken, BearerAuthLayer, BoxError, CacheError, Refused, TokenError, from_fn,
    oauth2::{EndpointError, EndpointErrorKind, TokenEndpoint},
};

use self::scripted::{Scripted, Step};

const API: &str = "https://api.example.com";
const OTHER: &str = "https://other.example.com";

/// The layer over a token service that refuses.
fn refusing() -> BearerAuthLayer {
    let service = Scripted::refusing(401, "invalid_client");
    let endpoint = TokenEndpoint::builder("https://auth.example.com/token");
    let endpoint = endpoint.client_id("orders").client_secret("s3cr3t").transport(service);
    BearerAuthLayer::new(endpoint.build().unwrap()).origin(API).unwrap()
}

fn request(uri: &str) -> Request<String> {
    Request::get(uri).body(String::new()).unwrap()
}

async fn api(_: Request<String>) -> Result<Response<()>, BoxError> {
    Ok(Response::new(()))
}

/// What the layer fails with by itself.
async fn failure(uri: &str) -> BoxError {
    let stack = ServiceBuilder::new().layer(refusing()).service_fn(api);
    stack.oneshot(request(uri)).await.unwrap_err()
}

/// Whatever is found in the failures that `wrap` was given.
async fn assert_found<E: AsRef<dyn Error + 'static>>(wrap: impl Fn(BoxError) -> E) {
    let error = wrap(failure(API).await);
    assert!(!TokenError::find_in(error.as_ref()).expect("a TokenError").is_transient());
    let endpoint_error = EndpointError::find_in(error.as_ref()).expect("an EndpointError");
    assert_eq!(endpoint_error.kind(), &EndpointErrorKind::Refused);
    assert_eq!(endpoint_error.error(), Some("invalid_client"));
    assert!(Refused::find_in(error.as_ref()).is_none());

    let error = wrap(failure(OTHER).await);
    assert!(matches!(Refused::find_in(error.as_ref()), Some(Refused::NotNamed(_))));
    assert!(TokenError::find_in(error.as_ref()).is_none());
    assert!(EndpointError::find_in(error.as_ref()).is_none());
}

/// An error of somebody's, around another.
#[derive(Debug, thiserror::Error)]
#[error("the report was not stored")]
struct NotStored(#[source] BoxError);

#[tokio::test]
async fn errors_are_found_in_what_the_layer_returns() {
    assert_found::<Box<dyn Error>>(|error| error).await;
}

#[tokio::test]
async fn errors_are_found_under_towers_own_layers() {
    let stack = ServiceBuilder::new()
        .boxed_clone()
        .load_shed()
        .buffer(4)
        .timeout(Duration::from_secs(30))
        .buffer(4)
        .map_err(|error: BoxError| error)
        .layer(refusing())
        .service_fn(api);
    let error = stack.clone().oneshot(request(API)).await.unwrap_err();
    assert!(TokenError::find_in(&*error).is_some(), "{error:?}");
    assert!(EndpointError::find_in(&*error).is_some(), "{error:?}");
    let error = stack.oneshot(request(OTHER)).await.unwrap_err();
    assert!(Refused::find_in(&*error).is_some(), "{error:?}");
}

#[tokio::test]
async fn errors_are_found_when_a_buffer_has_failed_for_all_callers() {
    let error = ServiceBuilder::new().buffer(1).service(NeverReady).oneshot(()).await.unwrap_err();
    assert!(error.is::<tower::buffer::error::ServiceError>(), "{error:?}");
    assert_eq!(TokenError::find_in(&*error).unwrap().to_string(), "no such role");
}

/// A service that fails before it is ready.
struct NeverReady;

impl Service<()> for NeverReady {
    type Response = ();
    type Error = TokenError;
    type Future = Ready<Result<(), TokenError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TokenError>> {
        Poll::Ready(Err(TokenError::permanent("no such role")))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        unreachable!("it is never ready")
    }
}

#[tokio::test]
async fn errors_are_found_in_boxes_of_boxes() {
    assert_found::<Box<dyn Error>>(|error| NotStored(NotStored(error).into()).into()).await;
}

#[tokio::test]
async fn errors_are_found_in_an_io_error() {
    assert_found::<Box<dyn Error>>(|error| NotStored(io::Error::other(error).into()).into()).await;
}

#[tokio::test]
async fn errors_are_found_under_the_context_that_anyhow_adds() {
    assert_found(|error| {
        anyhow::Error::from(NotStored(error)).context("the job failed").context("at night")
    })
    .await;
    let error = anyhow::Error::from(TokenError::permanent("no such role")).context("the job");
    assert!(TokenError::find_in(error.as_ref()).is_some());
}

#[tokio::test]
async fn errors_are_found_under_anyhows_context_if_the_stacks_error_is_wrapped_first() {
    use anyhow::Context as _;

    assert_found(|error| {
        let failed = Err::<(), _>(error);
        failed.map_err(io::Error::other).context("calling the API").unwrap_err()
    })
    .await;
}

#[tokio::test]
async fn errors_are_not_found_in_the_box_that_anyhow_was_given_until_it_is_downcast() {
    let error = anyhow::anyhow!(failure(API).await);
    assert!(TokenError::find_in(error.as_ref()).is_none());
    let error = anyhow::Error::from_boxed(failure(API).await);
    assert!(TokenError::find_in(error.as_ref()).is_none());
    let boxed: &BoxError = error.downcast_ref().unwrap();
    assert!(TokenError::find_in(&**boxed).is_some());
}

#[tokio::test]
async fn errors_are_found_in_a_grpc_status() {
    assert_found::<Box<dyn Error>>(|error| tonic::Status::from_error(error).into()).await;
}

#[tokio::test]
async fn errors_are_found_in_the_error_of_a_source_that_wraps_another() {
    let inner = TokenEndpoint::builder("https://auth.example.com/token")
        .client_id("orders")
        .client_secret("s3cr3t")
        .transport(Scripted::new([Step::Fail(io::Error::from(io::ErrorKind::BrokenPipe).into())]))
        .build()
        .unwrap();
    let source = from_fn(move |request| {
        let token = inner.fetch(request);
        async move { token.await.map_err(|error| TokenError::permanent(NotStored(error.into()))) }
    });
    let layer = BearerAuthLayer::new(source).origin(API).unwrap();
    let stack = ServiceBuilder::new().layer(layer).service_fn(api);
    let error = stack.oneshot(request(API)).await.unwrap_err();
    let outer = TokenError::find_in(&*error).unwrap();
    assert_eq!(outer.to_string(), "the report was not stored", "the outermost is found first");
    let endpoint_error = EndpointError::find_in(&*error).unwrap();
    assert_eq!(endpoint_error.kind(), &EndpointErrorKind::Interrupted);
}

#[tokio::test(start_paused = true)]
async fn errors_are_not_found_in_others() {
    let source = from_fn(|_| pending::<Result<AccessToken, TokenError>>());
    let layer = BearerAuthLayer::new(source).origin(API).unwrap();
    let stack = ServiceBuilder::new().timeout(Duration::from_secs(1)).layer(layer).service_fn(api);
    let late = stack.oneshot(request(API)).await.unwrap_err();
    let cut: BoxError = io::Error::from(io::ErrorKind::BrokenPipe).into();
    let of_cache: BoxError = TokenError::from(CacheError::SameToken).into();
    for error in [&late, &cut] {
        assert!(TokenError::find_in(&**error).is_none(), "{error:?}");
    }
    for error in [&late, &cut, &of_cache] {
        assert!(EndpointError::find_in(&**error).is_none(), "{error:?}");
        assert!(Refused::find_in(&**error).is_none(), "{error:?}");
    }
}
