//! A policy as data.

use serde::{Deserialize, Deserializer, de::Error};

use super::{Numbers, RefreshPolicy};
use crate::data::keyed;

/// With feature `serde`: the keys are the names of the [builder](super::RefreshPolicyBuilder)'s
/// methods, durations are in seconds, and a missing key keeps its default.
///
/// ```
/// # use tower_bearer::RefreshPolicy;
/// let policy: RefreshPolicy = toml::from_str("max_wait = 2.5\nattempts = 5\nkeep_warm = true")?;
///
/// let error = toml::from_str::<RefreshPolicy>("attempts = 0").unwrap_err();
/// assert_eq!(error.message(), "the refresh policy's `attempts` must be from 1 to 10");
/// # Ok::<(), toml::de::Error>(())
/// ```
///
/// # Errors
///
/// The error names a key that is unknown, out of its range, or in contradiction to another.
impl<'de> Deserialize<'de> for RefreshPolicy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let numbers: Numbers = keyed(deserializer)?;
        numbers.builder().build().map_err(D::Error::custom)
    }
}
