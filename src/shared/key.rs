//! The parts of a key from which all processes compute the same digest.

use crate::key::TokenKey;

/// Everything that distinguishes two keys. Each part is preceded by one that names it.
pub(super) fn parts(key: &TokenKey) -> impl Iterator<Item = &[u8]> {
    let tagged =
        |tag: &'static str, value: Option<_>| value.map(|value| [tag, value]).into_iter().flatten();
    let subject = key.subject().map(|subject| subject.token().secret());
    tagged("scope", key.requested_scope())
        .chain(tagged("audience", key.requested_audience()))
        .chain(key.requested_resources().flat_map(|resource| ["resource", resource]))
        .chain(key.params().flat_map(|(name, value)| ["param", name, value]))
        .chain(tagged("subject", subject))
        .map(str::as_bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::{key::Subject, token::AccessToken};

    #[test]
    fn keys_that_differ_in_anything_have_other_parts() {
        let key = TokenKey::new;
        let subject = |token| Subject::new(AccessToken::new(token).unwrap());
        let keys = [
            key(),
            key().scope("a"),
            key().audience("a"),
            key().resource("urn:a"),
            key().resource("urn:a").resource("urn:b"),
            key().param("a", "b"),
            key().param("a", "b").param("c", "d"),
            key().on_behalf_of(subject("a")),
            key().on_behalf_of(subject("b")),
        ];
        let all: HashSet<Vec<&[u8]>> = keys.iter().map(|key| parts(key).collect()).collect();
        assert_eq!(all.len(), keys.len());
        let again = key().param("c", "d").param("a", "b");
        assert!(all.contains(&parts(&again).collect::<Vec<_>>()));
    }
}
