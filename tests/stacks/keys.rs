//! The key of a request reaches the layer in every stack: two users, in turn and at once, never get
//! each other's token.

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, header::AUTHORIZATION};
use http_body_util::Full;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};
use tower::{Layer, ServiceExt};
use tower_bearer::{
    AccessToken, BearerAuthLayer, KeyedTokenCache, Refused, Subject, TokenKey,
    oauth2::{ReqwestService, TokenEndpoint, TokenExchange},
};

use crate::{
    app,
    loopback::{
        self,
        accounts::{self, Accounts},
        grpc::{self, GreeterClient},
    },
    world::{bounded, client},
};

const USERS: [&str; 2] = ["ann", "bob"];

/// Two users, whose logins are exchanged for tokens for an API.
pub(crate) struct World {
    pub(crate) accounts: Accounts,
    pub(crate) tokens: KeyedTokenCache,
    pub(crate) api: String,
    logins: [String; 2],
}

// ===== impl World =====

impl World {
    pub(crate) async fn start() -> Self {
        let accounts = Accounts::default();
        let api = loopback::serve(accounts::protected_api(&accounts)).await.unwrap();
        Self::of(accounts, api).await
    }

    async fn of(accounts: Accounts, api: String) -> Self {
        let origin = loopback::serve(accounts::token_service(&accounts)).await.unwrap();
        let endpoint = TokenEndpoint::builder(format!("{origin}/token"))
            .client_id("my-app")
            .client_secret("s3cr3t")
            .token_exchange(TokenExchange::new())
            .build()
            .unwrap();
        let tokens = KeyedTokenCache::builder(endpoint).build().unwrap();
        let logins = USERS.map(|user| accounts.log_in(user));
        Self { accounts, tokens, api, logins }
    }

    fn layer(&self) -> BearerAuthLayer {
        BearerAuthLayer::from_cache(&self.tokens).origin(&self.api).unwrap().require_subject()
    }

    fn get(&self, key: Option<TokenKey>) -> Request<Full<Bytes>> {
        let mut request = Request::get(format!("{}/me", self.api)).body(Full::default()).unwrap();
        request.extensions_mut().extend(key.map(extension).unwrap_or_default());
        request
    }

    /// Many calls at once, then some in turn; and again after the tokens were revoked. `call` makes
    /// one with a user's login.
    async fn nobody_gets_anothers_token(
        &self,
        expected: impl Fn(&str) -> String,
        call: impl AsyncFn(&str) -> String,
    ) {
        let check = async |n: usize| {
            let answer = call(&self.logins[n % 2]).await;
            assert_eq!(answer, expected(USERS[n % 2]));
        };
        for _ in 0..2 {
            bounded(join_all((0..40).map(&check))).await;
            for n in 0..4 {
                bounded(check(n)).await;
            }
            for user in USERS {
                self.accounts.revoke(user);
            }
        }
        let mut fetched = self.accounts.fetched();
        fetched.sort_unstable();
        assert_eq!(fetched, ["ann", "ann", "bob", "bob"]);
        assert!(self.accounts.shown().iter().all(|token| !token.starts_with("login")));
    }

