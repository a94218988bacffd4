//! Calls of an API: accepted, rejected, refused, redirected, failed.

use axum::{
    Router,
    extract::Request,
    response::{IntoResponse, Redirect, Response},
};
use bytes::Bytes;
use http::StatusCode;
use http_body_util::Full;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use reqwest_middleware::ClientBuilder;
use tokio::net::TcpListener;
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt};
use tower_bearer::{
    AccessToken, BearerAuthLayer, BearerAuthMiddleware, KeyedTokenCache, Subject, TokenCache,
    TokenError, TokenHeader, TokenKey, UnlistedOrigin, from_fn, oauth2::ReqwestService,
};
use tower_http::{follow_redirect::FollowRedirectLayer, trace::TraceLayer};

use crate::{ACCESS, REFRESH, SUBJECT, output::Output};

type Body = Full<Bytes>;

/// Echoes the token in whatever it says, and rejects it where the path says so.
async fn api(request: Request) -> Response {
    let token = request.headers().get("authorization").cloned();
    let token =
        String::from_utf8_lossy(token.as_ref().map_or(b"", |value| value.as_bytes())).into_owned();
    match request.uri().path() {
        "/rejects" => {
            let challenge =
                format!("Bearer error=\"invalid_token\", error_description=\"{token}\"");
            (StatusCode::UNAUTHORIZED, [("www-authenticate", challenge)], token).into_response()
        }
        "/wants_more" => {
            let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{token}\"");
            (StatusCode::FORBIDDEN, [("www-authenticate", challenge)], token).into_response()
        }
        "/redirects" => {
            Redirect::temporary(&format!("http://localhost:1/{SUBJECT}")).into_response()
        }
        _ => token.into_response(),
    }
}

fn token() -> AccessToken {
    AccessToken::new(ACCESS).unwrap().with_refresh_token(REFRESH).with_scope("a")
}

async fn call<S, B>(output: &Output, stack: &S, url: &str)
where
    S: Service<http::Request<Body>, Response = http::Response<B>, Error = BoxError> + Clone,
    S: std::fmt::Debug,
{
    output.debug(stack);
    let request = http::Request::get(url);
    let request = match url.split_once('#') {
        Some((url, key)) => {
            let subject = Subject::new(AccessToken::new(SUBJECT).unwrap());
            let key = TokenKey::new().scope(key).on_behalf_of(subject);
            http::Request::get(url).extension(key)
        }
        None => request,
    };
    let request = request.body(Body::from("a body")).unwrap();
    output.debug(&request);
    match stack.clone().oneshot(request).await {
        Ok(response) => output.debug((response.status(), response.version())),
        Err(error) => output.error(&*error),
    }
}

/// Sources that work, fail, panic, or say too much.
fn caches() -> Vec<TokenCache> {
    let failing = from_fn(async |_| Err(TokenError::transient("the vault is sealed")));
    let wrong =
        from_fn(async |_| AccessToken::new(format!("{ACCESS}\n")).map_err(TokenError::permanent));
    let panicking = from_fn(async |request: tower_bearer::TokenRequest| {
        let held = (token(), request);
        assert!(held.0.secret().is_empty(), "the source panics");
        Ok(token())
    });
    vec![
        TokenCache::new(from_fn(async |_| Ok(token()))).named("good"),
        TokenCache::new(failing).named("failing"),
        TokenCache::new(wrong).named("wrong"),
        TokenCache::new(panicking).named("panicking"),
    ]
}

pub(crate) async fn walk(output: &Output) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, Router::new().fallback(api)).into_future());
    let urls = ["/", "/rejects", "/wants_more", "/redirects"].map(|path| format!("{origin}{path}"));
    let elsewhere = ["http://api.example.com/", "https://127.0.0.1:1/", "http://127.0.0.1:1/"];
    let urls: Vec<&str> = urls.iter().map(String::as_str).chain(elsewhere).collect();

    let h2: Client<_, Body> = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    for cache in caches() {
        let layer = || {
            let layer = BearerAuthLayer::from_cache(&cache).origin(&origin).unwrap();
            layer.origin("http://127.0.0.1:1").unwrap()
        };
        output.debug(layer());
        let by_header = TokenHeader::new("x-token").unwrap().without_scheme();
        for url in &urls {
            call(output, &layer().layer(h2.clone()), url).await;
            call(output, &layer().layer(ReqwestService::default()), url).await;
            let bare = layer().unlisted_origins(UnlistedOrigin::SendBare);
            call(output, &bare.layer(ReqwestService::default()), url).await;
            let other = layer().header(by_header.clone()).unwrap();
            call(output, &other.layer(h2.clone()), url).await;
            let traced = ServiceBuilder::new()
                .layer(FollowRedirectLayer::new())
                .layer(layer())
                .layer(TraceLayer::new_for_http())
                .service(ReqwestService::default());
            let request = http::Request::get(*url).body(Body::default()).unwrap();
            if let Err(error) = traced.oneshot(request).await {
                output.error(&*error);
            }

            let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
            let client = ClientBuilder::new(client.build().unwrap())
                .with(BearerAuthMiddleware::from(layer()))
                .build();
            output.debug(&client);
            match client.get(*url).send().await {
                Ok(response) => output.debug(response.status()),
                Err(error) => output.error(&error),
            }
        }
        output.debug((&cache, cache.status()));
    }

    // For a user, and where none is required, wanted or allowed.
    let keyed = KeyedTokenCache::builder(from_fn(async |_| Ok(token()))).build().unwrap();
    output.debug(&keyed);
    let layer = BearerAuthLayer::from_cache(&keyed).origin(&origin).unwrap().require_subject();
    call(output, &layer.layer(h2.clone()), &format!("{origin}/rejects")).await;
    call(output, &layer.layer(h2.clone()), &format!("{origin}/rejects#a")).await;
    let single = BearerAuthLayer::from_cache(&caches()[0]).origin(&origin).unwrap();
    call(output, &single.layer(h2), &format!("{origin}/#a")).await;
}
