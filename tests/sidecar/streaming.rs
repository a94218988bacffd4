//! Bodies are forwarded as they arrive, and a connection that closes closes the one on the other side.

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    response::sse::{Event, Sse},
    routing::{get, post},
};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Notify, mpsc},
};

use crate::support::{Sidecar, World, client, piece, post_to, received, send, soon, text, written};

#[tokio::test]
async fn each_piece_goes_both_ways_before_the_next_is_written() {
    // Sends back what comes, as it comes.
    let echo = |request: Request| async { Body::new(request.into_body()) };
    let world = World::new(Router::new().route("/base/echo", post(echo))).await;
    let sidecar = Sidecar::start(&world.config("")).await;
    let (chunks, body) = written();
    let request = http::Request::post(sidecar.url("/api/echo")).body(body).unwrap();
    chunks.send(Ok("first".into())).unwrap();
    let mut response = send(request).await;
    assert_eq!(piece(response.body_mut()).await, "first");
    chunks.send(Ok("second".into())).unwrap();
    assert_eq!(piece(response.body_mut()).await, "second");
    drop(chunks);
    assert!(soon(response.body_mut().frame()).await.is_none());
}

#[tokio::test]
async fn a_server_sent_event_comes_before_the_next_is_made() {
    let (events, queue) = mpsc::unbounded_channel::<&'static str>();
    let queue = Arc::new(std::sync::Mutex::new(Some(queue)));
    let handler = move || {
        let queue = queue.lock().unwrap().take().expect("one call");
        let events =
            received(queue).map(|data| Ok::<_, std::io::Error>(Event::default().data(data)));
        async { Sse::new(events) }
    };
    let world = World::new(Router::new().route("/base/events", get(handler))).await;
    let sidecar = Sidecar::start(&world.config("")).await;
    let request = http::Request::get(sidecar.url("/api/events")).body(Body::empty()).unwrap();
    let mut response = send(request).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    for data in ["one", "two", "three"] {
        events.send(data).unwrap();
        assert_eq!(piece(response.body_mut()).await, format!("data: {data}\n\n"));
    }
}

#[tokio::test]
async fn trailers_go_both_ways() {
    let handler = |request: Request| async {
        let whole = request.into_body().collect().await.unwrap();
        let sum = whole.trailers().expect("trailers")["x-sum"].clone();
        let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), sum)]);
        let frames =
            [Ok::<_, std::io::Error>(Frame::data(Bytes::from("a"))), Ok(Frame::trailers(trailers))];
        ([("trailer", "x-sum")], Body::new(StreamBody::new(stream::iter(frames))))
    };
    let world = World::new(Router::new().route("/base", post(handler))).await;
    let sidecar = Sidecar::start(&world.config("")).await;
    let trailers =
        HeaderMap::from_iter([("x-sum".parse().unwrap(), HeaderValue::from_static("7"))]);
    let frames =
        [Ok::<_, std::io::Error>(Frame::data(Bytes::from("a"))), Ok(Frame::trailers(trailers))];
    let request = http::Request::post(sidecar.url("/api"))
        .header("trailer", "x-sum")
        .header("te", "trailers")
        .body(Body::new(StreamBody::new(stream::iter(frames))))
        .unwrap();
    let response = send(request).await;
    assert_eq!(response.status(), 200);
    let whole = soon(response.into_body().collect()).await.unwrap();
    assert_eq!(whole.trailers().expect("trailers")["x-sum"], "7");
}

/// Tells the test when it is dropped.
struct Tell(Arc<Notify>);

impl Drop for Tell {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_before_the_answer_hangs_up_on_the_upstream() {
    let (arrived, dropped) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell_arrived, tell_dropped) = (Arc::clone(&arrived), Arc::clone(&dropped));
    let handler = move || {
        let tell = Tell(Arc::clone(&tell_dropped));
        tell_arrived.notify_one();
        async move {
            std::future::pending::<()>().await;
            drop(tell);
        }
    };
    let world = World::new(Router::new().route("/base", get(handler))).await;
    let sidecar = Sidecar::start(&world.config("")).await;
    let request = http::Request::get(sidecar.url("/api")).body(Body::empty()).unwrap();
    let call = tokio::spawn(client().request(request));
    soon(arrived.notified()).await;
    call.abort();
    soon(dropped.notified()).await;
}

