//! Sources on this machine: an environment variable, a file, a command.
//!
//! ```
//! use tower_bearer::{Reason, TokenError, TokenRequest, TokenSource, local::StoredToken};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), TokenError> {
//! // More often: `StoredToken::env("ACCESS_TOKEN")`, or a file that another program renews.
//! let source = StoredToken::new("Bearer mF_9.B5f-4.1JqM");
//!
//! // A `TokenCache` does this for you.
//! let token = source.fetch(TokenRequest::new(Reason::First)).await?;
//! assert_eq!(token.secret(), "mF_9.B5f-4.1JqM");
//! # Ok(())
//! # }
//! ```
//!
//! | where the token is | source |
//! | --- | --- |
//! | in the program | [`StoredToken::new`] |
//! | in an environment variable | [`StoredToken::env`] |
//! | in a file, such as Kubernetes' projected service account tokens | [`StoredToken::file`] |
//! | anywhere else that a [`Secret`](crate::Secret) can read | [`StoredToken::new`] |
//! | printed by `ibmcloud`, `gcloud`, `az`, a Kubernetes exec plugin, any other program | `TokenCommand` (feature `command`) |

#[cfg(feature = "command")]
mod command;
mod stored;

use crate::token::{AccessToken, InvalidToken};

#[cfg(all(fuzzing, feature = "command"))]
#[doc(hidden)]
pub use command::check_command_output;
#[cfg(feature = "command")]
#[cfg_attr(docsrs, doc(cfg(feature = "command")))]
pub use command::{CommandError, CommandErrorKind, OutputFormat, TokenCommand};
pub use stored::{StoredToken, StoredTokenError};

const SCHEME: &str = "Bearer";

/// Makes a token from a text that people and programs write in more than one way.
fn access_token(text: &str) -> Result<AccessToken, InvalidToken> {
    let text = text.trim();
    AccessToken::new(after_scheme(text).unwrap_or(text))
}

/// What follows `Bearer`, possibly nothing: `"Bearer $NEVER_SET"` is no token.
fn after_scheme(text: &str) -> Option<&str> {
    let (scheme, after) = text.split_at_checked(SCHEME.len())?;
    let ends = after.is_empty() || after.starts_with(char::is_whitespace);
    (ends && scheme.eq_ignore_ascii_case(SCHEME)).then(|| after.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_may_stand_in_front_of_a_token_or_not() {
        for text in ["abc", "Bearer abc", " bearer  abc\r\n", "BEARER\tabc"] {
            assert_eq!(access_token(text).unwrap().secret(), "abc", "{text:?}");
        }
        assert_eq!(access_token("Bearerabc").unwrap().secret(), "Bearerabc");
    }

    #[test]
    fn the_scheme_alone_is_no_token() {
        for text in ["", " ", "Bearer", "Bearer "] {
            assert_eq!(access_token(text).unwrap_err(), InvalidToken::Empty, "{text:?}");
        }
        assert_eq!(access_token("Bearer Bearer abc").unwrap_err(), InvalidToken::Scheme);
        assert!(access_token("a b").is_err());
        assert!(access_token("Beare\u{e9}").is_err());
    }
}