    /// A request without a key gets an error, and nothing else happens.
    fn refused_it(&self, error: &(dyn std::error::Error + 'static)) {
        assert_eq!(Refused::find_in(error), Some(&Refused::NoSubject), "{error:?}");
        assert!(self.accounts.fetched().is_empty() && self.accounts.shown().is_empty());
    }
}

fn key(login: &str) -> TokenKey {
    TokenKey::new().on_behalf_of(Subject::new(AccessToken::new(login).unwrap()))
}

fn extension(key: TokenKey) -> http::Extensions {
    let mut extensions = http::Extensions::new();
    extensions.insert(key);
    extensions
}

fn me(user: &str) -> String {
    format!("GET /me for {user}")
}

// ===== The stacks =====

#[tokio::test]
async fn hyper_util_gives_each_request_the_token_of_its_key() {
    let world = World::start().await;
    let stack = world.layer().layer(client());
    let send = async |key| stack.clone().oneshot(world.get(key)).await;
    world.refused_it(&*bounded(send(None)).await.unwrap_err());
    let call = async |login: &str| loopback::text(send(Some(key(login))).await.unwrap()).await;
    world.nobody_gets_anothers_token(me, async |login| call(login).await.unwrap()).await;
}

#[tokio::test]
async fn reqwest_gives_each_request_the_token_of_its_key() {
    let world = World::start().await;
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let layer = world.layer().buffer_body(1024, reqwest::Body::wrap);
    let stack = layer.layer(ReqwestService::new(http.build().unwrap()));
    let send = async |key| stack.clone().oneshot(world.get(key)).await;
    world.refused_it(&*bounded(send(None)).await.unwrap_err());
    let call = async |login: &str| {
        let response = send(Some(key(login))).await.unwrap();
        reqwest::Response::from(response).text().await.unwrap()
    };
    world.nobody_gets_anothers_token(me, call).await;
}

#[cfg(feature = "reqwest-middleware")]
#[tokio::test]
async fn reqwest_middleware_gives_each_request_the_token_of_its_key() {
    let world = World::start().await;
    let auth = tower_bearer::BearerAuthMiddleware::from(world.layer());
    let client = reqwest_middleware::ClientBuilder::new(reqwest::Client::new()).with(auth).build();
    let url = format!("{}/me", world.api);
    world.refused_it(&bounded(client.get(&url).send()).await.unwrap_err());
    let call = async |login: &str| {
        let response = client.get(&url).with_extension(key(login)).send().await;
        response.unwrap().text().await.unwrap()
    };
    world.nobody_gets_anothers_token(me, call).await;
}

#[tokio::test]
async fn tonic_gives_each_call_the_token_of_its_key() {
    let accounts = Accounts::default();
    let checking = accounts.clone();
    let server = grpc::server_with(move |headers| Some(checking.check(headers)?.0));
    let (api, authority) = loopback::tls::serve(server).await.unwrap();
    let world = World::of(accounts, api).await;
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem()));
    let channel = Channel::from_shared(world.api.clone()).unwrap().tls_config(tls).unwrap();
    let layer = world.layer().assume_origin(&*world.api).unwrap().grpc();
    let layer = layer.buffer_body(1024, tonic::body::Body::new);
    let greeter = GreeterClient::new(layer.layer(channel.connect_lazy()));

    world.refused_it(&bounded(greeter.clone().hello("me")).await.unwrap_err());
    let call = async |login: &str| {
        let mut request = tonic::Request::new("me".to_owned());
        request.extensions_mut().insert(key(login));
        greeter.clone().hello_with(request).await.unwrap()
    };
    world.nobody_gets_anothers_token(|user| format!("hello, me with {user}"), call).await;
}

#[tokio::test]
async fn an_axum_handler_calls_on_behalf_of_the_user_of_its_request() {
    let world = World::start().await;
    let service = loopback::serve(app::router(world.tokens.clone(), &world.api).unwrap());
    let (service, client) = (service.await.unwrap(), reqwest::Client::new());
    let call = async |login: &str| {
        let request = client.get(format!("{service}/me"));
        let response = request.header(AUTHORIZATION, format!("Bearer {login}")).send().await;
        response.unwrap().text().await.unwrap()
    };
    world.nobody_gets_anothers_token(me, call).await;
}

#[tokio::test]
async fn a_buffer_and_a_limit_above_the_layer_pass_the_key_on() {
    let world = World::start().await;
    let stack = tower::ServiceBuilder::new()
        .buffer(64)
        .concurrency_limit(3)
        .layer(world.layer())
        .service(client());
    let send = async |key| stack.clone().oneshot(world.get(key)).await;
    world.refused_it(&*bounded(send(None)).await.unwrap_err());
    let call = async |login: &str| loopback::text(send(Some(key(login))).await.unwrap()).await;
    world.nobody_gets_anothers_token(me, async |login| call(login).await.unwrap()).await;
}
