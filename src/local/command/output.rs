//! What commands print, and the token in the output.

use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::Value;

use super::CommandErrorKind;
use crate::{
    json::Text,
    local::{access_token, after_scheme},
    token::AccessToken,
};

/// How a command prints its token. In every format `Bearer` may precede the token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OutputFormat {
    /// The one of the other formats that the output looks like.
    #[default]
    Detected,
    /// The token alone, on one line: `gcloud auth print-access-token`.
    Bare,
    /// A line `IAM token:  Bearer …`, possibly among others: `ibmcloud iam oauth-tokens`. Of
    /// several lines `…: Bearer …`, the one with `IAM` in its label counts.
    Labelled,
    /// A JSON object with a member `iam_token`, `accessToken`, `access_token` or `token`:
    /// `ibmcloud iam oauth-tokens --output json`, `az account get-access-token`.
    ///
    /// The expiry is that of a member `expires_on` (seconds since 1970) or `expiresOn` (RFC 3339).
    /// `az` prints a local time without a zone in `expiresOn`, which is ambiguous and is ignored.
    Json,
    /// The JSON of a Kubernetes exec plugin: `status.token` and
    /// `status.expirationTimestamp` (RFC 3339).
    ExecCredential,
}

// ===== impl OutputFormat =====

impl OutputFormat {
    pub(super) fn token(self, printed: &[u8]) -> Result<AccessToken, CommandErrorKind> {
        let text = std::str::from_utf8(printed).map_err(|_| CommandErrorKind::NoToken)?;
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.is_empty() {
            return Err(CommandErrorKind::NoOutput);
        }
        match self {
            Self::Detected => Self::detect(text).token(printed),
            Self::Bare => found(text),
            Self::Labelled => found(labelled(text).ok_or(CommandErrorKind::NoToken)?),
            Self::Json => parse::<Flat>(text)?.token(),
            Self::ExecCredential => parse::<ExecCredential>(text)?.status.token(),
        }
    }

    fn detect(text: &str) -> Self {
        // A web page or any other piece of JSON is not a bare token, though it may be one word.
        let is_structured = text.starts_with(['{', '[', '"', '<']);
        if is_structured && parse::<ExecCredential>(text).is_ok() {
            Self::ExecCredential
        } else if is_structured {
            Self::Json
        } else if labelled(text).is_some() {
            Self::Labelled
        } else {
            Self::Bare
        }
    }
}

/// Whatever a command prints, in every format: one token that stands in it, or an error that does
/// not show it. For the fuzz target, and for what it has found.
///
/// # Panics
///
/// If that does not hold.
#[cfg(any(test, fuzzing))]
#[allow(unreachable_pub, reason = "it is reached where the crate is fuzzed")]
pub fn check_command_output(printed: &[u8]) {
    use OutputFormat::{Bare, Detected, ExecCredential, Json, Labelled};

    for format in [Detected, Bare, Labelled, Json, ExecCredential] {
        match format.token(printed) {
            Ok(token) => {
                let is_written = String::from_utf8_lossy(printed).contains(token.secret());
                assert!(is_written || printed.contains(&b'\\'), "{format:?}");
            }
            Err(kind) => assert!(!format!("{kind} {kind:?}").contains("hush-hush"), "{kind}"),
        }
    }
}

fn found(text: &str) -> Result<AccessToken, CommandErrorKind> {
    access_token(text).map_err(CommandErrorKind::InvalidToken)
}

// ===== Text =====

/// The token on the line with IAM's label, else on the only line with a label.
///
/// Some languages translate the labels, so they are not compared as a whole.
fn labelled(text: &str) -> Option<&str> {
    let lines = || text.lines().filter_map(label_and_token);
    let is_iam = |label: &str| label.to_ascii_uppercase().contains("IAM");
    let only = || {
        let mut lines = lines();
        lines.next().filter(|_| lines.next().is_none())
    };
    let (_, token) = lines().find(|(label, _)| is_iam(label)).or_else(only)?;
    Some(token)
}

fn label_and_token(line: &str) -> Option<(&str, &str)> {
    let (label, value) = line.split_once(':')?;
    Some((label, after_scheme(value.trim())?.split_whitespace().next()?))
}

// ===== JSON =====

#[derive(Deserialize)]
struct Flat {
    iam_token: Option<Text>,
    #[serde(rename = "accessToken")]
    camel_case: Option<Text>,
    access_token: Option<Text>,
    token: Option<Text>,
    expires_on: Option<Value>,
    #[serde(rename = "expiresOn")]
    expires_on_date: Option<String>,
}

#[derive(Deserialize)]
struct ExecCredential {
    status: Status,
}

#[derive(Deserialize)]
struct Status {
    token: Option<Text>,
    #[serde(rename = "expirationTimestamp")]
    expiration: Option<String>,
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, CommandErrorKind> {
    // The error could quote the text.
    serde_json::from_str(text).map_err(|_| CommandErrorKind::NoToken)
}

impl Flat {
    fn token(self) -> Result<AccessToken, CommandErrorKind> {
        let token = self.iam_token.or(self.camel_case).or(self.access_token).or(self.token);
        let date = self.expires_on_date.as_deref().and_then(rfc3339);
        json_token(token.as_ref(), self.expires_on.as_ref().and_then(epoch).or(date))
    }
}

impl Status {
    fn token(self) -> Result<AccessToken, CommandErrorKind> {
        json_token(self.token.as_ref(), self.expiration.as_deref().and_then(rfc3339))
    }
}

fn json_token(
    token: Option<&Text>,
    expiry: Option<SystemTime>,
) -> Result<AccessToken, CommandErrorKind> {
    let token = found(&token.ok_or(CommandErrorKind::NoToken)?.0)?;
    Ok(match expiry {
        Some(expiry) => token.with_expiry(expiry),
        None => token,
    })
}

/// Seconds since 1970, as a number or as a string with a number in it.
fn epoch(value: &Value) -> Option<SystemTime> {
    let seconds = match value {
        Value::String(text) => text.trim().parse().ok()?,
        value => value.as_f64()?,
    };
    SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
}

/// A date with a zone (RFC 3339 §5.6). A date without one says nothing, nor does Go's year 1.
fn rfc3339(text: &str) -> Option<SystemTime> {
    let seconds = text.parse::<jiff::Timestamp>().ok()?.as_second();
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds.try_into().ok()?))
}

#[cfg(test)]
mod tests;
