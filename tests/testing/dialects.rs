//! Each dialect, asked rightly and wrongly.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use tower_bearer::{
    oauth2::{ClientAuth, providers},
    testing::{CLIENT_ID, CLIENT_SECRET, Dialect},
};

use super::support::{BASIC, DIALECTS, FORM, call, cause, fetch, post, stack, world};

#[tokio::test]
async fn the_four_providers_and_the_rfc_are_served_where_they_are_pointed_here() {
    let world = world().await;
    let url = |dialect| world.tokens().url(dialect);
    let builders = [
        providers::greennode(CLIENT_ID, CLIENT_SECRET).url(url(Dialect::GreenNode)),
        providers::ianum(CLIENT_ID, CLIENT_SECRET).url(url(Dialect::Ianum)),
        providers::ibm_cloud(CLIENT_SECRET).url(url(Dialect::IbmCloud)),
        providers::ibm_verify("x", CLIENT_ID, CLIENT_SECRET).url(url(Dialect::IbmVerify)),
        world.tokens().endpoint(),
        world.tokens().endpoint().client_auth(ClientAuth::Body),
    ];
    for (before, builder) in builders.into_iter().enumerate() {
        let stack = stack(&world, builder);
        let (status, headers, body) = call(&stack, world.api().url("/v1/x?y=z"), "a rose").await;
        assert_eq!((status, body.as_str()), (StatusCode::OK, "a rose"));
        assert_eq!(headers["echo-token"], format!("t-{}", before + 1));
        assert_eq!(headers["echo-method"], "POST");
        assert_eq!(headers["echo-path"], "/v1/x?y=z");
        assert_eq!(headers["content-type"], "text/x-poem");
    }
    assert_eq!((world.tokens().fetches(), world.tokens().issued()), (6, 6));
    assert_eq!((world.api().calls(), world.api().accepted(), world.api().rejected()), (6, 6, 0));
}

#[tokio::test]
async fn each_dialect_takes_the_builder_made_for_it_and_no_other_secret() {
    let world = world().await;
    for dialect in DIALECTS {
        let token = fetch(world.tokens().endpoint_of(dialect)).await.unwrap();
        assert_eq!(token.lifetime(), Some(Duration::from_secs(3600)), "{dialect:?}");
    }
    let before: Vec<_> = DIALECTS.map(|dialect| world.tokens().endpoint_of(dialect)).into();
    world.tokens().set_secret("rotated");
    for (dialect, stale) in DIALECTS.into_iter().zip(before) {
        let error = fetch(stale).await.unwrap_err();
        let (code, status) = match dialect {
            Dialect::IbmCloud => ("BXNIM0415E", 400),
            _ => ("invalid_client", 401),
        };
        assert_eq!(cause(&error).error(), Some(code), "{dialect:?}");
        assert_eq!(cause(&error).status().unwrap(), status, "{dialect:?}");
        assert!(!error.is_transient());
        assert!(fetch(world.tokens().endpoint_of(dialect)).await.is_ok(), "{dialect:?}");
    }
}

#[tokio::test]
async fn a_secret_that_is_escaped_where_it_should_not_be_or_the_other_way_round_is_refused() {
    let world = world().await;
    let escaped = world.tokens().endpoint_of(Dialect::GreenNode).client_auth(ClientAuth::Basic);
    let raw = world.tokens().endpoint().client_auth(ClientAuth::BasicRaw);
    for builder in [escaped, raw] {
        let error = fetch(builder).await.unwrap_err();
        assert_eq!(cause(&error).error(), Some("invalid_client"));
    }
    assert_eq!(world.tokens().issued(), 0);
}

#[tokio::test]
async fn answers_have_what_their_documents_show() {
    let world = world().await;
    let json = ["Content-Type: application/json"];
    let client = "client_id=my-app&client_secret=a+secret%2B100%25";
    let body = format!("grant_type=client_credentials&{client}&scope=a+b");

    let (status, answer) = post(&world, "/token", &[FORM], &body).await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert_eq!(
        answer.to_string(),
        r#"{"access_token":"t-1","expires_in":3600,"scope":"a b","token_type":"Bearer"}"#
    );
    let (_, answer) = post(&world, "/oidc/endpoint/default/token", &[FORM], &body).await;
    assert_eq!(answer["grant_id"], "grant-t-2");

    let body = "{\"client_id\":\"my-app\",\"client_secret\":\"a secret+100%\",\
                \"grant_type\":\"client_credentials\"}";
    let (_, answer) = post(&world, "/v1_3/oauth/token", &json, body).await;
    assert_eq!(answer["token_type"], "Baerer");

    let body = "grant_type=urn:ibm:params:oauth:grant-type:apikey&apikey=a+secret%2B100%25";
    let (_, answer) = post(&world, "/identity/token", &[FORM], body).await;
    assert_eq!(answer["refresh_token"], "not_supported");
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!(answer["expiration"].as_u64().unwrap().abs_diff(now + 3600) <= 30);
}

#[tokio::test]
async fn what_a_request_lacks_is_said_in_the_shape_of_its_dialect() {
    let world = world().await;
    let client = "client_id=my-app&client_secret=a+secret%2B100%25";
    let password = format!("{client}&grant_type=password");
    let refresh = format!("{client}&grant_type=refresh_token&refresh_token=r-1");
    let both = format!("{client}&grant_type=client_credentials");
    for (path, headers, body, code) in [
        ("/token", vec![FORM], client, "invalid_request"),
        ("/token", vec![FORM], &password, "unsupported_grant_type"),
        ("/token", vec![FORM, BASIC], &both, "invalid_request"),
        ("/token", vec![BASIC], "grant_type=client_credentials", "invalid_request"),
        ("/token", vec![FORM, BASIC], "grant_type=refresh_token", "invalid_request"),
        ("/token", vec![FORM], "grant_type=client_credentials", "invalid_client"),
        ("/v1_3/oauth/token", vec![FORM], &both, "invalid_request"),
        ("/accounts/v2/auth/token", vec![FORM], &both, "invalid_client"),
        ("/v1.0/endpoint/default/token", vec![FORM, BASIC], "a=b", "invalid_client"),
        ("/v1.0/endpoint/default/token", vec![FORM], &refresh, "unsupported_grant_type"),
    ] {
        let (status, answer) = post(&world, path, &headers, body).await;
        assert_eq!(answer["error"], code, "{path} {body}");
        assert_eq!(status.contains(" 401 "), code == "invalid_client", "{status}");
    }
    let (_, answer) = post(&world, "/identity/token", &[FORM], "apikey=a").await;
    assert_eq!(answer["errorCode"], "BXNIM0415E");
    let (_, answer) = post(&world, "/identity/token", &[FORM], "apikey=a+secret%2B100%25").await;
    assert_eq!(answer["errorMessage"], "grant_type is missing");
    // The header itself is right.
    let body = "grant_type=client_credentials";
    assert_eq!(post(&world, "/token", &[FORM, BASIC], body).await.1["access_token"], "t-1");
}
