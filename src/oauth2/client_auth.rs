//! Client authentication with an id and a secret (RFC 6749 §2.3.1).

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::HeaderValue;
use url::form_urlencoded::byte_serialize;
use zeroize::Zeroizing;

const SCHEME: &str = "Basic ";

/// Where the client's id and secret go. For the default see
/// [`TokenEndpointBuilder::client_auth`](super::TokenEndpointBuilder::client_auth).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum ClientAuth {
    /// Into an `Authorization: Basic` header, each form-urlencoded first, as RFC 6749 §2.3.1
    /// requires. A space is encoded as `%20`, which every known decoder accepts.
    #[default]
    Basic,
    /// Into an `Authorization: Basic` header unencoded (RFC 7617), for services that do not decode.
    /// This differs from `Basic` if the id or the secret has characters other than letters, digits
    /// and `*-._`.
    BasicRaw,
    /// Into the body, as `client_id` and `client_secret`.
    Body,
    /// The id into the body, if there is one, and no secret: for a public client, or one that
    /// authenticates by other means (a
    /// [`client_assertion`](super::TokenEndpointBuilder::client_assertion), a certificate).
    None,
}

// ===== impl ClientAuth =====

impl ClientAuth {
    /// The user and password of Basic, joined; `None` for other methods.
    #[expect(clippy::arithmetic_side_effects, reason = "lengths in memory do not overflow")]
    pub(super) fn user_pass(self, id: &str, secret: &str) -> Option<Zeroizing<String>> {
        let encode: fn(&str, &mut String) = match self {
            Self::Basic => encode,
            Self::BasicRaw => |text, joined| joined.push_str(text),
            Self::Body | Self::None => return None,
        };
        // The capacity covers every byte escaped: a string that grows leaves copies behind.
        let mut joined = Zeroizing::new(String::with_capacity(3 * (id.len() + secret.len()) + 1));
        encode(id, &mut joined);
        joined.push(':');
        encode(secret, &mut joined);
        Some(joined)
    }

    pub(super) fn is_in_body(self) -> bool {
        matches!(self, Self::Body | Self::None)
    }
}

fn encode(text: &str, joined: &mut String) {
    for piece in byte_serialize(text.as_bytes()) {
        joined.push_str(if piece == "+" { "%20" } else { piece });
    }
}

/// The `Authorization` header for a user and password, sensitive and wiped.
#[expect(clippy::expect_used, reason = "base64 after a scheme is visible ASCII")]
#[expect(clippy::arithmetic_side_effects, reason = "lengths in memory do not overflow")]
pub(super) fn basic_header(user_pass: &str) -> HeaderValue {
    let length = SCHEME.len() + user_pass.len().div_ceil(3) * 4;
    // One allocation of the right size: a string that grows leaves copies behind.
    let mut line = Zeroizing::new(String::with_capacity(length));
    line.push_str(SCHEME);
    BASE64_STANDARD.encode_string(user_pass, &mut line);
    debug_assert_eq!(line.len(), length, "padded base64 has four for three");
    let mut header =
        HeaderValue::from_maybe_shared(Bytes::from_owner(line)).expect("base64 is visible ASCII");
    header.set_sensitive(true);
    header
}