#[tokio::test]
async fn a_client_that_hangs_up_in_the_middle_of_the_answer_hangs_up_on_the_upstream() {
    let dropped = Arc::new(Notify::new());
    let tell = Arc::clone(&dropped);
    let handler = move || {
        let tell = Tell(Arc::clone(&tell));
        let first = stream::once(async { Ok::<_, std::io::Error>(Bytes::from("first")) });
        let never = stream::poll_fn(move |_| {
            let _held = &tell;
            std::task::Poll::Pending
        });
        async { Body::from_stream(first.chain(never)) }
    };
    let world = World::new(Router::new().route("/base", get(handler))).await;
    let sidecar = Sidecar::start(&world.config("")).await;
    let request = http::Request::get(sidecar.url("/api")).body(Body::empty()).unwrap();
    let mut response = send(request).await;
    assert_eq!(piece(response.body_mut()).await, "first");
    drop(response);
    soon(dropped.notified()).await;
}

#[tokio::test]
async fn an_upstream_that_breaks_off_breaks_off_the_answer() {
    let (chunks, body) = written();
    let body = Arc::new(std::sync::Mutex::new(Some(body)));
    let handler = move || {
        let body = body.lock().unwrap().take().expect("one call");
        async { body }
    };
    let world = World::new(Router::new().route("/base", get(handler))).await;
    let sidecar = Sidecar::start(&world.config("")).await;
    chunks.send(Ok("first".into())).unwrap();
    let request = http::Request::get(sidecar.url("/api")).body(Body::empty()).unwrap();
    let mut response = send(request).await;
    assert_eq!(piece(response.body_mut()).await, "first");
    chunks.send(Err(std::io::Error::other("broken"))).unwrap();
    assert!(soon(response.into_body().collect()).await.is_err());
}

#[tokio::test]
async fn an_upload_that_breaks_off_does_not_look_whole() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let handler = move |request: Request| {
        let tell = tell.clone();
        // On a task of its own: the handler is dropped with its connection.
        let read = async move {
            let mut body = request.into_body();
            while let Some(frame) = body.frame().await {
                tell.send(frame.is_ok()).expect("the test waits");
            }
        };
        async move { drop(tokio::spawn(read).await) }
    };
    let world = World::new(Router::new().route("/base", post(handler))).await;
    let sidecar = Sidecar::start(&world.config("")).await;
    let (chunks, body) = written();
    let request = http::Request::post(sidecar.url("/api")).body(body).unwrap();
    let call = tokio::spawn(client().request(request));
    chunks.send(Ok("first".into())).unwrap();
    assert_eq!(soon(told.recv()).await, Some(true));
    chunks.send(Err(std::io::Error::other("broken"))).unwrap();
    assert_eq!(soon(told.recv()).await, Some(false));
    assert!(soon(call).await.unwrap().is_err());
}

// ===== Replays =====

/// Counts the bytes of what it admits, and says that it has admitted something.
fn counting(admitted: &Arc<Notify>) -> Router {
    let admitted = Arc::clone(admitted);
    let handler = move |request: Request| {
        admitted.notify_one();
        async {
            let mut body = request.into_body();
            let mut count = 0_u64;
            while let Some(frame) = body.frame().await {
                count += frame.unwrap().into_data().map_or(0, |data| data.len() as u64);
            }
            count.to_string()
        }
    };
    Router::new().route("/base", post(handler))
}

