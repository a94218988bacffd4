//! How each token service expects its requests, and how it answers.

use std::time::SystemTime;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE},
};
use serde_json::{Value, json};

use super::credentials::{CLIENT_ID, Client, Params};

const API_KEY_GRANT: &str = "urn:ibm:params:oauth:grant-type:apikey";
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const ACCESS_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";
const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// A way of asking for tokens. The [`TokenService`](super::TokenService) speaks all of them at the
/// same time, each on its own documented path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// OAuth 2.0 as its RFC defines it: a form; the client by Basic (escaped, §2.3.1) or in the
    /// body; client credentials (§4.4), or refresh tokens that are rotated (§6). It exchanges
    /// users' tokens too: by RFC 8693, by RFC 7523 §2.1, and in the way of Microsoft Entra.
    Rfc6749,
    /// The `GreenNode` AI Platform: a form, and the client by Basic, unescaped.
    GreenNode,
    /// Ianum Auth: a JSON object with the client in it, and answers with `token_type` "Baerer".
    Ianum,
    /// IBM Cloud IAM: a form with an API key. Answers have an absolute `expiration` too, and errors
    /// have IBM's own shape.
    IbmCloud,
    /// IBM Security Verify: a form with the client in it. Answers have a `grant_id` too.
    IbmVerify,
}

/// What a request presents for an access token.
pub(super) enum Grant {
    Client {
        scope: Option<String>,
    },
    RefreshToken(String),
    /// A user's token.
    Subject {
        token: String,
        scope: Option<String>,
        exchanged_type: Option<String>,
    },
}

/// What the service issues in return.
pub(super) struct Issued {
    pub(super) access_token: String,
    /// In seconds.
    pub(super) expires_in: Option<u64>,
    pub(super) refresh_token: Option<String>,
    pub(super) scope: Option<String>,
    /// The `issued_token_type` of a token exchange (RFC 8693 §2.2.1).
    pub(super) exchanged_type: Option<String>,
}

/// An error of RFC 6749 §5.2.
pub(super) struct Refusal {
    pub(super) code: &'static str,
    pub(super) description: &'static str,
}

// ===== impl Dialect =====

