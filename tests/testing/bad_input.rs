//! What comes to the servers and should not.

use http::StatusCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::support::{FORM, address, bounded, call, get, raw, stack, token_address, world};

#[tokio::test]
async fn the_challenge_says_what_is_wrong_with_a_token() {
    let world = world().await;
    let api = address(&world.api().origin());
    for (authorization, status, challenge) in [
        ("", "401", "Bearer realm=\"testing\"\r\n"),
        ("Authorization: Basic YTpi\r\n", "401", "Bearer realm=\"testing\"\r\n"),
        ("Authorization: Bearer\r\n", "401", "Bearer realm=\"testing\"\r\n"),
        ("Authorization: Bearer \u{e9}\r\n", "401", "Bearer realm=\"testing\"\r\n"),
        ("Authorization: Bearer t-1\r\n", "401", "error=\"invalid_token\""),
        (
            "Authorization: Bearer t-1\r\nAuthorization: Bearer t-1\r\n",
            "400",
            "error=\"invalid_request\"",
        ),
    ] {
        let answer = raw(api, get(authorization)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains("www-authenticate: Bearer realm=\"testing\""), "{answer}");
        assert!(answer.contains(challenge), "{authorization}: {answer}");
    }
    assert_eq!((world.api().rejected(), world.api().accepted()), (6, 0));
}

#[tokio::test]
async fn a_call_is_rejected_before_its_body_is_there() {
    let world = world().await;
    let mut stream = TcpStream::connect(address(&world.api().origin())).await.unwrap();
    let head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        assert!(bounded(stream.read_buf(&mut answer)).await.unwrap() > 0);
    }
    assert!(answer.starts_with(b"HTTP/1.1 401 "));
}

#[tokio::test]
async fn a_client_that_reads_only_after_it_has_written_gets_its_rejection() {
    let world = world().await;
    for (address, status) in [(address(&world.api().origin()), 401), (token_address(&world), 413)] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let body = vec![b'x'; 16 * 1024 * 1024];
        let head =
            format!("POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
        bounded(stream.write_all(head.as_bytes())).await.unwrap();
        bounded(stream.write_all(&body)).await.unwrap();
        let mut answer = [0; 12];
        bounded(stream.read_exact(&mut answer)).await.unwrap();
        assert_eq!(answer, format!("HTTP/1.1 {status}").as_bytes());
    }
}

#[tokio::test]
async fn hostile_input_gets_an_error_and_harms_nobody() {
    let world = world().await;
    let (tokens, api) = (token_address(&world), address(&world.api().origin()));
    let too_large = "x".repeat(128 * 1024);
    let post = |headers: &str, body: &[u8]| {
        let length = body.len();
        let head = format!(
            "POST /token HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n\
             Content-Length: {length}\r\n\r\n"
        );
        [head.as_bytes(), body].concat()
    };
    for (bytes, status) in [
        (post(FORM, too_large.as_bytes()), "413"),
        (post(FORM, b"\xff\xfe&&&===%zz"), "401"),
        (post("Authorization: Basic !!!!\r\nContent-Type: \u{ff}", b""), "400"),
        (post(&format!("{FORM}\r\nAuthorization: Basic /////w=="), b""), "401"),
        (post(&format!("{FORM}\r\nAuthorization: Basic"), b""), "401"),
        (get("").replace(" / ", " /token ").into_bytes(), "400"),
        (get("").into_bytes(), "404"),
        (b"\0\xff\r\n\r\n".to_vec(), "400"),
        (format!("GET /{too_large} HTTP/1.1\r\n\r\n").into_bytes(), "414"),
    ] {
        let answer = raw(tokens, &bytes).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {answer}");
    }
    let json = "[".repeat(10_000);
    let deep = format!(
        "POST /v1_3/oauth/token HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: 10000\r\n\r\n{json}"
    );
    assert!(raw(tokens, deep).await.starts_with("HTTP/1.1 400 "));
    for bytes in [&b""[..], b"\r\n", b"CONNECT x:1 HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\n"] {
        for address in [api, tokens] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            stream.shutdown().await.unwrap();
            bounded(stream.read_to_end(&mut Vec::new())).await.unwrap();
        }
    }
    let fetches = world.tokens().fetches();
    assert_eq!((fetches, world.tokens().issued()), (7, 0), "unknown paths are no fetches");
    let stack = stack(&world, world.tokens().endpoint());
    assert_eq!(call(&stack, world.api().url("/"), "").await.0, StatusCode::OK);
}
