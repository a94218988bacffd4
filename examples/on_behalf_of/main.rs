//! A service that calls an API on behalf of its users. Each user's request brings the user's own
//! token. The service exchanges it for a token for the API (RFC 8693), and never sends it to the
//! API.
//!
//! `app.rs` is the service, and explains who must validate the users' tokens. `answer.rs` has its
//! error responses. This file runs a scenario with both. The token service and the API run on this
//! machine, so you need no account.
//!
//! ```sh
//! cargo run --example on_behalf_of
//! ```
//!
//! It exits with 1 if a step of the scenario fails. For Microsoft Entra, replace the endpoint with
//! `providers::entra_on_behalf_of(tenant, client_id, client_secret)`.

mod answer;
mod app;
#[path = "../common/challenge.rs"]
mod challenge;
#[path = "../loopback/mod.rs"]
mod loopback;

use std::process::ExitCode;

use axum::http::{HeaderMap, StatusCode, header::AUTHORIZATION};
use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::future::join_all;
use tower_bearer::{
    BoxError, Challenge, KeyedTokenCache,
    oauth2::{TokenEndpoint, TokenExchange},
};

use loopback::accounts::{self, Accounts, CLAIMS, STEP_UP};

/// The servers on this machine, and whether a step has failed so far.
struct Scenario {
    accounts: Accounts,
    /// The origin of the service.
    service: String,
    client: reqwest::Client,
    has_failed: bool,
}

/// An answer from the service.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

