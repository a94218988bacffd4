use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use reqwest::{Body, Client, RequestBuilder, redirect::Policy};
use serde_json::Value;
use tower_bearer::{AccessToken, TokenError, TokenSource, from_fn};

/// This is plain HTTP, which must not leave the machine: no proxy, no redirect.
fn client() -> reqwest::Result<Client> {
    Client::builder().no_proxy().redirect(Policy::none()).timeout(Duration::from_secs(5)).build()
}

/// Sends one request, and reads at most 64 KiB.
async fn ask(request: RequestBuilder) -> Result<Bytes, TokenError> {
    let answer = request.send().await.map_err(TokenError::transient)?;
    let status = answer.status();
    if status.is_server_error() || [404, 410, 429].contains(&status.as_u16()) {
        return Err(TokenError::transient(format!("the metadata server says {status}")));
    } else if !status.is_success() {
        return Err(TokenError::permanent(format!("the metadata server says {status}")));
    }
    let body = Limited::new(Body::from(answer), 64 * 1024).collect().await;
    Ok(body.map_err(TokenError::transient)?.to_bytes())
}

/// The lifetime is a number at Google, and a text at Azure.
fn granted(answer: &[u8]) -> Result<AccessToken, TokenError> {
    let answer: Value = serde_json::from_slice(answer).map_err(TokenError::transient)?;
    let token = answer["access_token"].as_str().unwrap_or_default();
    let token = AccessToken::new(token).map_err(TokenError::transient)?;
    let life = &answer["expires_in"];
    let seconds = life.as_u64().or_else(|| life.as_str()?.parse().ok());
    let seconds = seconds.ok_or_else(|| TokenError::transient("no `expires_in`"))?;
    Ok(token.with_lifetime(Duration::from_secs(seconds)))
}

/// Google Compute Engine, GKE, Cloud Run: a token of the service account that the machine has.
fn google(client: Client, server: &'static str) -> impl TokenSource {
    from_fn(move |_| {
        let url = format!("{server}/computeMetadata/v1/instance/service-accounts/default/token");
        let request = client.get(url).header("Metadata-Flavor", "Google");
        async move { granted(&ask(request).await?) }
    })
}

/// Azure: a token of the machine's managed identity, for a resource as `https://vault.azure.net`.
fn azure(client: Client, server: &'static str, resource: &'static str) -> impl TokenSource {
    from_fn(move |_| {
        let path = "metadata/identity/oauth2/token?api-version=2018-02-01";
        let url = format!("{server}/{path}&resource={resource}");
        let request = client.get(url).header("Metadata", "true");
        async move { granted(&ask(request).await?) }
    })
}

/// EC2 (IMDSv2): `login` exchanges what AWS has signed about the machine for a token.
fn ec2<L, F>(client: Client, server: &'static str, login: L) -> impl TokenSource
where
    L: Fn(Bytes) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<AccessToken, TokenError>> + Send,
{
    from_fn(move |_| {
        let (client, login) = (client.clone(), login.clone());
        async move {
            let session = client.put(format!("{server}/latest/api/token"));
            let session = session.header("X-aws-ec2-metadata-token-ttl-seconds", 60);
            let session = ask(session).await?;
            let identity = client.get(format!("{server}/latest/dynamic/instance-identity/pkcs7"));
            let identity = identity.header("X-aws-ec2-metadata-token", &session[..]);
            login(ask(identity).await?).await
        }
    })
}
