//! Checks the settings and builds an endpoint from them.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, Uri, header};

use super::{
    super::{
        assertion::{Audience, Prover},
        changes::Refusals,
        client_auth::ClientAuth,
        destination::{Destination, place},
        discovery::{self, Client, Discovery, Plaintext, Requirements},
        endpoint::{Endpoint, Location, TokenEndpoint},
        request::Template,
        transport::Transport,
    },
    TokenEndpointBuilder,
    checks::{self, InvalidEndpoint},
    grant::CLIENT_CREDENTIALS,
    placeholder,
};
use crate::{observe::Label, origin::Origin, secret::Secret};

/// How long an exchange of a refresh token may take if no timeout is set. The endpoint must be the
/// one to abandon it, because only the endpoint can repeat it.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(10);

impl TokenEndpointBuilder {
    /// Checks every setting and makes the endpoint. It sends nothing and reads no secret.
    ///
    /// A placeholder that you have not filled in (`{tenant}`, `<your-id>`) is an error in the URL,
    /// in the client id, and in the fixed text of a parameter or a header whose name says that it
    /// is an API key. Other secrets may look like anything, so this does not check them.
    ///
    /// # Errors
    ///
    /// [`InvalidEndpoint`] names the invalid setting and the reason.
    pub fn build(mut self) -> Result<TokenEndpoint, InvalidEndpoint> {
        let (uri, origin) = self.checked_url()?;
        if self.name.as_deref() == Some("") {
            return Err(InvalidEndpoint::setting("name", "is empty"));
        }
        let client_auth = self.checked_client_auth()?;
        let prover = self.checked_assertion(&uri)?;
        self.grant.check(&self.params, self.hook.is_some())?;
        let targets = self.targets()?;
        checks::params(&self.params)?;
        checks::names(&self.names)?;
        checks::timeouts([("timeout", self.timeout), ("connect_timeout", self.connect_timeout)])?;
        let transport = self.checked_transport(&origin)?;
        let extra = std::mem::take(&mut self.headers);
        let (headers, secret_headers) = checks::headers(&self.user_agent, extra)?;
        let timeout = self.timeout.or(self.grant.is_refresh().then_some(REFRESH_TIMEOUT));
        let place = place(&uri, &origin);
        let location = self.location(uri, origin, client_auth, &headers)?;
        let certificate = self.certificate().cloned();

        let grant_type = self.grant.grant_type().to_owned();
        #[cfg(feature = "jwt")]
        let service_account = self.grant.service_account();
        let (grant, mut params, requested) = self.grant.into_parts(self.hook);
        params.extend(self.params);
        let endpoint = Endpoint {
            label: Label::new(self.name),
            place,
            location,
            template: Template {
                client_id: self.client_id,
                client_secret: self.client_secret,
                certificate,
                format: self.format,
                grant_type,
                targets,
                params,
                headers,
                secret_headers,
                prover,
                #[cfg(feature = "jwt")]
                service_account,
            },
            grant,
            requested,
            names: self.names,
            timeout,
            transport,
            refusals: Refusals::default(),
        };
        Ok(TokenEndpoint::new(endpoint))
    }

    /// The URL of the endpoint, or that of its issuer.
    fn checked_url(&self) -> Result<(Uri, Origin), InvalidEndpoint> {
        if let Some(issuer) = &self.issuer {
            return checks::issuer(issuer, self.allow_plaintext);
        }
        let (uri, origin) = checks::url(&self.url, self.allow_plaintext)?;
        if self.certificate().is_some() && !origin.is_https() {
            let problem = "is never presented, because the `url` is not https";
            return Err(InvalidEndpoint::setting("client_certificate", problem));
        }
        Ok((uri, origin))
    }

    /// How the endpoint is found.
    fn location(
        &self,
        uri: Uri,
        origin: Origin,
        client_auth: ClientAuth,
        headers: &HeaderMap,
    ) -> Result<Location, InvalidEndpoint> {
        let Some(issuer) = &self.issuer else {
            return Ok(Location::Fixed(Arc::new(Destination::new(uri, &origin, client_auth))));
        };
        let urls = discovery::urls(&uri)
            .ok_or(InvalidEndpoint::setting("discover", "is too long for a URL"))?;
        let requirements = Requirements {
            issuer: issuer.clone(),
            client: match client_auth {
                ClientAuth::Basic if self.client_auth.is_none() => match &self.client_secret {
                    Some(_) => Client::WithSecret,
                    None => Client::WithId,
                },
                client_auth => Client::Given(client_auth),
            },
            has_certificate: self.certificate().is_some(),
            plaintext: if self.allow_plaintext {
                Plaintext::Anywhere
            } else if origin.is_https() {
                Plaintext::Nowhere
            } else {
                Plaintext::Loopback
            },
        };
        let user_agent = headers.get(header::USER_AGENT).cloned();
        let headers = user_agent.map(|user_agent| (header::USER_AGENT, user_agent));
        let headers = headers.into_iter().collect();
        let timeout = self.timeout;
        let discovery = Discovery::new(requirements, origin, urls, headers, timeout);
        Ok(Location::Discovered(Box::new(discovery)))
    }

