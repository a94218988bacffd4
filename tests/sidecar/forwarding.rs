//! What arrives at the upstream, and what does not.

use std::net::SocketAddr;

use axum::{Router, body::Body, routing::any};
use http::{Request, StatusCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    Sidecar, Tokens, World, get, http2_client, mirror, post_to, send, serve, soon, text,
};

/// What is answered to these very bytes.
async fn raw(address: SocketAddr, request: &str) -> String {
    let mut connection = TcpStream::connect(address).await.expect("it listens");
    connection.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = Vec::new();
    soon(connection.read_to_end(&mut answer)).await.expect("it answers");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_request_arrives_as_it_was_with_the_token_on() {
    let world = World::mirroring().await;
    let sidecar = Sidecar::start(&world.config("")).await;
    let request = Request::patch(sidecar.url("/api/v1/a%20b?x=1&y=%2F"))
        .header("x-mine", "1")
        .header("x-mine", "2")
        .header("connection", "x-hop")
        .header("x-hop", "1")
        .header("te", "trailers")
        .body(Body::from("body"))
        .unwrap();
    let (status, seen) = text(send(request).await).await;
    assert_eq!(status, 200, "{seen}");
    let expected = [
        "PATCH /base/v1/a%20b?x=1&y=%2F\n".to_owned(),
        "\nx-mine: 1\nx-mine: 2\n".to_owned(),
        "\nvia: 1.1 sidecar\n".to_owned(),
        "\nte: trailers\n".to_owned(),
        "\nauthorization: Bearer t-1\n".to_owned(),
        "\ncontent-length: 4\n".to_owned(),
        format!("\nhost: {}\n", world.api),
        "\n\nbody".to_owned(),
    ];
    for part in expected {
        assert!(seen.contains(&part), "{part} in {seen}");
    }
    assert!(!seen.contains("x-hop") && !seen.contains("connection"), "{seen}");
}

#[tokio::test]
async fn a_response_comes_back_as_it_was_but_for_its_hop() {
    let router = Router::new().route(
        "/base/teapot",
        any(|| async {
            let headers = [("x-its", "1"), ("connection", "x-hop"), ("x-hop", "1")];
            (StatusCode::IM_A_TEAPOT, headers, "short and stout")
        }),
    );
    let sidecar = Sidecar::start(&World::new(router).await.config("")).await;
    let request = Request::get(sidecar.url("/api/teapot")).body(Body::empty()).unwrap();
    let response = send(request).await;
    assert_eq!(response.headers()["x-its"], "1");
    assert!(!response.headers().contains_key("x-hop"), "{:?}", response.headers());
    assert_eq!(text(response).await, (StatusCode::IM_A_TEAPOT, "short and stout".to_owned()));
}

#[tokio::test]
async fn a_token_goes_into_the_header_that_the_upstream_wants_and_the_clients_own_makes_room() {
    let tokens = Tokens::start().await;
    let api = serve(Router::new().fallback(mirror)).await;
    for (setting, expected) in [
        ("header = \"X-Api-Key\"\n", "\nx-api-key: t-1\n"),
        ("header = \"X-Api-Key\"\nscheme = \"Token\"\n", "\nx-api-key: Token t-2\n"),
        ("scheme = \"GenieKey\"\n", "\nauthorization: GenieKey t-3\n"),
    ] {
        let config = format!(
            "listen = \"127.0.0.1:0\"\n{}\n[upstreams.api]\npath = \"/api\"\n\
             to = \"http://{api}\"\nsource = \"local\"\n{setting}",
            tokens.source()
        );
        let sidecar = Sidecar::start(&config).await;
        let request = Request::get(sidecar.url("/api"))
            .header("x-api-key", "dummy")
            .header("authorization", "Bearer dummy")
            .body(Body::empty())
            .unwrap();
        let (status, seen) = text(send(request).await).await;
        assert_eq!(status, 200);
        assert!(seen.contains(expected), "{seen}");
        // What has no meaning for the layer is not for the upstream either.
        let is_dummy = |line: &str| line.contains("dummy") && !line.starts_with("x-api-key");
        assert!(!seen.lines().any(is_dummy), "{seen}");
        assert_eq!(seen.contains("x-api-key: dummy"), setting.starts_with("scheme"), "{seen}");
    }
}

#[tokio::test]
async fn a_clients_own_authorization_makes_room_for_the_token() {
    let sidecar = Sidecar::start(&World::mirroring().await.config("")).await;
    let request = Request::get(sidecar.url("/api"))
        .header("authorization", "Bearer dummy")
        .header("proxy-authorization", "Basic dummy")
        .body(Body::empty())
        .unwrap();
    let (status, seen) = text(send(request).await).await;
    assert_eq!(status, 200);
    assert!(seen.contains("\nauthorization: Bearer t-1\n") && !seen.contains("dummy"), "{seen}");
}

#[tokio::test]
async fn a_body_of_unknown_length_goes_along_whatever_the_method_is() {
    let sidecar = Sidecar::start(&World::mirroring().await.config("")).await;
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "POST", "QUERY"] {
        let request = format!(
            "{method} /api HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"
        );
        let answer = raw(sidecar.address, &request).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        if method != "HEAD" {
            assert!(answer.contains(&format!("{method} /base\n")), "{answer}");
            assert!(answer.contains("\n\nbody"), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_get_with_a_body_is_sent_again_whole_after_a_revocation() {
    let world = World::mirroring().await;
    let sidecar = Sidecar::start(&world.config("")).await;
    sidecar.readiness(StatusCode::OK).await;
    world.tokens.revoke_all();
    let request = "GET /api HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                   Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n";
    let answer = raw(sidecar.address, request).await;
    assert!(answer.contains("\nauthorization: Bearer t-2\n"), "{answer}");
    assert!(answer.contains("\n\nbody"), "{answer}");
}

#[tokio::test]
async fn a_get_without_a_body_gets_none() {
    let sidecar = Sidecar::start(&World::mirroring().await.config("")).await;
    let (status, seen) = get(&sidecar.url("/api")).await;
    assert_eq!(status, 200);
    assert!(!seen.contains("transfer-encoding") && !seen.contains("content-length"), "{seen}");
}

#[tokio::test]
async fn the_crumbs_of_a_cookie_are_one_field_for_the_upstream() {
    let sidecar = Sidecar::start(&World::mirroring().await.config("")).await;
    let request = Request::get(sidecar.url("/api"))
        .header("cookie", "a=1")
        .header("x-mine", "1")
        .header("cookie", "b=2")
        .body(Body::empty())
        .unwrap();
    let (status, seen) = text(soon(http2_client().request(request)).await.unwrap()).await;
    assert_eq!(status, 200);
    assert!(seen.contains("\ncookie: a=1; b=2\n"), "{seen}");
    assert_eq!(seen.matches("cookie").count(), 1, "{seen}");
}

#[tokio::test]
async fn a_transfer_coding_that_is_not_understood_goes_neither_way() {
    let codings = |codings: &str| {
        format!(
            "POST /api HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Transfer-Encoding: {codings}\r\n\r\n4\r\nbody\r\n0\r\n\r\n"
        )
    };
    let world = World::mirroring().await;
    let sidecar = Sidecar::start(&world.config("")).await;
    for unknown in ["gzip, chunked", "gzip\r\nTransfer-Encoding: chunked", "chunked, chunked"] {
        let answer = raw(sidecar.address, &codings(unknown)).await;
        assert!(answer.starts_with("HTTP/1.1 501 "), "{unknown}: {answer}");
        assert!(answer.contains("transfer coding"), "{answer}");
    }
    let answer = raw(sidecar.address, &codings("Chunked")).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\n\nbody"), "{answer}");

    let api = serve_raw(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    );
    let config = world.config("").replace(&world.api.to_string(), &api.await.to_string());
    let (status, said) = get(&Sidecar::start(&config).await.url("/api")).await;
    assert!(status == 502 && said.contains("transfer coding"), "{status} {said}");
}

/// Answers every connection's first request with these very bytes.
async fn serve_raw(answer: &'static str) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(connection.read_u8().await.unwrap());
                }
                connection.write_all(answer.as_bytes()).await.unwrap();
            });
        }
    });
    address
}

