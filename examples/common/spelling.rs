//! Variables of the environment that are set, but under another spelling of their name.

use std::env;

/// Names one that is set in the place of one of those that are missing: `IBM_CLOUD_API_KEY` for
/// `IBMCLOUD_API_KEY`. No value is shown.
pub(crate) fn hint(missing: &[&str]) -> String {
    let plain = |name: &str| name.replace('_', "").to_ascii_uppercase();
    let set: Vec<_> = env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
    let mut missing = missing.iter().flat_map(|names| names.split(" or "));
    let other =
        |name: &str| set.iter().find(|set| *set != name && plain(set) == plain(name)).cloned();
    let found = missing.find_map(|name| Some((other(name)?, name)));
    found.map(|(set, name)| format!(" ({set} is set: the name is {name})")).unwrap_or_default()
}
