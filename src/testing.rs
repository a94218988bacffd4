//! A token service and a protected API on loopback, so that you can test *your* stack.
//!
//! ```sh
//! cargo add --dev tower-bearer --features testing
//! cargo add --dev tokio@1 --features macros,rt
//! ```
//!
//! ```
//! # #[cfg(feature = "reqwest")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_bearer::BoxError> {
//! use http::Request;
//! use tower::{Layer, ServiceExt};
//! use tower_bearer::{BearerAuthLayer, oauth2::ReqwestService, testing::World};
//!
//! fn call(url: String) -> http::Result<Request<String>> {
//!     Request::get(url).body(String::new())
//! }
//!
//! let world = World::start().await?;
//! let layer = BearerAuthLayer::new(world.tokens().endpoint().build()?);
//! let stack = layer.origin(world.api().origin())?.layer(ReqwestService::default());
//!
//! assert_eq!(stack.clone().oneshot(call(world.api().url("/x"))?).await?.status(), 200);
//! world.revoke_all();
//! assert_eq!(stack.clone().oneshot(call(world.api().url("/x"))?).await?.status(), 200);
//! assert_eq!((world.tokens().fetches(), world.api().rejected()), (2, 1));
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "reqwest"))]
//! # fn main() {}
//! ```
//!
//! # What you can make happen
//!
//! | to test | do |
//! | --- | --- |
//! | a token that is revoked before it expires | [`World::revoke_all`], [`World::revoke`] |
//! | tokens that expire soon | [`TokenService::set_expires_in`] |
//! | a token service that fails | [`TokenService::fail_next`], [`TokenService::fail`] with a [`Failure`] |
//! | a slow token service | [`TokenService::set_delay`] |
//! | something while a fetch is in flight | [`TokenService::hold`], [`TokenService::until_fetches`] |
//! | something while calls are in flight | [`ProtectedApi::hold`], [`ProtectedApi::until_calls`] |
//! | a client secret that is rotated | [`TokenService::set_secret`] |
//! | refresh tokens that are rotated | [`TokenService::log_in`] |
//! | calls on behalf of users, and whose token the API got | [users](TokenService#users), [`World::subject_of`] |
//! | a user whose login has ended | [`TokenService::fail_subject`] |
//! | a provider with its own dialect | [`TokenService::endpoint_of`] a [`Dialect`] |
//!
//! Everything is deterministic: access tokens are `t-1`, `t-2`, … and refresh tokens `r-1`, `r-2`,
//! …, in the order in which they are issued. A test never needs to sleep: it can wait for each of
//! these events. The waits have no time limit; give your tests one.
//!
//! The servers speak HTTP/1.1 on free ports of 127.0.0.1, so that any number of worlds can run side
//! by side. They stop when the [`World`] is dropped.

mod api;
mod counter;
mod credentials;
mod dialect;
mod failure;
mod gate;
mod issued_tokens;
mod script;
mod server;
mod tokens;

use std::{io, sync::Arc};

use self::issued_tokens::IssuedTokens;
pub use self::{
    api::ProtectedApi,
    credentials::{CLIENT_ID, CLIENT_SECRET},
    dialect::Dialect,
    failure::Failure,
    gate::Held,
    tokens::TokenService,
};

/// A token service, and an API that accepts its tokens.
#[derive(Debug)]
pub struct World {
    tokens: TokenService,
    api: ProtectedApi,
    issued: Arc<IssuedTokens>,
}

// ===== impl World =====

impl World {
    /// Starts both servers on the current runtime.
    ///
    /// # Errors
    ///
    /// If there is no free port.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, and on one whose I/O or time driver is not enabled.
    pub async fn start() -> io::Result<Self> {
        Self::with_tokens(IssuedTokens::default()).await
    }

    /// Starts both servers with tokens named `{name}-t-1`, `{name}-t-2`, …, so that a stack with
    /// more than one world shows which world a token came from. The name must be visible ASCII.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub async fn start_named(name: &str) -> io::Result<Self> {
        Self::with_tokens(IssuedTokens::named(name)).await
    }

    async fn with_tokens(issued: IssuedTokens) -> io::Result<Self> {
        let issued = Arc::new(issued);
        let tokens = TokenService::start(issued.clone()).await?;
        let api = ProtectedApi::start(issued.clone()).await?;
        Ok(Self { tokens, api, issued })
    }

    /// The token service.
    #[must_use]
    pub fn tokens(&self) -> &TokenService {
        &self.tokens
    }

    /// The API.
    #[must_use]
    pub fn api(&self) -> &ProtectedApi {
        &self.api
    }

    /// Revokes every access token issued so far: the API rejects them from now on. Refresh tokens
    /// stay valid.
    pub fn revoke_all(&self) {
        self.issued.revoke_all();
    }

    /// The user's token for which an access token was issued. `None` if it is the client's own, or
    /// unknown. The [API](ProtectedApi) returns it with each answer too (`echo-subject`).
    #[must_use]
    pub fn subject_of(&self, token: &str) -> Option<String> {
        self.issued.subject_of(token)
    }

    /// Revokes one access token, if it has been issued.
    pub fn revoke(&self, token: &str) {
        self.issued.revoke(token);
    }
}
