//! A token service that knows users, scopes and resources, and an API that answers with the user
//! and the purpose of the token that it got.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Form, Json, Router,
    extract::Request,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::json;

const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// The claims that a second factor proves, in the format of Microsoft Entra.
pub(crate) const CLAIMS: &str = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;

/// The challenge for a user who must log in with more than a password (RFC 9470 §3).
pub(crate) const STEP_UP: &str =
    r#"Bearer error="insufficient_user_authentication", acr_values="c1""#;

/// The logged-in users, and the tokens that the API accepts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accounts(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// The user of each login token, and whether the user has given a second factor.
    logins: HashMap<String, (String, bool)>,
    need_second_factor: HashSet<String>,
    /// The tokens that the API accepts, with user and purpose.
    valid: HashMap<String, (String, String)>,
    /// The user of each fetched token, in order.
    fetched: Vec<String>,
    /// The tokens that the API got, one for each request; `none` if a request had none.
    shown: Vec<String>,
}

// ===== impl Accounts =====

impl Accounts {
    /// Returns the token that the user's client sends from now on.
    pub(crate) fn log_in(&self, user: &str) -> String {
        self.state().log_in(user, false)
    }

    pub(crate) fn log_in_with_second_factor(&self, user: &str) -> String {
        self.state().log_in(user, true)
    }

    /// Invalidates the token of this login.
    pub(crate) fn log_out(&self, login: &str) {
        self.state().logins.remove(login);
    }

    /// Requires a second factor of this user from now on.
    pub(crate) fn need_second_factor(&self, user: &str) {
        self.state().need_second_factor.insert(user.to_owned());
    }

    /// Revokes all tokens of this user that were issued so far.
    pub(crate) fn revoke(&self, user: &str) {
        self.state().valid.retain(|_, (owner, _)| owner != user);
    }

    /// The user of each token that was fetched so far, in order.
    pub(crate) fn fetched(&self) -> Vec<String> {
        self.state().fetched.clone()
    }

    /// The tokens that the API got so far.
    pub(crate) fn shown(&self) -> Vec<String> {
        self.state().shown.clone()
    }

    /// The user and the purpose of a request's token, if it is valid.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Option<(String, String)> {
        let header = headers.get(header::AUTHORIZATION).and_then(|header| header.to_str().ok());
        let token = header.map_or("none", |header| header.trim_start_matches("Bearer "));
        let mut state = self.state();
        state.shown.push(token.to_owned());
        state.valid.get(token).cloned()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn log_in(&mut self, user: &str, has_second_factor: bool) -> String {
        let login = format!("login-{}-of-{user}", self.logins.len() + 1);
        self.logins.insert(login.clone(), (user.to_owned(), has_second_factor));
        login
    }

    /// Issues a token for the API, or returns the error of RFC 6749 §5.2.
    fn issue(&mut self, params: &[(String, String)]) -> Result<String, serde_json::Value> {
        let user = self.user(params)?;
        self.fetched.push(user.clone());
        let token = format!("{user}-{}", self.fetched.len());
        let purpose = [values_of(params, "scope"), values_of(params, "resource")].join(" ");
        self.valid.insert(token.clone(), (user, purpose.trim().to_owned()));
        Ok(token)
    }

    /// The user for whom the request asks for a token.
    fn user(&self, params: &[(String, String)]) -> Result<String, serde_json::Value> {
        match &*values_of(params, "grant_type") {
            "client_credentials" => Ok("my-app".to_owned()),
            TOKEN_EXCHANGE => match self.logins.get(&values_of(params, "subject_token")) {
                // RFC 8693 §2.2.2.
                None => Err(json!({ "error": "invalid_request" })),
                Some((user, false)) if self.need_second_factor.contains(user) => {
                    Err(json!({ "error": "interaction_required", "claims": CLAIMS }))
                }
                Some((user, _)) => Ok(user.clone()),
            },
            _ => Err(json!({ "error": "unsupported_grant_type" })),
        }
    }
}

/// The values of a parameter, joined by spaces.
fn values_of(params: &[(String, String)], name: &str) -> String {
    let values = params.iter().filter(|(own, _)| own == name).map(|(_, value)| value.as_str());
    values.collect::<Vec<_>>().join(" ")
}

// ===== The servers =====

/// The token service: `POST /token`.
pub(crate) fn token_service(accounts: &Accounts) -> Router {
    let accounts = accounts.clone();
    let answer = move |Form(params): Form<Vec<(String, String)>>| async move {
        match accounts.state().issue(&params) {
            Ok(token) => Json(json!({
                "access_token": token,
                "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
                "token_type": "Bearer",
                "expires_in": 3600,
            }))
            .into_response(),
            Err(error) => (StatusCode::BAD_REQUEST, Json(error)).into_response(),
        }
    };
    Router::new().route("/token", post(answer))
}

/// An API that answers with the user and the purpose of the token. It demands a stronger login for
/// `/payments`.
pub(crate) fn protected_api(accounts: &Accounts) -> Router {
    let accounts = accounts.clone();
    Router::new().fallback(move |request: Request| async move {
        let (method, path) = (request.method(), request.uri().path());
        match accounts.check(request.headers()) {
            None => rejected(r#"Bearer error="invalid_token""#),
            Some(_) if path == "/payments" => rejected(STEP_UP),
            Some((user, purpose)) if purpose.is_empty() => {
                format!("{method} {path} for {user}").into_response()
            }
            Some((user, purpose)) => {
                format!("{method} {path} for {user}: {purpose}").into_response()
            }
        }
    })
}

fn rejected(challenge: &'static str) -> Response {
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response()
}
