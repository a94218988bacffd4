//! Over TLS, with a private CA.