#[tokio::test]
async fn a_host_that_is_not_this_machine_is_refused() {
    let world = World::mirroring().await;
    let sidecar = Sidecar::start(&world.config("hosts = [\"sidecar.internal\"]")).await;
    let address = sidecar.address;
    for request in [
        "GET /api HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n".to_owned(),
        "GET http://evil.example/api HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            .to_owned(),
        format!(
            "GET http://{address}/api HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
        ),
        "GET /api HTTP/1.1\r\nHost: localhost.evil.example\r\nConnection: close\r\n\r\n".to_owned(),
    ] {
        let answer = raw(address, &request).await;
        assert!(answer.starts_with("HTTP/1.1 421 "), "{request}: {answer}");
        assert!(answer.contains("`hosts`"), "{answer}");
    }
    for host in ["localhost", "127.0.0.1:1", "[::1]", "SIDECAR.internal:8080"] {
        let request = format!("GET /api HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = raw(address, &request).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{request}: {answer}");
        // What arrives is the upstream's own name.
        assert!(answer.contains(&format!("host: {}", world.api)), "{answer}");
    }
}

#[tokio::test]
async fn what_a_hostile_page_can_send_does_not_reach_the_upstream() {
    let world = World::mirroring().await;
    let sidecar = Sidecar::start(&world.config("")).await;
    let own = sidecar.address;
    for (target, fields, status) in [
        ("/api".to_owned(), "Host: 0.0.0.0", "421"),
        ("/api".to_owned(), "Host: [::]", "421"),
        ("http://0.0.0.0/api".to_owned(), "Host: localhost", "421"),
        ("/api".to_owned(), "Host: localhost\r\nOrigin: http://evil.example", "403"),
        ("/api".to_owned(), "Host: localhost\r\nOrigin: null", "403"),
        ("/api".to_owned(), "Host: localhost\r\nOrigin: http://localhost:3000", "403"),
        (format!("http://{own}/api"), "Host: localhost\r\nOrigin: http://localhost", "403"),
        // The sidecar's own pages are not for other pages either.
        ("/metrics".to_owned(), "Host: localhost\r\nOrigin: http://evil.example", "403"),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\n{fields}\r\nConnection: close\r\n\r\n");
        let answer = raw(own, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
        assert!(answer.contains("sidecar: "), "{answer}");
    }
    for (header, value, status) in [
        ("origin", "http://evil.example".to_owned(), 403),
        ("host", "0.0.0.0".to_owned(), 421),
        ("origin", format!("http://{own}"), 200),
    ] {
        let request = Request::post(sidecar.url("/api")).header(header, value);
        let request = request.body(Body::empty()).unwrap();
        let (answered, said) = text(soon(http2_client().request(request)).await.unwrap()).await;
        assert_eq!(answered, status, "{header}: {said}");
    }
}

#[tokio::test]
async fn what_must_not_be_forwarded_is_refused() {
    let sidecar = Sidecar::start(&World::mirroring().await.config("")).await;
    for (line, host, status) in [
        ("GET /api", "", "400"),
        ("GET /api", "Host: localhost\r\nHost: localhost\r\n", "400"),
        ("GET /api/../secret", "Host: localhost\r\n", "400"),
        ("GET /api/%2e%2E/secret", "Host: localhost\r\n", "400"),
        ("TRACE /api", "Host: localhost\r\n", "405"),
        ("CONNECT localhost:443", "Host: localhost\r\n", "405"),
        ("POST /api", "Host: localhost\r\nSec-Fetch-Site: cross-site\r\n", "403"),
        ("OPTIONS *", "Host: localhost\r\n", "400"),
        ("GET /apis", "Host: localhost\r\n", "404"),
    ] {
        let request = format!("{line} HTTP/1.1\r\n{host}Connection: close\r\n\r\n");
        let answer = raw(sidecar.address, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer}");
    }
}

#[tokio::test]
async fn a_path_that_some_server_could_read_as_climbing_is_refused() {
    let sidecar = Sidecar::start(&World::mirroring().await.config("")).await;
    for tail in [
        "..;",
        "..;/x",
        "%2e%2e%3b/x",
        "%252e%252e/x",
        "..%252fx",
        "..%00",
        "..%09/x",
        "..%5cx",
        "..\\x",
        "%c0%ae%c0%ae/x",
    ] {
        let (status, said) = get(&sidecar.url(&format!("/api/{tail}"))).await;
        assert!(status == 400 && said.contains("the path"), "{tail}: {status} {said}");
    }
    for tail in ["a..b", "%20x", "a;b=1", "...", "a%2Fb", "%E2%82%AC"] {
        let (status, seen) = get(&sidecar.url(&format!("/api/{tail}"))).await;
        assert!(status == 200 && seen.starts_with(&format!("GET /base/{tail}\n")), "{seen}");
    }
}

#[tokio::test]
async fn a_port_of_its_own_is_all_the_upstreams() {
    let world = World::mirroring().await;
    let config = format!(
        "{}\n[upstreams.own]\nlisten = \"127.0.0.1:0\" # door\nto = \"http://{}/own\"\n\
         source = \"local\"\n",
        world.config(""),
        world.api
    );
    let sidecar = Sidecar::start(&config).await;
    let (status, seen) = get(&format!("http://{}/healthz", sidecar.others[0])).await;
    assert!(status == 200 && seen.starts_with("GET /own/healthz\n"), "{seen}");
    assert_eq!(get(&sidecar.url("/healthz")).await, (StatusCode::OK, "ok\n".to_owned()));
}

#[tokio::test]
async fn the_longest_path_wins() {
    let world = World::mirroring().await;
    let config = format!(
        "{}\n[upstreams.deeper]\npath = \"/api/deeper\"\nto = \"http://{}/deep\"\n\
         source = \"local\"\n",
        world.config(""),
        world.api
    );
    let sidecar = Sidecar::start(&config).await;
    assert!(get(&sidecar.url("/api/deeper/x")).await.1.starts_with("GET /deep/x\n"));
    assert!(get(&sidecar.url("/api/deepest")).await.1.starts_with("GET /base/deepest\n"));
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_a_502() {
    let world = World::mirroring().await;
    // No server listens on a port that was bound and released.
    let gone = serve_nothing().await;
    let config = world.config("").replace(&world.api.to_string(), &gone.to_string());
    let sidecar = Sidecar::start(&config).await;
    let (status, said) = post_to(&sidecar.url("/api"), "body").await;
    assert_eq!(status, 502);
    assert!(said.starts_with("the upstream `api` failed: ") && said.lines().count() == 1, "{said}");
}

async fn serve_nothing() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// Linux drops what asks for a connection while the listener's queue is full.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_upstream_that_does_not_answer_a_connection_is_given_up() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(0).unwrap();
    let address = full.local_addr().unwrap();
    let _first = soon(TcpStream::connect(address)).await.unwrap();

    let world = World::mirroring().await;
    let config = world.config("connect_seconds = 1");
    let sidecar =
        Sidecar::start(&config.replace(&world.api.to_string(), &address.to_string())).await;
    let (status, said) = get(&sidecar.url("/api")).await;
    assert_eq!(status, 502, "{said}");
    assert!(
        said.contains("no connection within 1 s") || said.contains("deadline has elapsed"),
        "{said}"
    );
}

#[tokio::test]
async fn the_environment_redirects_nothing() {
    let world = World::mirroring().await;
    let trap = World::mirroring().await;
    let trap_url = trap.tokens.url();
    let names = [
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "TOKEN_URL",
        "OAUTH2_URL",
        "URL",
        "IAM_ENDPOINT",
        "IBMCLOUD_IAM_API_ENDPOINT",
    ];
    let env = names.map(|name| (name, trap_url.as_str()));
    let sidecar = Sidecar::start_with(&world.config(""), &[], &env).await;
    assert_eq!(get(&sidecar.url("/api")).await.0, 200);
    assert_eq!((world.tokens.issued(), trap.tokens.issued()), (1, 0));
}

#[tokio::test]
async fn what_was_done_is_counted() {
    let sidecar = Sidecar::start(&World::mirroring().await.config("")).await;
    assert_eq!(get(&sidecar.url("/api")).await.0, 200);
    assert_eq!(get(&sidecar.url("/api")).await.0, 200);
    let (status, page) = get(&sidecar.url("/metrics")).await;
    assert_eq!(status, 200);
    let line = "sidecar_requests_total{upstream=\"api\",status=\"200\"} 2\n";
    assert!(page.contains(line), "{page}");
    assert!(page.contains("\nsidecar_kept_bytes 0\n"), "{page}");
    let fetched =
        "tower_bearer_fetches_total{source=\"local\",reason=\"first\",outcome=\"ok\"} 1\n";
    assert!(page.contains(fetched), "{page}");
    assert!(page.contains("# HELP tower_bearer_fetches_total Flights"), "{page}");
    let own = page.lines().filter_map(|line| line.strip_prefix("# TYPE sidecar_"));
    for name in own.filter_map(|tail| tail.split(' ').next()) {
        assert!(page.contains(&format!("# HELP sidecar_{name} ")), "{name} in {page}");
    }
    assert!(page.contains("tower_bearer_token_left_seconds_bucket"), "{page}");
}
