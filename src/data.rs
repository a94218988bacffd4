//! What every configuration is read with (feature `serde`): errors that name the key and show
//! no value that may be a secret.

#[cfg(feature = "oauth2")]
mod secret;

use std::time::Duration;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error},
};
use serde_json::Value;

#[cfg(feature = "oauth2")]
pub(crate) use secret::SecretOrText;

/// Reads a value, and names the key in the error.
///
/// It goes by way of a tree, because a format's own errors may quote the line that they are
/// about, in which there may be a secret.
pub(crate) fn keyed<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: DeserializeOwned,
    D: Deserializer<'de>,
{
    let tree = Value::deserialize(deserializer)?;
    serde_path_to_error::deserialize(tree).map_err(|error| {
        let (path, problem) = (error.path().to_string(), without_value(error.inner().to_string()));
        // A key that is wrong itself has no place yet; serde names it, as it does one that is
        // unknown or missing. The top is a mere dot.
        let path = path.trim_end_matches(".?");
        if path == "." || problem.contains(&format!("field `{path}`")) {
            D::Error::custom(problem)
        } else {
            D::Error::custom(format_args!("`{path}`: {problem}"))
        }
    })
}

/// serde shows a value of the wrong type, which may be a secret that was put in a wrong place.
fn without_value(problem: String) -> String {
    let value = problem.find(" \"").or_else(|| problem.find(" `"));
    match (value, problem.rfind(", expected ")) {
        (Some(start), Some(end)) if problem.starts_with("invalid ") && start < end => {
            problem[..start].to_owned() + &problem[end..]
        }
        _ => problem,
    }
}

/// A value as it is written in data.
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
