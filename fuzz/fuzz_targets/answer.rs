//! The answer of a token endpoint: a token or an error that shows nothing of it.
#![no_main]

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use libfuzzer_sys::fuzz_target;
use tower_bearer::{Reason, TokenRequest, TokenSource, oauth2::TokenEndpoint};

fuzz_target!(|input: (u16, &[u8])| {
    let (status, body) = (200 + input.0 % 400, Bytes::copy_from_slice(input.1));
    let transport = tower::service_fn(move |_: Request<Full<Bytes>>| {
        let response = Response::builder().status(status).body(Full::new(body.clone()));
        std::future::ready(Ok::<_, Infallible>(response.expect("a status")))
    });
    let endpoint = TokenEndpoint::builder("https://auth.example.com/token")
        .client_id("id")
        .client_secret("hush-hush-hush")
        .transport(transport)
        .build()
        .expect("an endpoint");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let fetched = runtime.expect("a runtime").block_on(endpoint.fetch(TokenRequest::new(Reason::First)));
    if let Err(error) = fetched {
        let shown = format!("{error} {error:?}");
        assert!(shown.chars().all(|c| (' '..='~').contains(&c)), "{shown:?}");
        assert!(!shown.contains("hush-hush-hush"), "{shown}");
    }
});
