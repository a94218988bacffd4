//! hyper-util's client over rustls, with a private certificate authority.

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Version};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer};
use tower::{Layer, ServiceExt};
use tower_bearer::{BearerAuth, BearerAuthLayer};

use crate::{
    loopback::{self, Tokens},
    world::{bounded, token_url},
};

type Stack = BearerAuth<Client<HttpsConnector<HttpConnector>, Full<Bytes>>>;

fn client(roots: RootCertStore) -> Client<HttpsConnector<HttpConnector>, Full<Bytes>> {
    let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_only()
        .enable_all_versions()
        .build();
    Client::builder(TokioExecutor::new()).build(connector)
}

fn trusting(authority: CertificateDer<'static>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(authority).unwrap();
    roots
}

async fn stack(tokens: &Tokens, trusts: bool) -> (Stack, String) {
    let (api, authority) = loopback::tls::serve(loopback::protected_api(tokens)).await.unwrap();
    let roots = if trusts { trusting(authority.der().clone()) } else { RootCertStore::empty() };
    let endpoint = loopback::endpoint(&token_url(tokens).await).unwrap();
    let layer = BearerAuthLayer::new(endpoint).origin(&api).unwrap();
    (layer.layer(client(roots)), api)
}

fn post(api: &str, text: String) -> Request<Full<Bytes>> {
    Request::post(format!("{api}/reports")).body(Full::from(text)).unwrap()
}

#[tokio::test]
async fn a_revoked_token_is_replaced_once_for_all_calls_over_one_connection() {
    let tokens = Tokens::default();
    let (stack, api) = stack(&tokens, true).await;
    for token in ["t1", "t2"] {
        let calls = (0..50).map(|n| {
            let (stack, request) = (stack.clone(), post(&api, format!("report {n}")));
            async move {
                let response = stack.oneshot(request).await.unwrap();
                assert_eq!(response.version(), Version::HTTP_2);
                let text = loopback::text(response).await.unwrap();
                assert_eq!(text, format!("POST /reports with {token}: report {n}"));
            }
        });
        bounded(join_all(calls)).await;
        tokens.revoke();
    }
    assert_eq!(tokens.issued(), 2);
}

#[tokio::test]
async fn a_server_with_an_untrusted_certificate_gets_no_token() {
    let tokens = Tokens::default();
    let (stack, api) = stack(&tokens, false).await;
    let error = bounded(stack.oneshot(post(&api, String::new()))).await.unwrap_err();
    assert!(error.is::<hyper_util::client::legacy::Error>(), "{error:?}");
    assert_eq!((tokens.issued(), tokens.shown().len()), (1, 0));
}