#[tokio::test]
async fn a_body_within_the_limit_is_sent_again_after_a_revocation() {
    let world = World::new(counting(&Arc::default())).await;
    let sidecar = Sidecar::start(&world.config("replay.per_request = 10000")).await;
    sidecar.readiness(StatusCode::OK).await;
    world.tokens.revoke_all();
    let (status, count) = post_to(&sidecar.url("/api"), vec![b'x'; 10_000]).await;
    assert_eq!((status, count.as_str(), world.tokens.issued()), (StatusCode::OK, "10000", 2));
}

#[tokio::test]
async fn a_body_past_the_limit_gets_the_401_and_the_next_one_a_new_token() {
    let world = World::new(counting(&Arc::default())).await;
    let sidecar = Sidecar::start(&world.config("replay.per_request = 10000")).await;
    sidecar.readiness(StatusCode::OK).await;
    world.tokens.revoke_all();
    assert_eq!(post_to(&sidecar.url("/api"), vec![b'x'; 10_001]).await.0, 401);
    assert_eq!(post_to(&sidecar.url("/api"), "x").await, (StatusCode::OK, "1".to_owned()));
    assert_eq!(world.tokens.issued(), 2);
}

#[tokio::test]
async fn a_large_upload_passes_without_being_kept() {
    let world = World::new(counting(&Arc::default())).await;
    let sidecar = Sidecar::start(&world.config("")).await;
    // 64 MiB, of unknown length, while the sidecar may keep 64 KiB of it.
    let piece = Bytes::from(vec![0; 64 * 1024]);
    let pieces = stream::iter(std::iter::repeat_n(piece, 1024).map(Ok::<_, std::io::Error>));
    let request = http::Request::post(sidecar.url("/api")).body(Body::from_stream(pieces)).unwrap();
    let (status, count) = text(send(request).await).await;
    assert_eq!((status, count.as_str()), (StatusCode::OK, "67108864"));
    #[cfg(target_os = "linux")]
    assert!(sidecar.peak_memory() < 48 * 1024, "{} KiB", sidecar.peak_memory());
}

#[tokio::test]
async fn a_body_that_has_passed_the_limit_gives_its_room_back() {
    let admitted = Arc::default();
    let world = World::new(counting(&admitted)).await;
    let sidecar =
        Sidecar::start(&world.config("replay = { per_request = 1000, total = 1000 }")).await;
    let (chunks, body) = written();
    let request = http::Request::post(sidecar.url("/api")).body(body).unwrap();
    let call = tokio::spawn(client().request(request));
    chunks.send(Ok(vec![b'x'; 1000].into())).unwrap();
    soon(admitted.notified()).await;
    sidecar.metric("sidecar_kept_bytes 1000").await;
    chunks.send(Ok("x".into())).unwrap();
    sidecar.metric("sidecar_kept_bytes 0").await;
    drop(chunks);
    assert_eq!(text(soon(call).await.unwrap().unwrap()).await.1, "1001");
}

#[tokio::test]
async fn a_body_that_is_known_to_be_too_large_reserves_nothing() {
    let admitted = Arc::default();
    let world = World::new(counting(&admitted)).await;
    let config = world.config("replay = { per_request = 1000, total = 5000 }");
    let sidecar = Sidecar::start(&config).await;
    let (chunks, body) = written();
    let request = http::Request::post(sidecar.url("/api")).header("content-length", 1001);
    let call = tokio::spawn(client().request(request.body(body).unwrap()));
    chunks.send(Ok("x".into())).unwrap();
    soon(admitted.notified()).await;
    sidecar.metric("sidecar_kept_bytes 0").await;
    chunks.send(Ok(vec![b'x'; 1000].into())).unwrap();
    drop(chunks);
    let answer = text(soon(call).await.unwrap().unwrap()).await;
    assert_eq!(answer, (StatusCode::OK, "1001".to_owned()));
}