#[tokio::main]
async fn main() -> Result<ExitCode, BoxError> {
    let mut scenario = Scenario::begin().await?;
    let [ann, bob] = ["ann", "bob"].map(|user| scenario.accounts.log_in(user));
    scenario.two_users(&ann, &bob).await?;
    scenario.a_revoked_token(&ann, &bob).await?;
    scenario.a_logout(&ann, &bob).await?;
    scenario.a_second_factor().await?;
    scenario.a_step_up(&ann).await?;
    scenario.no_user().await?;
    let has_failed = scenario.has_failed;
    Ok(if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

// ===== impl Scenario =====

impl Scenario {
    async fn begin() -> Result<Self, BoxError> {
        let accounts = Accounts::default();
        let token_service = loopback::serve(accounts::token_service(&accounts)).await?;
        let api = loopback::serve(accounts::protected_api(&accounts)).await?;

        let endpoint = TokenEndpoint::builder(format!("{token_service}/token"))
            .client_id("my-app")
            .client_secret("s3cr3t")
            .token_exchange(TokenExchange::new())
            .build()?;
        let tokens = KeyedTokenCache::builder(endpoint).build()?;
        let service = loopback::serve(app::router(tokens, &api)?).await?;
        Ok(Self { accounts, service, client: reqwest::Client::new(), has_failed: false })
    }

    async fn two_users(&mut self, ann: &str, bob: &str) -> Result<(), BoxError> {
        let calls = (0..40).map(|n| if n % 2 == 0 { ("ann", ann) } else { ("bob", bob) });
        let calls = calls.map(async |(user, login)| {
            let answer = self.get("/orders", Some(&bearer(login))).await?;
            Ok::<_, BoxError>(answer.text == format!("GET /orders for {user}"))
        });
        let all = join_all(calls).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        let each_once = sorted(self.accounts.fetched()) == ["ann", "bob"];
        let happened = all.into_iter().all(|is_own| is_own) && each_once;
        self.report(
            "40 calls of two users at once: each gets their own orders, 2 exchanges",
            happened,
        );
        Ok(())
    }

    async fn a_revoked_token(&mut self, ann: &str, bob: &str) -> Result<(), BoxError> {
        self.accounts.revoke("ann");
        let anns = self.get("/orders", Some(&bearer(ann))).await?;
        let bobs = self.get("/orders", Some(&bearer(bob))).await?;
        let both = [anns.text, bobs.text] == ["GET /orders for ann", "GET /orders for bob"];
        let happened = both && self.accounts.fetched()[2..] == ["ann"];
        self.report("ann's token is revoked: the cache renews it, and keeps bob's", happened);
        Ok(())
    }

    async fn a_logout(&mut self, ann: &str, bob: &str) -> Result<(), BoxError> {
        self.accounts.log_out(bob);
        let bye = self.client.post(format!("{}/logout", self.service));
        let bye = bye.header(AUTHORIZATION, bearer(bob)).send().await?.status();
        let shown = self.accounts.shown().len();
        let again = self.get("/orders", Some(&bearer(bob))).await?;
        let is_refused = bye == StatusCode::NO_CONTENT
            && again.status == StatusCode::UNAUTHORIZED
            && again.challenge("error").as_deref() == Some("invalid_token");
        let happened = is_refused && self.accounts.shown().len() == shown;
        self.report(
            "bob has logged out: his old login gets `invalid_token`, the API gets nothing",
            happened,
        );

        let anns = self.get("/orders", Some(&bearer(ann))).await?;
        let happened = anns.status == StatusCode::OK && self.accounts.fetched().len() == 3;
        self.report("ann's calls still use the cached token", happened);
        Ok(())
    }

    async fn a_second_factor(&mut self) -> Result<(), BoxError> {
        self.accounts.need_second_factor("eve");
        let eve = self.accounts.log_in("eve");
        let answer = self.get("/orders", Some(&bearer(&eve))).await?;
        let claims = answer.challenge("claims").and_then(|claims| STANDARD.decode(claims).ok());
        let is_refused = answer.status == StatusCode::UNAUTHORIZED
            && answer.challenge("error").as_deref() == Some("insufficient_claims")
            && claims.as_deref() == Some(CLAIMS.as_bytes());
        self.report(
            "eve needs a second factor: her client gets the `claims` challenge",
            is_refused,
        );

        let eve = self.accounts.log_in_with_second_factor("eve");
        let answer = self.get("/orders", Some(&bearer(&eve))).await?;
        self.report(
            "eve gives a second factor: she gets her orders",
            answer.text == "GET /orders for eve",
        );
        Ok(())
    }

    async fn a_step_up(&mut self, ann: &str) -> Result<(), BoxError> {
        let fetched = self.accounts.fetched().len();
        let answer = self.get("/payments", Some(&bearer(ann))).await?;
        let passed_on = answer.headers.get("www-authenticate").is_some_and(|it| it == STEP_UP);
        let is_refused = answer.status == StatusCode::UNAUTHORIZED && passed_on;
        let happened = is_refused && self.accounts.fetched().len() == fetched;
        self.report(
            "the API demands a step-up for payments: its challenge reaches ann's client",
            happened,
        );
        Ok(())
    }

    async fn no_user(&mut self) -> Result<(), BoxError> {
        let before = (self.accounts.fetched().len(), self.accounts.shown().len());
        let mut happened = true;
        for authorization in [None, Some("Bearer "), Some("Basic YW5uOnB3")] {
            let answer = self.get("/orders", authorization).await?;
            let has_challenge = answer.challenge("authorization_uri").is_some();
            happened &= answer.status == StatusCode::UNAUTHORIZED
                && has_challenge
                && answer.challenge("error").is_none();
        }
        happened &= before == (self.accounts.fetched().len(), self.accounts.shown().len());
        self.report("without a bearer token: 401, nothing is fetched, nothing is sent", happened);
        let logins = self.accounts.shown().iter().any(|token| token.starts_with("login"));
        self.report("the API has never seen a user's login", !logins);
        Ok(())
    }

    async fn get(&self, path: &str, authorization: Option<&str>) -> Result<Answer, BoxError> {
        let mut request = self.client.get(format!("{}{path}", self.service));
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        Ok(Answer { status, headers, text: response.text().await? })
    }

    /// Prints what should happen and whether it did.
    fn report(&mut self, what: &str, happened: bool) {
        self.has_failed |= !happened;
        println!("{} {what}", if happened { "yes:" } else { "NO: " });
    }
}

impl Answer {
    /// The challenge's parameter of this name.
    fn challenge(&self, name: &str) -> Option<String> {
        let challenges = Challenge::from_headers(&self.headers);
        challenges.first()?.param(name).map(str::to_owned)
    }
}

fn bearer(login: &str) -> String {
    format!("Bearer {login}")
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort_unstable();
    texts
}
