//! The names of keys' records, by which a store distinguishes them from all others.

/// The separator between the name of a source and the digest of a key.
const KEY: &str = "/key-";
/// The length of a digest in hexadecimal digits.
const DIGEST_LEN: usize = 32;

/// The name of the record of a key.
#[cfg(feature = "keyed")]
pub(super) fn of_key(name: &str, digest: &str) -> String {
    format!("{name}{KEY}{digest}")
}

/// Whether that is the record of a key. It never has a refresh token: deleting it costs a fetch
/// and nothing else.
#[cfg(unix)]
pub(super) fn is_of_key(name: &str) -> bool {
    let digest = name.rsplit_once(KEY).map(|(_, digest)| digest.as_bytes());
    digest.is_some_and(|it| it.len() == DIGEST_LEN && it.iter().all(u8::is_ascii_hexdigit))
}

#[cfg(all(test, unix, feature = "keyed"))]
mod tests {
    use super::*;

    #[test]
    fn the_record_of_a_key_is_told_from_all_others() {
        let digest = "0123456789abcdef".repeat(2);
        assert!(is_of_key(&of_key("orders/eu", &digest)));
        for name in ["orders", "orders/key-1", &format!("orders/{digest}"), &digest, "/key-"] {
            assert!(!is_of_key(name), "{name}");
        }
        assert!(!is_of_key(&of_key("orders", &digest.replace('0', "g"))));
    }
}