#[tokio::test]
async fn an_answered_request_has_nothing_reserved_while_its_body_goes_on() {
    // Answers at once, and sends back what comes, as it comes.
    let echo = |request: Request| async { Body::new(request.into_body()) };
    let world = World::new(Router::new().route("/base", post(echo))).await;
    let sidecar = Sidecar::start(&world.config("")).await;
    let (chunks, body) = written();
    let request = http::Request::post(sidecar.url("/api")).body(body).unwrap();
    chunks.send(Ok("first".into())).unwrap();
    let mut response = send(request).await;
    assert_eq!(piece(response.body_mut()).await, "first");
    sidecar.metric("sidecar_kept_bytes 0").await;
    chunks.send(Ok("second".into())).unwrap();
    assert_eq!(piece(response.body_mut()).await, "second");
}

#[tokio::test]
async fn a_request_for_which_there_is_no_room_carries_the_token() {
    let admitted = Arc::default();
    let world = World::new(counting(&admitted)).await;
    let config = world.config("replay = { per_request = 1000, total = 1000 }");
    let sidecar = Sidecar::start(&config).await;
    let (chunks, body) = written();
    chunks.send(Ok("first".into())).unwrap();
    let request = http::Request::post(sidecar.url("/api")).body(body).unwrap();
    let slow = tokio::spawn(client().request(request));
    soon(admitted.notified()).await;
    sidecar.metric("sidecar_kept_bytes 1000").await;

    // The API rejects a request without a token.
    assert_eq!(post_to(&sidecar.url("/api"), "x").await, (StatusCode::OK, "1".to_owned()));
    sidecar.metric("sidecar_unkept_total{upstream=\"api\"} 1").await;
    drop(chunks);
    assert_eq!(soon(slow).await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn a_replay_that_fails_is_counted() {
    // Says no to the first request, and nothing to the second.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for answer in
            [&b"HTTP/1.1 401 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"[..], b""]
        {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\nbody") {
                request.push(connection.read_u8().await.unwrap());
            }
            connection.write_all(answer).await.unwrap();
        }
    });
    let world = World::mirroring().await;
    let config = world.config("").replace(&world.api.to_string(), &api.to_string());
    let sidecar = Sidecar::start(&config).await;
    let (status, said) = post_to(&sidecar.url("/api"), "body").await;
    assert!(status == 502 && said.starts_with("the upstream `api` failed: "), "{status} {said}");
    let labels = format!("source=\"local\",origin=\"http://{api}\",outcome=\"failed\"");
    let replays = format!("tower_bearer_replays_total{{{labels}}} 1");
    sidecar.metric(&replays).await;
    sidecar.metric("sidecar_requests_total{upstream=\"api\",status=\"502\"} 1").await;
    sidecar.metric("sidecar_kept_bytes 0").await;
}

#[tokio::test]
async fn beyond_the_budget_requests_are_sent_but_not_again() {
    let admitted = Arc::default();
    let world = World::new(counting(&admitted)).await;
    let sidecar =
        Sidecar::start(&world.config("replay = { per_request = 1000, total = 1500 }")).await;
    sidecar.readiness(StatusCode::OK).await;
    // This one has most of the budget, for as long as it is under way.
    let (chunks, body) = written();
    chunks.send(Ok("first".into())).unwrap();
    let request = http::Request::post(sidecar.url("/api")).body(body).unwrap();
    let slow = tokio::spawn(client().request(request));
    soon(admitted.notified()).await;
    sidecar.metric("sidecar_kept_bytes 1000").await;

    world.tokens.revoke_all();
    // No room for 600, but for 500.
    assert_eq!(post_to(&sidecar.url("/api"), vec![b'x'; 600]).await.0, 401);
    // The new token is accepted, before it is revoked too: else there would be a
    // renewal backoff.
    assert_eq!(post_to(&sidecar.url("/api"), "x").await.0, 200);
    world.tokens.revoke_all();
    assert_eq!(post_to(&sidecar.url("/api"), vec![b'x'; 500]).await.0, 200);
    sidecar.metric("sidecar_unkept_total{upstream=\"api\"} 1").await;

    drop(chunks);
    assert_eq!(soon(slow).await.unwrap().unwrap().status(), 200);
    sidecar.metric("sidecar_kept_bytes 0").await;
}
