//! A body that is not `Clone`, under a layer without `buffer_body`.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_bearer::{AccessToken, BearerAuthLayer, TokenError, from_fn};
use tower_layer::Layer;
use tower_service::Service;

struct Upload;

#[derive(Clone)]
struct Client;

impl<B> Service<Request<B>> for Client {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        ready(Ok(Response::new(())))
    }
}

fn main() {
    let source = from_fn(|_| async { AccessToken::new("abc").map_err(TokenError::permanent) });
    let mut client = BearerAuthLayer::new(source).layer(Client);
    drop(client.call(Request::new(Upload)));
}