impl Dialect {
    pub(super) fn at(path: &str) -> Option<Self> {
        Some(match path {
            "/token" => Self::Rfc6749,
            "/accounts/v2/auth/token" => Self::GreenNode,
            "/v1_3/oauth/token" => Self::Ianum,
            "/identity/token" => Self::IbmCloud,
            "/v1.0/endpoint/default/token" | "/oidc/endpoint/default/token" => Self::IbmVerify,
            _ => return None,
        })
    }

    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Rfc6749 => "/token",
            Self::GreenNode => "/accounts/v2/auth/token",
            Self::Ianum => "/v1_3/oauth/token",
            Self::IbmCloud => "/identity/token",
            Self::IbmVerify => "/v1.0/endpoint/default/token",
        }
    }

    /// Reads the request of a client with this secret.
    pub(super) fn read(self, request: &Request<Bytes>, secret: &str) -> Result<Grant, Refusal> {
        if request.method() != Method::POST {
            return Err(Refusal::request("the method is not POST"));
        }
        let params = self.params(request)?;
        self.authenticate(request.headers(), &params, secret)?;
        self.grant(&params)
    }

    fn params(self, request: &Request<Bytes>) -> Result<Params, Refusal> {
        let content_type = request.headers().get(CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (media_type, _) = content_type.split_once(';').unwrap_or((content_type, ""));
        let expected = if self == Self::Ianum { JSON } else { FORM };
        if !media_type.trim().eq_ignore_ascii_case(expected) {
            return Err(Refusal::request("the content type is wrong"));
        }
        match self {
            Self::Ianum => Params::of_json(request.body())
                .ok_or(Refusal::request("the body is not a JSON object")),
            _ => Ok(Params::of_form(request.body())),
        }
    }

    fn authenticate(
        self,
        headers: &HeaderMap,
        params: &Params,
        secret: &str,
    ) -> Result<(), Refusal> {
        let basic = Client::of_basic(headers);
        let client = match self {
            Self::Rfc6749 => match (basic, params.client()) {
                (Some(_), Some(_)) => {
                    return Err(Refusal::request("the client authenticates twice"));
                }
                (Some(basic), None) => basic.decoded(),
                (None, client) => client,
            },
            Self::GreenNode => basic,
            Self::Ianum | Self::IbmVerify => params.client(),
            Self::IbmCloud => params
                .get("apikey")
                .map(|key| Client { id: CLIENT_ID.to_owned(), secret: key.to_owned() }),
        };
        match client {
            None => Err(Refusal::client("the client does not authenticate")),
            Some(client) if client.id != CLIENT_ID || client.secret != secret => {
                Err(Refusal::client("the client is unknown or its secret is wrong"))
            }
            Some(_) => Ok(()),
        }
    }

    fn grant(self, params: &Params) -> Result<Grant, Refusal> {
        let is_client = |grant_type| match self {
            Self::IbmCloud => grant_type == API_KEY_GRANT,
            _ => grant_type == "client_credentials",
        };
        match params.get("grant_type") {
            None => Err(Refusal::request("grant_type is missing")),
            Some(grant_type) if is_client(grant_type) => {
                Ok(Grant::Client { scope: params.get("scope").map(str::to_owned) })
            }
            Some(grant_type) if self == Self::Rfc6749 => further_grant(grant_type, params),
            Some(_) => Err(Refusal::UNSUPPORTED_GRANT),
        }
    }

    /// Writes the answer to a grant.
    pub(super) fn grants(self, issued: &Issued) -> Response<Bytes> {
        let token = issued.access_token.as_str();
        let token_type = if self == Self::Ianum { "Baerer" } else { "Bearer" };
        let mut answer = json!({ "access_token": token, "token_type": token_type });
        let mut add = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                answer[name] = value;
            }
        };
        add("expires_in", issued.expires_in.map(Value::from));
        match self {
            Self::Rfc6749 => {
                add("refresh_token", issued.refresh_token.clone().map(Value::from));
                add("scope", issued.scope.clone().map(Value::from));
                add("issued_token_type", issued.exchanged_type.clone().map(Value::from));
            }
            Self::IbmCloud => {
                add("expiration", issued.expires_in.and_then(expiration).map(Value::from));
                add("refresh_token", Some("not_supported".into()));
            }
            Self::IbmVerify => add("grant_id", Some(format!("grant-{token}").into())),
            Self::GreenNode | Self::Ianum => {}
        }
        written(StatusCode::OK, &answer)
    }

    /// Writes an error.
    pub(super) fn refuses(self, Refusal { code, description }: &Refusal) -> Response<Bytes> {
        if self == Self::IbmCloud {
            // Its other codes are documented nowhere, so the OAuth ones stand for them.
            let code = if *code == "invalid_client" { "BXNIM0415E" } else { code };
            let answer = json!({
                "errorCode": code,
                "errorMessage": description,
                "errorDetails": description,
                "context": { "requestId": "testing" },
            });
            return written(StatusCode::BAD_REQUEST, &answer);
        }
        let answer = json!({ "error": code, "error_description": description });
        if *code != "invalid_client" {
            return written(StatusCode::BAD_REQUEST, &answer);
        }
        let mut response = written(StatusCode::UNAUTHORIZED, &answer);
        let challenge = HeaderValue::from_static(r#"Basic realm="testing""#);
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        response
    }
}

/// A grant that this service supports besides the client's own.
fn further_grant(grant_type: &str, params: &Params) -> Result<Grant, Refusal> {
    let scope = params.get("scope").map(str::to_owned);
    match grant_type {
        "refresh_token" => {
            let token = params.required("refresh_token", "refresh_token is missing")?;
            Ok(Grant::RefreshToken(token))
        }
        TOKEN_EXCHANGE => {
            let token = params.required("subject_token", "subject_token is missing")?;
            params.required("subject_token_type", "subject_token_type is missing")?;
            let exchanged_type = params.get("requested_token_type").unwrap_or(ACCESS_TOKEN_TYPE);
            Ok(Grant::Subject { token, scope, exchanged_type: Some(exchanged_type.to_owned()) })
        }
        JWT_BEARER => {
            let token = params.required("assertion", "assertion is missing")?;
            Ok(Grant::Subject { token, scope, exchanged_type: None })
        }
        _ => Err(Refusal::UNSUPPORTED_GRANT),
    }
}

// ===== impl Params =====

impl Params {
    fn required(&self, name: &str, otherwise: &'static str) -> Result<String, Refusal> {
        self.get(name).map(str::to_owned).ok_or(Refusal::request(otherwise))
    }
}

// ===== impl Refusal =====

impl Refusal {
    const UNSUPPORTED_GRANT: Self =
        Self { code: "unsupported_grant_type", description: "the service has no such grant" };

    pub(super) fn request(description: &'static str) -> Self {
        Self { code: "invalid_request", description }
    }

    fn client(description: &'static str) -> Self {
        Self { code: "invalid_client", description }
    }

    pub(super) fn grant(description: &'static str) -> Self {
        Self { code: "invalid_grant", description }
    }
}

fn written(status: StatusCode, answer: &Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(answer.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Seconds since 1970; `None` on overflow.
fn expiration(expires_in: u64) -> Option<u64> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.as_secs().checked_add(expires_in)
}
