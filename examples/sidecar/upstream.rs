//! An upstream and the paths that lead to it.

use std::sync::OnceLock;

use axum::body::Body;
use http::{
    HeaderMap, Uri,
    uri::{Authority, PathAndQuery, Scheme},
};
use hyper_util::client::legacy::Client;
use tower_bearer::{BearerAuthLayer, NoSubject, Origin, Subject, TokenHeader, TokenKey};

use crate::{
    config,
    connector::Connector,
    path::is_traversal,
    replay::{self, Stack},
    tokens::Tokens,
};

pub(crate) struct Upstream {
    pub(crate) name: String,
    /// The name of its token source.
    pub(crate) source: String,
    pub(crate) tokens: Tokens,
    /// The header that carries the token.
    pub(crate) header: TokenHeader,
    layer: BearerAuthLayer,
    stack: OnceLock<Stack>,
    /// Without a trailing slash, so that the prefix of all paths is empty.
    prefix: String,
    scheme: Scheme,
    authority: Authority,
    /// The path that replaces the prefix.
    base: String,
}

impl Upstream {
    pub(crate) fn new(
        name: &str,
        written: &config::Upstream,
        tokens: Tokens,
    ) -> Result<Self, String> {
        let prefix = written.path.as_deref().unwrap_or("/");
        if !prefix.starts_with('/') || is_traversal(prefix) {
            return Err("`path` is not absolute: write it like \"/api\"".to_owned());
        }
        let (uri, origin) =
            destination(&written.to).map_err(|problem| format!("`to` {problem}"))?;
        check_subject(&tokens, written.on_behalf_of)?;
        let header = header(written)?;
        let layer = tokens.layer().origin(origin).map_err(|error| format!("`to`: {error}"))?;
        let layer = layer.header(header.clone()).map_err(|error| format!("`header`: {error}"))?;
        let base = uri.path().trim_end_matches('/').to_owned();
        let parts = uri.into_parts();
        Ok(Self {
            name: name.to_owned(),
            source: written.source.clone(),
            tokens,
            header,
            layer,
            stack: OnceLock::new(),
            prefix: prefix.trim_end_matches('/').to_owned(),
            scheme: parts.scheme.ok_or("`to` has no scheme")?,
            authority: parts.authority.ok_or("`to` has no host")?,
            base,
        })
    }

    /// The key of the user on whose behalf the request is; `None` if the upstream does not act for
    /// users.
    pub(crate) fn key(&self, headers: &HeaderMap) -> Result<Option<TokenKey>, NoSubject> {
        match self.tokens {
            Tokens::One(_) => Ok(None),
            Tokens::OfUsers(_) => {
                Subject::from_headers(headers).map(|user| Some(TokenKey::new().on_behalf_of(user)))
            }
        }
    }

    /// The services that its requests go through.
    pub(crate) fn stack(&self, client: &Client<Connector, Body>) -> &Stack {
        self.stack.get_or_init(|| replay::stack(self.layer.clone(), client.clone()))
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The URI that a request for `uri` goes to; `None` if it is not for this upstream.
    pub(crate) fn target(&self, uri: &Uri) -> Option<Uri> {
        let tail = uri.path().strip_prefix(&self.prefix)?;
        if !tail.is_empty() && !tail.starts_with('/') {
            return None;
        }
        let path = format!("{}{tail}", self.base);
        let path = if path.is_empty() { "/" } else { &path };
        let path: PathAndQuery = match uri.query() {
            Some(query) => format!("{path}?{query}").parse().ok()?,
            None => path.parse().ok()?,
        };
        let target = Uri::builder().scheme(self.scheme.clone());
        target.authority(self.authority.clone()).path_and_query(path).build().ok()
    }
}

/// Checks that source and upstream agree, so that no request gets the program's own token instead
/// of a user's, or the other way round.
fn check_subject(tokens: &Tokens, on_behalf_of: bool) -> Result<(), String> {
    match (tokens, on_behalf_of) {
        (Tokens::One(_), true) => {
            Err("`on_behalf_of` needs a `source` that exchanges the tokens of \
                                       users: one with `token_exchange` or \
                                       `jwt_bearer_on_behalf_of`")
        }
        (Tokens::OfUsers(_), false) => {
            Err("`source` exchanges the tokens of users: write `on_behalf_of = true`")
        }
        _ => Ok(()),
    }
    .map_err(str::to_owned)
}

fn header(written: &config::Upstream) -> Result<TokenHeader, String> {
    let header = match written.header.as_deref() {
        Some(name) => TokenHeader::new(name).map_err(|error| format!("`header`: {error}"))?,
        None => TokenHeader::default(),
    };
    match written.scheme.as_deref() {
        Some(scheme) => header.with_scheme(scheme).map_err(|error| format!("`scheme`: {error}")),
        None => Ok(header),
    }
}

/// Parses `to`. It must be https or on the loopback: others could read the token on the way.
fn destination(to: &str) -> Result<(Uri, Origin), String> {
    let uri: Uri = to.parse().map_err(|_| "is not a valid URL".to_owned())?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err("is not absolute: write it like \"https://api.example.com/v1\"".to_owned());
    };
    if uri.query().is_some() || to.contains('#') || is_traversal(uri.path()) {
        return Err("must be an origin and a path, without a query or a fragment".to_owned());
    }
    let origin: Origin = format!("{scheme}://{authority}")
        .parse()
        .map_err(|error| format!("is invalid: {error}"))?;
    if !origin.is_https() && !origin.is_loopback() {
        return Err(format!("is {origin}: others could read the token on the way: use https"));
    }
    Ok((uri, origin))
}

#[cfg(test)]
mod tests {
    use tower_bearer::{TokenCache, local::StoredToken};

    use super::*;

    fn target(prefix: &str, to: &str, uri: &str) -> Option<String> {
        let tokens = Tokens::One(TokenCache::new(StoredToken::new("abc")));
        let written = format!("path = {prefix:?}\nto = {to:?}\nsource = \"s\"");
        let written = toml::from_str(&written).unwrap();
        let upstream = Upstream::new("a", &written, tokens).unwrap();
        upstream.target(&uri.parse().unwrap()).map(|uri| uri.to_string())
    }

    #[test]
    fn the_base_replaces_the_prefix() {
        for (prefix, to, uri, expected) in [
            (
                "/kms",
                "https://a.example/api",
                "/kms/keys?x=1&y",
                "https://a.example/api/keys?x=1&y",
            ),
            ("/kms", "https://a.example/api/", "/kms", "https://a.example/api"),
            ("/kms/", "https://a.example", "/kms/", "https://a.example/"),
            ("/kms", "https://a.example", "/kms", "https://a.example/"),
            ("/", "https://a.example:8443", "/a//b", "https://a.example:8443/a//b"),
            ("/", "https://a.example", "http://evil.example/x", "https://a.example/x"),
            ("/", "https://a.example", "//evil.example/x", "https://a.example//evil.example/x"),
        ] {
            assert_eq!(target(prefix, to, uri).as_deref(), Some(expected), "{uri}");
        }
        assert_eq!(target("/kms", "https://a.example", "/kmsx"), None);
        assert_eq!(target("/kms", "https://a.example", "/KMS"), None);
    }
}