    /// The client certificate and its key.
    #[cfg(feature = "reqwest")]
    fn certificate(&self) -> Option<&(Secret, Secret)> {
        self.ready_made.certificate.as_ref()
    }

    #[cfg(not(feature = "reqwest"))]
    #[expect(clippy::unused_self, reason = "the same signature as with feature `reqwest`")]
    fn certificate(&self) -> Option<&(Secret, Secret)> {
        None
    }

    /// The configured transport, or the ready-made one.
    #[cfg(feature = "reqwest")]
    fn checked_transport(
        &mut self,
        origin: &Origin,
    ) -> Result<Box<dyn Transport>, InvalidEndpoint> {
        let Some(given) = self.transport.take() else {
            let (plaintext, connect_timeout) = (self.allow_plaintext, self.connect_timeout);
            return self.ready_made.transport(origin, plaintext, connect_timeout);
        };
        match self.ready_made.first_set() {
            Some(name) => Err(InvalidEndpoint::setting(
                name,
                "is a setting of the ready-made transport: configure your own transport instead",
            )),
            None => Ok(given),
        }
    }

    #[cfg(not(feature = "reqwest"))]
    fn checked_transport(&mut self, _: &Origin) -> Result<Box<dyn Transport>, InvalidEndpoint> {
        self.transport.take().ok_or(InvalidEndpoint::setting(
            "transport",
            "is missing: set one, or enable feature `reqwest` for the ready-made one",
        ))
    }

    fn checked_client_auth(&self) -> Result<ClientAuth, InvalidEndpoint> {
        let needs_client =
            self.grant.grant_type() == CLIENT_CREDENTIALS || self.client_secret.is_some();
        let is_certified = self.certificate().is_some() && self.client_secret.is_none();
        let usual = if is_certified {
            ClientAuth::None
        } else if self.client_id.is_some() || needs_client {
            ClientAuth::Basic
        } else {
            ClientAuth::None
        };
        let client_auth = match (&self.client_assertion, self.client_auth) {
            (None, said) => said.unwrap_or(usual),
            (Some(_), _) if self.client_secret.is_some() => {
                return Err(InvalidEndpoint::setting(
                    "client_secret",
                    "would be sent beside a `client_assertion`, which replaces it: remove one",
                ));
            }
            (Some(_), None | Some(ClientAuth::Body | ClientAuth::None)) => ClientAuth::None,
            (Some(_), Some(_)) => {
                return Err(InvalidEndpoint::setting(
                    "client_auth",
                    "is Basic, which a `client_assertion` replaces: remove one of them",
                ));
            }
        };
        match (client_auth, self.client_id.as_deref()) {
            (_, Some("")) => Err(InvalidEndpoint::setting("client_id", "is empty")),
            (_, Some(id)) if placeholder::is_one(id) => {
                Err(InvalidEndpoint::setting("client_id", checks::PLACEHOLDER))
            }
            (ClientAuth::BasicRaw, Some(id)) if id.contains(':') => Err(InvalidEndpoint::setting(
                "client_id",
                "has a `:`, which ends the id in raw Basic (RFC 7617 §2)",
            )),
            (ClientAuth::None, _) if self.client_secret.is_some() => Err(InvalidEndpoint::setting(
                "client_secret",
                "would not be sent with `ClientAuth::None`",
            )),
            // Only the id distinguishes clients (RFC 8705 §2).
            (ClientAuth::None, None) if is_certified && needs_client => {
                Err(InvalidEndpoint::setting("client_id", "is missing"))
            }
            (ClientAuth::None, _) | (_, Some(_)) => Ok(client_auth),
            (_, None) => Err(InvalidEndpoint::setting("client_id", "is missing")),
        }
    }

    fn checked_assertion(&mut self, uri: &Uri) -> Result<Option<Prover>, InvalidEndpoint> {
        let Some(assertion) = self.client_assertion.take() else { return Ok(None) };
        let mut profile = self.profile.clone();
        if let Some(issuer) = &self.issuer {
            profile.audience.get_or_insert_with(|| Audience::Issuer(issuer.clone()));
        }
        let client_id = self.client_id.as_deref();
        // The URL is in the metadata, which the first fetch reads.
        let url = self.issuer.is_none().then(|| uri.to_string());
        let invalid = |problem| InvalidEndpoint::setting("client_assertion", problem);
        let prover = assertion.prover(client_id, url.as_deref(), profile).map_err(invalid)?;
        if prover.audience().is_some_and(placeholder::is_in) {
            return Err(invalid(checks::PLACEHOLDER));
        }
        Ok(Some(prover))
    }

    fn targets(&self) -> Result<Vec<(&'static str, String)>, InvalidEndpoint> {
        let mut targets = Vec::new();
        let single = [("scope", &self.scope), ("audience", &self.audience)];
        for (name, value) in single {
            targets.extend(value.clone().map(|value| (name, value)));
        }
        if let Some((name, _)) = targets.iter().find(|(_, value)| value.is_empty()) {
            return Err(InvalidEndpoint::setting(name, "is empty"));
        }
        for resource in &self.resources {
            checks::resource(resource)?;
            targets.push(("resource", resource.clone()));
        }
        Ok(targets)
    }
}
