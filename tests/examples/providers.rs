//! The examples of the four providers.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use axum::{
    body::{Body, Bytes},
    response::{IntoResponse, Response},
};
use http::{StatusCode, header::CONTENT_TYPE};
use tokio::{io::AsyncReadExt, process::Command, sync::mpsc, time::timeout};

use super::support::{BOUND, Server, example, run};

// ===== How each is started =====

fn ibm_cloud(iam: &Server, key_protect: &Server) -> Command {
    let mut command = example("ibm_cloud");
    command
        .env("IBMCLOUD_API_KEY", "my-key_0")
        .env("IBMCLOUD_INSTANCE_ID", "instance-7")
        .env("IBMCLOUD_TOKEN_URL", format!("{}/identity/token", iam.url))
        .env("IBMCLOUD_API_URL", format!("{}/api/v2/keys", key_protect.url));
    command
}

fn ibm_verify(tenant: &Server, api: &Server) -> Command {
    let mut command = example("ibm_verify");
    command
        .env("IBM_VERIFY_TENANT", "tenant.verify.ibm.com")
        .env("IBM_VERIFY_CLIENT_ID", "my-id")
        .env("IBM_VERIFY_CLIENT_SECRET", "my secret&")
        .env("IBM_VERIFY_TOKEN_URL", format!("{}/v1.0/endpoint/default/token", tenant.url))
        .env("IBM_VERIFY_API_URL", format!("{}/v2.0/Users?count=1", api.url));
    command
}

fn greennode(iam: &Server, inference: &Server) -> Command {
    let mut command = example("greennode");
    command
        .env("GREENNODE_CLIENT_ID", "my-id")
        .env("GREENNODE_CLIENT_SECRET", "s3 cr%t~")
        .env("GREENNODE_MODEL", "llama")
        .env("GREENNODE_TOKEN_URL", format!("{}/accounts/v2/auth/token", iam.url))
        .env("GREENNODE_API_URL", format!("{}/v1/chat/completions", inference.url));
    command
}

fn ianum(auth: &Server, api: &Server) -> Command {
    let mut command = example("ianum");
    command
        .env("IANUM_CLIENT_ID", "gate_0123456789abc")
        .env("IANUM_CLIENT_SECRET", "my \"secret\"")
        .env("IANUM_TOKEN_URL", format!("{}/v1_3/oauth/token", auth.url))
        .env("IANUM_API_URL", format!("{}/things", api.url));
    command
}

// ===== What they send and print =====

const IBM_ANSWER: &str = r#"{"access_token":"eyJhbGciOi","expiration":1512161390,
    "expires_in":3600,"refresh_token":"not_supported","token_type":"Bearer"}"#;

const KEYS: &str = r#"{"metadata":{"collectionTotal":2},"resources":[
    {"id":"02fd-1","type":"application/vnd.ibm.kms.key+json","name":"root","state":1},
    {"id":"02fd-2","type":"application/vnd.ibm.kms.key+json","name":"old key","state":5}]}"#;

#[tokio::test]
async fn ibm_cloud_lists_the_keys_of_an_instance() {
    let iam = Server::answering(200, IBM_ANSWER).await;
    let key_protect = Server::answering(200, KEYS).await;
    let printed = run(&mut ibm_cloud(&iam, &key_protect)).await.printed();
    assert_eq!(printed, "\"02fd-1\" 1 \"root\"\n\"02fd-2\" 5 \"old key\"\n");
    let body = "grant_type=urn%3Aibm%3Aparams%3Aoauth%3Agrant-type%3Aapikey&apikey=my-key_0";
    assert_eq!(
        iam.request(),
        format!(
            "POST /identity/token\n\
             accept: application/json\n\
             content-length: {}\n\
             content-type: application/x-www-form-urlencoded\n\
             host: HOST\n\
             user-agent: tower-bearer/{}\n\n{body}",
            body.len(),
            env!("CARGO_PKG_VERSION")
        )
    );
    assert_eq!(
        key_protect.request(),
        "GET /api/v2/keys\n\
         accept: application/vnd.ibm.collection+json\n\
         authorization: Bearer eyJhbGciOi\n\
         bluemix-instance: instance-7\n\
         host: HOST\n\n"
    );
}

