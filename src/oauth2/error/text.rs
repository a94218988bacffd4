//! The text of an error.

use std::fmt;

use super::{Inner, kind::EndpointErrorKind as Kind};

impl fmt::Display for Inner {
    /// What happened, the service's own words, and what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = if self.is_metadata {
            format!("the metadata {} (`discover`)", self.endpoint)
        } else {
            format!("the token endpoint {}", self.endpoint)
        };
        match &self.kind {
            Kind::Credential => write!(f, "a credential for {at} cannot be used"),
            Kind::Unreachable => write!(f, "{at} cannot be reached"),
            Kind::Interrupted => write!(f, "the exchange with {at} broke off"),
            Kind::Timeout => write!(f, "{at} did not answer in time"),
            Kind::Redirected => write!(f, "{at} answered with a redirect"),
            Kind::TooLarge => write!(f, "{at} answered with more than 1 MiB"),
            Kind::Refused if self.is_judged() => write!(f, "{at} refused"),
            Kind::Refused | Kind::Unavailable => write!(f, "{at} answered"),
            Kind::Unreadable(what) => write!(f, "{at} answered with {what}"),
            Kind::MissingToken => write!(f, "{at} answered without an access token"),
            Kind::InvalidToken(invalid) => write!(f, "{at} answered with a bad token: {invalid}"),
            Kind::NotBearer => write!(f, "{at} answered with a token that is not a bearer token"),
            Kind::RefreshTokenLost => write!(f, "{at} no longer accepts the refresh token"),
            Kind::InvalidKey => write!(f, "the request's key is not for {at}"),
            Kind::SubjectNotTaken => write!(f, "the grant at {at} does not take a subject"),
            Kind::SubjectMissing => write!(f, "the grant at {at} needs a subject"),
            Kind::SubjectExpired => {
                write!(f, "the subject's token has expired: nothing was sent to {at}")
            }
            Kind::OtherTokenType => write!(f, "{at} answered with a token of another type"),
            Kind::Metadata(problem) => write!(f, "{at} {problem}"),
            Kind::ClientCertificate(problem) => {
                write!(f, "the `client_certificate` for {at} {problem}")
            }
        }?;
        if let Some(status) = self.status {
            write!(f, " (HTTP {status})")?;
        }
        let said = [&self.error, &self.description, &self.detail];
        let said = said.into_iter().flatten().map(String::as_str);
        said.chain(self.advice()).try_for_each(|text| write!(f, ": {text}"))
    }
}

impl Inner {
    /// The remedy.
    fn advice(&self) -> Option<&'static str> {
        Some(match self.kind {
            Kind::SubjectNotTaken => {
                "the program's own token must not replace a user's; use \
                 `.token_exchange(..)` without a fixed subject token, or \
                 `.jwt_bearer_on_behalf_of()`"
            }
            Kind::SubjectMissing => {
                "add one to the request's key with `TokenKey::on_behalf_of(..)`, and use a \
                 `KeyedTokenCache`: a plain `TokenCache` has no keys"
            }
            Kind::Redirected if self.is_metadata => {
                "redirects are not followed: configure the issuer itself"
            }
            Kind::Redirected => {
                "redirects are not followed because they would replay the credentials: \
                 configure the URL that it leads to"
            }
            Kind::Refused if self.is_judged() => return None,
            Kind::Refused if self.is_metadata => "check the issuer",
            Kind::Refused => "check the URL",
            Kind::MissingToken if self.detail.is_none() => {
                "if it has another name, set that with `.field(Field::AccessToken, ..)`; if it is \
                 nested deeper in the answer, write a source with `from_fn`"
            }
            Kind::RefreshTokenLost => {
                "an exchange with an unknown outcome has probably spent it, and a new one is needed"
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::{super::EndpointError, *};

    #[test]
    fn an_error_that_a_setting_can_fix_names_the_setting() {
        for (kind, advice) in [
            (Kind::Redirected, Some("configure the URL that it leads to")),
            (Kind::MissingToken, Some("`.field(Field::AccessToken, ..)`")),
            (Kind::RefreshTokenLost, Some("a new one is needed")),
            (Kind::Refused, None::<&str>),
        ] {
            let error = EndpointError::new(kind, "https://auth.example/token");
            let text = error.with_head(StatusCode::BAD_REQUEST, None).to_string();
            assert!(advice.is_none_or(|advice| text.contains(advice)), "{text}");
        }
    }
}
