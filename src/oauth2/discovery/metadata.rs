//! The relevant metadata of an authorization server (RFC 8414 §2).

use serde::Deserialize;

use super::super::{
    address::{self, UrlProblem},
    client_auth::ClientAuth,
    destination::Destination,
    error::EndpointErrorKind as Kind,
};

/// The longest accepted URL.
const MAX_URL: usize = 2048;

/// The settings that the metadata must fit.
pub(in crate::oauth2) struct Requirements {
    /// As configured, for a comparison byte for byte (RFC 8414 §3.3).
    pub(in crate::oauth2) issuer: String,
    pub(in crate::oauth2) client: Client,
    /// Whether connections present a client certificate (RFC 8705 §5).
    pub(in crate::oauth2) has_certificate: bool,
    /// Where an endpoint may be plain `http`: on loopback, if the issuer is so too, or anywhere.
    pub(in crate::oauth2) plaintext: Plaintext,
}

/// How the client authenticates.
#[derive(Clone, Copy)]
pub(in crate::oauth2) enum Client {
    /// As configured.
    Given(ClientAuth),
    /// With its secret, by a method that the service supports.
    WithSecret,
    /// With only its id, by a method that the service supports.
    WithId,
}

/// The hosts to which plain `http` may go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::oauth2) enum Plaintext {
    Nowhere,
    Loopback,
    Anywhere,
}

/// A page in place of metadata.
pub(super) const PAGE: &str = "a page of HTML or XML";

/// The problem of metadata, and the value that has it.
pub(super) type Problem = (Kind, Option<String>);

#[derive(Deserialize)]
struct Document {
    issuer: Option<String>,
    token_endpoint: Option<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    mtls_endpoint_aliases: Option<Aliases>,
}

#[derive(Deserialize)]
struct Aliases {
    token_endpoint: Option<String>,
}

// ===== impl Requirements =====

impl Requirements {
    /// Reads a document, and checks all members that are used.
    pub(super) fn read(&self, body: &[u8]) -> Result<Destination, Problem> {
        let document = Document::read(body)?;
        self.check_issuer(document.issuer.as_deref())?;
        let alias = document.mtls_endpoint_aliases.and_then(|aliases| aliases.token_endpoint);
        let alias = alias.filter(|_| self.has_certificate);
        let Some(url) = alias.or(document.token_endpoint) else {
            return Err(problem("has no `token_endpoint`"));
        };
        let methods = document.token_endpoint_auth_methods_supported;
        self.destination(&url, self.client.auth(methods.as_deref())?)
    }

    fn check_issuer(&self, named: Option<&str>) -> Result<(), Problem> {
        match named {
            None => Err(problem("has no `issuer`")),
            Some(named) if named != self.issuer => {
                let (kind, _) = problem("is another issuer's, compared byte for byte");
                Err((kind, Some(named.to_owned())))
            }
            Some(_) => Ok(()),
        }
    }

    fn destination(&self, url: &str, client_auth: ClientAuth) -> Result<Destination, Problem> {
        if url.len() > MAX_URL {
            return Err(problem("has a `token_endpoint` of more than 2,048 characters"));
        }
        let anywhere = self.plaintext == Plaintext::Anywhere;
        let (uri, origin) = address::parse(url, anywhere).map_err(|wrong| {
            problem(match wrong {
                UrlProblem::Fragment => "has a `token_endpoint` with a fragment",
                UrlProblem::UserInfo => "has a `token_endpoint` with user info",
                UrlProblem::Plaintext(_) => PLAINTEXT,
                UrlProblem::Unreadable | UrlProblem::Port | UrlProblem::NotAbsolute => {
                    "has a `token_endpoint` that is not an absolute https URL"
                }
            })
        })?;
        if !origin.is_https() && self.plaintext == Plaintext::Nowhere {
            return Err(problem(PLAINTEXT));
        }
        Ok(Destination::new(uri, &origin, client_auth))
    }
}

const PLAINTEXT: &str = "has a `token_endpoint` that is plain http: others could read the \
                         credentials on the way";

fn problem(what: &'static str) -> Problem {
    (Kind::Metadata(what), None)
}

// ===== impl Client =====

impl Client {
    /// Chooses among the methods of the service; without a list, it supports Basic (RFC 8414 §2).
    fn auth(self, methods: Option<&[String]>) -> Result<ClientAuth, Problem> {
        let is_taken = |name: &str| match methods {
            None => name == "client_secret_basic",
            Some(methods) => methods.iter().any(|method| method == name),
        };
        let ways = match self {
            Self::Given(client_auth) => return Ok(client_auth),
            Self::WithSecret => &WITH_SECRET[..],
            Self::WithId => &WITH_ID[..],
        };
        let way = ways.iter().find(|(name, _)| is_taken(name)).map(|(_, way)| *way);
        let taken = methods.unwrap_or_default().join(", ");
        way.ok_or((
            Kind::Metadata(
                "has no method of client authentication that fits the credentials: choose one with \
                 `.client_auth(..)`",
            ),
            Some(taken).filter(|taken| !taken.is_empty()),
        ))
    }
}

const WITH_SECRET: [(&str, ClientAuth); 2] =
    [("client_secret_basic", ClientAuth::Basic), ("client_secret_post", ClientAuth::Body)];
const WITH_ID: [(&str, ClientAuth); 3] = [
    ("none", ClientAuth::None),
    ("client_secret_basic", ClientAuth::Basic),
    ("client_secret_post", ClientAuth::Body),
];

// ===== impl Document =====

impl Document {
    fn read(body: &[u8]) -> Result<Self, Problem> {
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii();
        let unreadable = |what| (Kind::Unreadable(what), None);
        match body.first() {
            None => Err(unreadable("nothing")),
            Some(b'{') => {
                serde_json::from_slice(body).map_err(|_| unreadable("JSON that is not metadata"))
            }
            Some(b'<') => Err(unreadable(PAGE)),
            Some(_) => Err(unreadable("something that is not a JSON object")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(client: Client, methods: Option<&[&str]>) -> Option<ClientAuth> {
        let methods: Option<Vec<_>> =
            methods.map(|methods| methods.iter().map(|&it| it.to_owned()).collect());
        client.auth(methods.as_deref()).ok()
    }

    #[test]
    fn the_best_method_that_fits_the_credentials_is_chosen() {
        use Client::{Given, WithId, WithSecret};
        let both = ["client_secret_post", "private_key_jwt", "client_secret_basic"];
        for (client, methods, expected) in [
            (WithSecret, None, Some(ClientAuth::Basic)),
            (WithSecret, Some(&both[..]), Some(ClientAuth::Basic)),
            (WithSecret, Some(&["none", "client_secret_post"][..]), Some(ClientAuth::Body)),
            (WithSecret, Some(&["private_key_jwt", "none"][..]), None),
            (WithSecret, Some(&[][..]), None),
            (WithId, None, Some(ClientAuth::Basic)),
            (WithId, Some(&["client_secret_basic", "none"][..]), Some(ClientAuth::None)),
            (WithId, Some(&["client_secret_post"][..]), Some(ClientAuth::Body)),
            (WithId, Some(&["tls_client_auth"][..]), None),
            (Given(ClientAuth::BasicRaw), Some(&["none"][..]), Some(ClientAuth::BasicRaw)),
        ] {
            assert_eq!(chosen(client, methods), expected, "{methods:?}");
        }
    }
}
