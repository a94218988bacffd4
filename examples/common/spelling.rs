//! Finds environment variables with a misspelled name.

use std::env;

/// Names a variable that is set under another spelling of a missing one: `IBM_CLOUD_API_KEY` for
/// `IBMCLOUD_API_KEY`. The hint contains no value.
pub(crate) fn hint(missing: &[&str]) -> String {
    let plain = |name: &str| name.replace('_', "").to_ascii_uppercase();
    let set: Vec<_> = env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
    let mut missing = missing.iter().flat_map(|names| names.split(" or "));
    let other =
        |name: &str| set.iter().find(|set| *set != name && plain(set) == plain(name)).cloned();
    let found = missing.find_map(|name| Some((other(name)?, name)));
    found.map(|(set, name)| format!(" ({set} is set: the name is {name})")).unwrap_or_default()
}