#[tokio::test]
async fn ibm_cloud_takes_the_key_from_a_file_too() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), r#"{"name":"ci","apikey":"key-of-the-file"}"#).unwrap();
    let iam = Server::answering(200, IBM_ANSWER).await;
    let key_protect = Server::answering(200, r#"{"metadata":{"collectionTotal":0}}"#).await;
    let mut command = ibm_cloud(&iam, &key_protect);
    command.env_remove("IBMCLOUD_API_KEY").env("IBMCLOUD_KEY_FILE", file.path());
    assert_eq!(run(&mut command).await.printed(), "");
    assert!(iam.request().ends_with("&apikey=key-of-the-file"));
    assert_eq!(key_protect.seen().len(), 1);
}

#[tokio::test]
async fn ibm_verify_calls_an_api() {
    let answer =
        r#"{"access_token":"wj0LQ4tP","grant_id":"b7d4","token_type":"Bearer","expires_in":7200}"#;
    let tenant = Server::answering(200, answer).await;
    let api = Server::answering(200, r#"{"totalResults":1}"#).await;
    let printed = run(&mut ibm_verify(&tenant, &api)).await.printed();
    assert_eq!(printed, r#"{"totalResults":1}"#);
    let body = "grant_type=client_credentials&client_id=my-id&client_secret=my+secret%26";
    assert_eq!(
        tenant.request(),
        format!(
            "POST /v1.0/endpoint/default/token\n\
             accept: application/json\n\
             content-length: {}\n\
             content-type: application/x-www-form-urlencoded\n\
             host: HOST\n\
             user-agent: tower-bearer/{}\n\n{body}",
            body.len(),
            env!("CARGO_PKG_VERSION")
        )
    );
    assert_eq!(
        api.request(),
        "GET /v2.0/Users?count=1\naccept: */*\nauthorization: Bearer wj0LQ4tP\nhost: HOST\n\n"
    );
}

#[tokio::test]
async fn ianum_calls_an_api_and_its_baerer_is_a_bearer() {
    let answer = r#"{"access_token":"EAWkU7g","token_type":"Baerer","expires_in":3600}"#;
    let auth = Server::answering(200, answer).await;
    let api = Server::answering(200, "things").await;
    assert_eq!(run(&mut ianum(&auth, &api)).await.printed(), "things");
    let body = r#"{"client_id":"gate_0123456789abc","client_secret":"my \"secret\"","grant_type":"client_credentials"}"#;
    assert_eq!(
        auth.request(),
        format!(
            "POST /v1_3/oauth/token\n\
             accept: application/json\n\
             content-length: {}\n\
             content-type: application/json\n\
             host: HOST\n\
             user-agent: tower-bearer/{}\n\n{body}",
            body.len(),
            env!("CARGO_PKG_VERSION")
        )
    );
    assert_eq!(
        api.request(),
        "GET /things\naccept: */*\nauthorization: Bearer EAWkU7g\nhost: HOST\n\n"
    );
}

// ===== The streamed answer =====

const GREENNODE_ANSWER: &str =
    r#"{"token_type":"Bearer","access_token":"eyJhbGciOiJSUz","expires_in":36000}"#;

/// Server-sent events that the test writes, of one answer.
async fn inference() -> (Server, mpsc::UnboundedSender<&'static [u8]>) {
    let (sender, mut events) = mpsc::unbounded_channel();
    let events = futures_util::stream::poll_fn(move |cx| {
        events.poll_recv(cx).map(|event| event.map(|event| Ok::<_, Infallible>(Bytes::from(event))))
    });
    let body = Arc::new(Mutex::new(Some(Body::from_stream(events))));
    let server = Server::start(move |_| {
        let body = body.lock().unwrap().take().expect("one request");
        ([(CONTENT_TYPE, "text/event-stream")], body).into_response()
    });
    (server.await, sender)
}

#[tokio::test]
async fn greennode_prints_the_answer_as_it_comes() {
    let iam = Server::answering(200, GREENNODE_ANSWER).await;
    let (inference, events) = inference().await;
    let mut child = greennode(&iam, &inference).arg("Why?").spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut piece = async |length: usize| {
        let mut piece = vec![0; length];
        timeout(BOUND, stdout.read_exact(&mut piece)).await.expect("in time").unwrap();
        String::from_utf8(piece).unwrap()
    };

    // Each piece is printed before the next is sent; one is cut within a character.
    events.send(b"data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n").unwrap();
    events.send(b"data: {\"choices\":[{\"delta\":{\"content\":\"Because\"}}]}\n\n").unwrap();
    assert_eq!(piece(7).await, "Because");
    events
        .send(b": still there\r\n\r\ndata:{\"choices\":[{\"delta\":{\"content\":\" \xc3")
        .unwrap();
    events.send(b"\xbcber\"}}]}\r\n\r\n").unwrap();
    assert_eq!(piece(6).await, " \u{fc}ber");
    events.send(b"data: {\"choices\":[],\"error\":null}\n\ndata: [DONE]\n\n").unwrap();
    assert_eq!(piece(1).await, "\n");
    assert!(timeout(BOUND, child.wait()).await.expect("in time").unwrap().success());

    // base64("my-id:s3 cr%t~"): as it is.
    assert_eq!(
        iam.request(),
        format!(
            "POST /accounts/v2/auth/token\n\
             accept: application/json\n\
             authorization: Basic bXktaWQ6czMgY3IldH4=\n\
             content-length: 29\n\
             content-type: application/x-www-form-urlencoded\n\
             host: HOST\n\
             user-agent: tower-bearer/{}\n\ngrant_type=client_credentials",
            env!("CARGO_PKG_VERSION")
        )
    );
    let body = r#"{"messages":[{"content":"Why?","role":"user"}],"model":"llama","stream":true}"#;
    assert_eq!(
        inference.request(),
        format!(
            "POST /v1/chat/completions\n\
             accept: */*\n\
             authorization: Bearer eyJhbGciOiJSUz\n\
             content-length: {}\n\
             content-type: application/json\n\
             host: HOST\n\n{body}",
            body.len()
        )
    );
}

#[tokio::test]
async fn greennode_says_so_if_the_answer_breaks_off_or_the_model_fails() {
    for (events, problem) in [
        ("data: {\"choices\":[]}\n\n", "the answer broke off\n"),
        ("", "the answer broke off\n"),
        ("data: {\"error\":{\"code\":503}}\n\n", "the model failed: {\"code\":503}\n"),
    ] {
        let iam = Server::answering(200, GREENNODE_ANSWER).await;
        let inference = Server::answering(200, events).await;
        assert_eq!(run(&mut greennode(&iam, &inference)).await.failed(1), problem);
    }
}

#[tokio::test]
async fn greennode_gives_up_on_a_line_without_end() {
    static LINE: [u8; 1024 * 1024 + 1] = [b' '; 1024 * 1024 + 1];
    let iam = Server::answering(200, GREENNODE_ANSWER).await;
    let (inference, events) = inference().await;
    // The stream stays open: what ends the program is the limit.
    events.send(&LINE).unwrap();
    let failure = run(&mut greennode(&iam, &inference)).await.failed(1);
    assert_eq!(failure, "the answer has a line that is too long\n");
}

// ===== What goes wrong =====

#[tokio::test]
async fn each_says_in_one_line_what_is_missing() {
    for (name, missing) in [
        ("ibm_cloud", "IBMCLOUD_API_KEY or IBMCLOUD_KEY_FILE, IBMCLOUD_INSTANCE_ID"),
        (
            "ibm_verify",
            "IBM_VERIFY_TENANT, IBM_VERIFY_CLIENT_ID, IBM_VERIFY_CLIENT_SECRET, IBM_VERIFY_API_URL",
        ),
        (
            "greennode",
            "GREENNODE_CLIENT_ID, GREENNODE_CLIENT_SECRET, GREENNODE_MODEL, GREENNODE_API_URL",
        ),
        ("ianum", "IANUM_CLIENT_ID, IANUM_CLIENT_SECRET, IANUM_API_URL"),
    ] {
        let line = run(&mut example(name)).await.failed(2);
        let expected = format!("not set in the environment, or empty, or not UTF-8: {missing}\n");
        assert_eq!(line, expected, "{name}");
    }
}

#[tokio::test]
async fn another_spelling_of_a_name_that_is_missing_is_named_without_its_value() {
    let mut command = example("ibm_cloud");
    command.env("IBM_CLOUD_API_KEY", "hush").env("IBMCLOUD_INSTANCE_ID", "i");
    let line = run(&mut command).await.failed(2);
    let expected = "IBMCLOUD_API_KEY or IBMCLOUD_KEY_FILE \
                    (IBM_CLOUD_API_KEY is set: the name is IBMCLOUD_API_KEY)\n";
    assert!(line.ends_with(expected) && !line.contains("hush"), "{line}");
}

#[tokio::test]
async fn only_what_is_missing_is_named_and_nothing_is_sent() {
    let auth = Server::answering(200, IBM_ANSWER).await;
    let api = Server::answering(200, "things").await;
    let line = run(ianum(&auth, &api).env("IANUM_CLIENT_SECRET", "")).await.failed(2);
    assert_eq!(line, "not set in the environment, or empty, or not UTF-8: IANUM_CLIENT_SECRET\n");
    assert_eq!((auth.seen().len(), api.seen().len()), (0, 0));
}

type Start = fn(&Server, &Server) -> Command;

#[tokio::test]
async fn each_shows_the_status_of_an_api_that_refuses_and_a_bounded_piece_of_its_text() {
    let text = format!("no \u{1b}[31mentry{}", "!".repeat(10_000));
    for start in [ibm_cloud, ibm_verify, greennode, ianum] as [Start; 4] {
        let auth = Server::answering(200, r#"{"access_token":"hush","expires_in":60}"#).await;
        let text = text.clone();
        let api = Server::start(move |_| (StatusCode::FORBIDDEN, text.clone()).into_response());
        let api = api.await;
        let shown = run(&mut start(&auth, &api)).await.failed(1);
        assert!(shown.starts_with("the API answered 403 Forbidden: no  [31mentry"), "{shown}");
        assert!(shown.len() < 600 && shown.lines().count() == 1, "{shown}");
        assert!(!shown.contains("hush"), "{shown}");
    }
}

#[tokio::test]
async fn a_token_service_that_refuses_is_shown_and_the_api_is_not_called() {
    let refusal = r#"{"errorCode":"BXNIM0415E","errorMessage":"Provided API key my-key_0 could not be found."}"#;
    let iam = Server::answering(400, refusal).await;
    let key_protect = Server::answering(200, KEYS).await;
    let shown = run(&mut ibm_cloud(&iam, &key_protect)).await.failed(1);
    assert!(shown.contains("400 Bad Request"), "{shown}");
    assert!(shown.ends_with("BXNIM0415E: Provided API key *** could not be found.\n"), "{shown}");
    assert_eq!(key_protect.seen().len(), 0);
}

#[tokio::test]
async fn a_token_that_the_api_rejects_is_replaced() {
    let auth = tokens().await;
    let api = Server::start(|request| {
        if request.contains("authorization: Bearer token-2\n") {
            "things".into_response()
        } else {
            StatusCode::UNAUTHORIZED.into_response()
        }
    });
    let api = api.await;
    assert_eq!(run(&mut ianum(&auth, &api)).await.printed(), "things");
    assert_eq!((auth.seen().len(), api.seen().len()), (2, 2));
}

/// A token service whose tokens are numbered.
async fn tokens() -> Server {
    let count = Arc::new(AtomicUsize::new(0));
    let answer = move |_: &str| -> Response {
        let nth = 1 + count.fetch_add(1, SeqCst);
        format!(r#"{{"access_token":"token-{nth}","expires_in":3600}}"#).into_response()
    };
    Server::start(answer).await
}

#[tokio::test]
async fn a_redirect_of_the_api_is_not_followed() {
    let auth = tokens().await;
    let other = Server::answering(200, "a trap").await;
    let location = other.url.clone();
    let api = Server::start(move |_| {
        (StatusCode::FOUND, [("location", location.clone())]).into_response()
    });
    let api = api.await;
    let shown = run(&mut ibm_verify(&auth, &api)).await.failed(1);
    assert!(shown.starts_with("the API answered 302 Found"), "{shown}");
    assert_eq!(other.seen().len(), 0);
}

#[tokio::test]
async fn the_error_for_an_api_that_is_not_there_has_the_cause() {
    let auth = tokens().await;
    // Held and not accepted from; so nobody else gets the port.
    let api = tokio::net::TcpSocket::new_v4().unwrap();
    api.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/things", api.local_addr().unwrap());
    let mut command = ianum(&auth, &auth);
    let shown = run(command.env("IANUM_API_URL", &url)).await.failed(1);
    assert!(shown.contains(&url) && shown.to_lowercase().contains("refused"), "{shown}");
}

#[tokio::test]
async fn a_url_that_is_not_absolute_is_named() {
    let server = tokens().await;
    let mut command = ianum(&server, &server);
    let shown = run(command.env("IANUM_API_URL", "/things")).await.failed(1);
    assert_eq!(shown, "IANUM_API_URL is not absolute\n");
    assert_eq!(server.seen().len(), 0);
}
