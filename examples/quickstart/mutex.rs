//! The usual hand-written code, for `--against-mutex`: a mutex around the token and its expiry. A
//! call that finds the token expired fetches the next one. A call that gets a 401 discards the
//! token and tries again, once.
//!
//! It has the two usual faults: all calls wait while one fetches, and a 401 for the old token
//! discards the new one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::body::Body;
use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use serde::Deserialize;
use tokio::sync::Mutex;
use tower::{BoxError, ServiceExt, service_fn, util::BoxCloneSyncService};

use crate::{
    load::count_send,
    stack::Stack,
    token_service::{BASIC, CLIENT_ID},
};

type HttpClient = Client<HttpConnector, Full<Bytes>>;

/// A token counts as expired this early, so that it does not expire on its way to the API.
const MARGIN: Duration = Duration::from_millis(200);

#[derive(Clone)]
struct MutexClient {
    token_url: Arc<str>,
    client: HttpClient,
    token: Arc<Mutex<Option<Token>>>,
}

struct Token {
    header: HeaderValue,
    expires: Instant,
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: u64,
}

pub(crate) fn stack(token_url: Arc<str>, client: HttpClient) -> Stack {
    let client = MutexClient { token_url, client, token: Arc::default() };
    let send = move |request| {
        let client = client.clone();
        async move { client.send(request).await }
    };
    BoxCloneSyncService::new(service_fn(send))
}

impl MutexClient {
    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Body>, BoxError> {
        let response = self.send_once(request.clone()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        *self.token.lock().await = None;
        self.send_once(request).await
    }

    async fn send_once(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Body>, BoxError> {
        request.headers_mut().insert(AUTHORIZATION, self.header().await?);
        Ok(self.client.clone().oneshot(count_send(request)).await?.map(Body::new))
    }

    async fn header(&self) -> Result<HeaderValue, BoxError> {
        let mut token = self.token.lock().await;
        match &*token {
            Some(token) if Instant::now() + MARGIN < token.expires => Ok(token.header.clone()),
            _ => Ok(token.insert(self.fetch().await?).header.clone()),
        }
    }

    async fn fetch(&self) -> Result<Token, BoxError> {
        let request = Request::post(&*self.token_url)
            .header(AUTHORIZATION, BASIC)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(format!("grant_type=client_credentials&client_id={CLIENT_ID}").into())?;
        let asked = Instant::now();
        let answer = self.client.request(request).await?.into_body().collect().await?.to_bytes();
        let Answer { access_token, expires_in } = serde_json::from_slice(&answer)?;
        Ok(Token {
            header: format!("Bearer {access_token}").try_into()?,
            expires: asked + Duration::from_secs(expires_in),
        })
    }
}
