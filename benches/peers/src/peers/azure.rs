//! azure_core: the policy that the Azure SDK puts into every client's pipeline. Its requests are its
//! own, so it has a floor of its own: a policy in the same place that inserts a ready header.

use std::{hint::black_box, sync::Arc, time::Duration};

use async_trait::async_trait;
use azure_core::{
    credentials::{AccessToken, TokenCredential, TokenRequestOptions},
    http::{
        AsyncRawResponse, Context, Method, Request, StatusCode, Url,
        headers::{AUTHORIZATION, Headers, WWW_AUTHENTICATE},
        policies::{
            Policy, PolicyResult,
            auth::{Authorizer, BearerTokenAuthorizationPolicy, OnChallenge},
        },
    },
    time::OffsetDateTime,
};
use futures_util::{FutureExt, future::BoxFuture};
use tower_bearer_benches::URI;

use super::Ready;
use crate::{
    api::{Api, CHALLENGE},
    token_service::{TokenService, nth},
};

/// How long before its end a token is fetched anew.
const MARGIN: Duration = Duration::from_secs(300);

const SCOPE: &str = "https://api.example.com/.default";

type Pipeline = Arc<[Arc<dyn Policy>]>;

pub(super) fn azure(tokens: &TokenService, api: &Api) -> Ready {
    let credential = Arc::new(Credential(tokens.clone()));
    let policy = BearerTokenAuthorizationPolicy::new(credential, [SCOPE]);
    // Without this it returns each 401 as it is.
    let policy = Arc::new(policy.with_on_challenge(Arc::new(AuthorizeAgain)));
    ready(policy, api)
}

pub(super) async fn floor(tokens: &TokenService, api: &Api) -> Ready {
    let header = format!("Bearer {}", tokens.issue().await);
    // A header of azure_core is a static text or is copied.
    ready(Arc::new(InsertHeader(header.leak())), api)
}

fn ready(policy: Arc<dyn Policy>, api: &Api) -> Ready {
    let warm: Pipeline = [policy.clone(), Arc::new(Answer) as _].into();
    let pipeline: Pipeline = [policy, Arc::new(CallApi(api.clone())) as _].into();
    let url: Url = URI.parse().expect("that is a URL");
    let warm_url = url.clone();
    let walk = move || {
        let mut request = black_box(request(&warm_url));
        let context = Context::new();
        let answer = warm[0].send(&context, &mut request, &warm[1..]).now_or_never();
        assert!(matches!(black_box(answer), Some(Ok(_))), "the token is there");
    };
    let send = move || -> BoxFuture<'static, http::StatusCode> {
        let (pipeline, mut request) = (pipeline.clone(), request(&url));
        Box::pin(async move {
            let context = Context::new();
            let answer = pipeline[0].send(&context, &mut request, &pipeline[1..]).await;
            let status = u16::from(answer.expect("there is a token").status());
            http::StatusCode::from_u16(status).expect("that is a status")
        })
    };
    Ready { warm: Box::new(walk), send: Arc::new(send) }
}

/// The request that the other peers have.
fn request(url: &Url) -> Request {
    let mut request = Request::new(url.clone(), Method::Get);
    request.insert_header("accept", "application/json");
    request.insert_header("content-type", "application/json");
    request.insert_header("user-agent", "tower-bearer-benches/1");
    request
}

#[derive(Debug)]
struct Credential(TokenService);

#[async_trait]
impl TokenCredential for Credential {
    async fn get_token(
        &self,
        _: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let end = OffsetDateTime::now_utc() + MARGIN + self.0.fresh;
        Ok(AccessToken::new(self.0.issue().await, end))
    }
}

/// What a caller does who wants a 401 to be answered with another token.
#[derive(Debug)]
struct AuthorizeAgain;

#[async_trait]
impl OnChallenge for AuthorizeAgain {
    async fn on_challenge(
        &self,
        _: &Context,
        request: &mut Request,
        authorizer: &dyn Authorizer,
        _: &Headers,
    ) -> azure_core::Result<()> {
        authorizer.authorize(request, &[SCOPE], TokenRequestOptions::default()).await
    }
}

#[derive(Debug)]
struct InsertHeader(&'static str);

#[async_trait]
impl Policy for InsertHeader {
    async fn send(
        &self,
        context: &Context,
        request: &mut Request,
        next: &[Arc<dyn Policy>],
    ) -> PolicyResult {
        request.insert_header(AUTHORIZATION, self.0);
        next[0].send(context, request, &next[1..]).await
    }
}

#[derive(Debug)]
struct Answer;

#[async_trait]
impl Policy for Answer {
    async fn send(
        &self,
        _: &Context,
        request: &mut Request,
        _: &[Arc<dyn Policy>],
    ) -> PolicyResult {
        black_box(request);
        Ok(AsyncRawResponse::from_bytes(StatusCode::Ok, Headers::new(), ""))
    }
}

#[derive(Debug)]
struct CallApi(Api);

#[async_trait]
impl Policy for CallApi {
    async fn send(
        &self,
        _: &Context,
        request: &mut Request,
        _: &[Arc<dyn Policy>],
    ) -> PolicyResult {
        let header = request.headers().get_str(&AUTHORIZATION).expect("there is a token");
        let status = self.0.judge(nth(header.as_bytes())).await.as_u16();
        let mut headers = Headers::new();
        if status == 401 {
            headers.insert(WWW_AUTHENTICATE, CHALLENGE);
        }
        Ok(AsyncRawResponse::from_bytes(status.into(), headers, ""))
    }
}
