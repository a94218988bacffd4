//! Where a request goes, as the request writes it: borrowed, without a copy.

use http::{Uri, uri::Scheme};

use crate::origin::Origin;

/// Where a request goes, as the request writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination<'a> {
    /// A host, by `https` or else by `http`.
    Host { is_https: bool, authority: &'a str },
    /// The request has neither a scheme nor an authority.
    Unsaid,
    /// Another scheme, or only one of the two.
    Other,
}

// ===== impl Destination =====

impl<'a> Destination<'a> {
    #[inline]
    pub(crate) fn of(uri: &'a Uri) -> Self {
        match (uri.scheme(), uri.authority()) {
            (Some(scheme), Some(authority)) => Self::of_parts(scheme.as_str(), authority.as_str()),
            (None, None) => Self::Unsaid,
            _ => Self::Other,
        }
    }

    #[inline]
    pub(crate) fn of_parts(scheme: &str, authority: &'a str) -> Self {
        match scheme {
            "https" => Self::Host { is_https: true, authority },
            "http" => Self::Host { is_https: false, authority },
            _ => Self::Other,
        }
    }

    /// Whether the scheme is `https`, and the authority, unless that has user info, which may be
    /// secret.
    pub(super) fn written(self) -> Option<(bool, Box<str>)> {
        match self {
            Self::Host { is_https, authority } if !authority.contains('@') => {
                Some((is_https, authority.into()))
            }
            // No request writes its authority like that, so this matches none.
            Self::Host { is_https, .. } => Some((is_https, "".into())),
            _ => None,
        }
    }

    pub(super) fn origin(self) -> Option<Origin> {
        let Self::Host { is_https, authority } = self else { return None };
        let scheme = if is_https { Scheme::HTTPS } else { Scheme::HTTP };
        let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query("/").build();
        Origin::of(&uri.ok()?)
    }
}
