//! google-cloud-auth: the credentials of a user account, whose token endpoint can be told. It gives
//! headers; a service of ten lines puts them on a request.

use std::{
    convert::Infallible,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use google_cloud_auth::credentials::{CacheableResource, Credentials, user_account::Builder};
use http::{Extensions, Request, Response};
use serde_json::json;
use tower_bearer_benches::Body;
use tower_service::Service;

use super::{Auth, Inner, Outer};
use crate::token_service::TokenService;

/// How long before a token's end it is refreshed.
const MARGIN: Duration = Duration::from_secs(240);

pub(super) struct Account(Credentials);

impl Account {
    pub(super) async fn new(tokens: &TokenService) -> Self {
        let url = tokens.listen(MARGIN + tokens.fresh).await;
        let user = json!({
            "type": "authorized_user",
            "client_id": "peers",
            "client_secret": "secret",
            "refresh_token": "refresh",
        });
        let credentials = Builder::new(user).with_token_uri(url).build();
        Self(credentials.expect("that is an account"))
    }
}

impl Auth for Account {
    fn before(&self, inner: impl Inner) -> impl Outer {
        WithHeaders { inner, credentials: self.0.clone() }
    }
}

#[derive(Clone)]
struct WithHeaders<S> {
    inner: S,
    credentials: Credentials,
}

impl<S: Inner> Service<Request<Body>> for WithHeaders<S> {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let (mut inner, credentials) = (self.inner.clone(), self.credentials.clone());
        Box::pin(async move {
            let headers = credentials.headers(Extensions::new()).await.expect("there is a token");
            let CacheableResource::New { data, .. } = headers else {
                unreachable!("nothing says what is known already")
            };
            request.headers_mut().extend(data);
            inner.call(request).await
        })
    }
}
