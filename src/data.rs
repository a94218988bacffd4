//! How the crate reads configuration (feature `serde`). Its errors name the key and show no value
//! that may be a secret.

#[cfg(feature = "oauth2")]
mod secret;
mod tree;

use std::time::Duration;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error},
};
use serde_json::Value;
use serde_path_to_error::Segment;

use self::tree::{Problem, Tree};

#[cfg(feature = "oauth2")]
pub(crate) use secret::{Either, SecretOrText, TextOrSecret};

/// Reads a value, and names the key in the error.
///
/// It goes through a tree, because a format's own errors quote the value that they are about, which
/// may be a secret.
pub(crate) fn keyed<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: DeserializeOwned,
    D: Deserializer<'de>,
{
    let tree = Value::deserialize(deserializer)?;
    serde_path_to_error::deserialize(Tree(tree)).map_err(|error| D::Error::custom(placed(&error)))
}

fn placed(error: &serde_path_to_error::Error<Problem>) -> String {
    let problem = error.inner();
    let mut path: Vec<_> = error.path().iter().collect();
    // If the key itself is wrong, the error names the place around it.
    if problem.hides_key || matches!(path.last(), Some(Segment::Unknown)) {
        path.pop();
    }
    let mut place = String::new();
    for segment in path {
        let is_inside = !place.is_empty() && !matches!(segment, Segment::Seq { .. });
        place += if is_inside { "." } else { "" };
        place += &segment.to_string();
    }
    let problem = problem.to_string();
    // serde itself names a key that is missing or unknown.
    if place.is_empty() || problem.contains(&format!("field `{place}`")) {
        return problem;
    }
    format!("`{place}`: {problem}")
}

/// A value as configuration writes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written<T>(pub(crate) T);

// ===== impl Written =====

/// In seconds: an integer, or a float.
impl<'de> Deserialize<'de> for Written<Duration> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        let problem = |_| Error::custom("must be a number of seconds that is not negative");
        Duration::try_from_secs_f64(seconds).map(Self).map_err(problem)
    }
}

impl<'de> Deserialize<'de> for Written<f64> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        f64::deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for Written<u32> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u32::deserialize(deserializer).map(Self)
    }
}
