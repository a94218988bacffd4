//! Promise 20: `BufferBody`, and what a replay is made of.

mod support;

use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, Request, Response, Version};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tower::{Layer, Service};
use tower_bearer::ReplayBody;

use self::support::{Fed, Got, Picky, buffered, buffered_over, data, fed, post, trailers, watched};
use crate::support::*;

#[tokio::test(start_paused = true)]
async fn buffer_body_never_delays_a_frame() {
    let (feed, body) = fed();
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let inner = tower::service_fn(move |request: Request<ReplayBody<Fed>>| {
        let arrived = arrived.clone();
        async move {
            let mut body = request.into_body();
            while let Some(frame) = body.frame().await {
                arrived.send(frame.unwrap().into_data().unwrap()).unwrap();
            }
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        }
    });
    let stack = layer(&cache(Mint::default()))
        .buffer_body(1 << 20, std::convert::identity::<ReplayBody<Fed>>)
        .layer(inner);
    let call = tokio::spawn(async move { send(&stack, post(body)).await.unwrap().status() });
    for text in ["one", "two", "three"] {
        feed.send(data(text)).unwrap();
        assert_eq!(arrivals.recv().await.unwrap(), text, "before the next one is there");
    }
    drop(feed);
    assert_eq!(call.await.unwrap(), 200);
}

#[tokio::test(start_paused = true)]
async fn within_the_limit_the_body_is_replayed_whole_with_its_trailers() {
    let (feed, mut body) = fed();
    body.hint = SizeHint::with_exact(6);
    for item in [data("abc"), data(""), data("def"), Ok(Frame::trailers(trailers()))] {
        feed.send(item).unwrap();
    }
    drop(feed);
    let inner = Picky::rejecting_after(usize::MAX);
    let response = send(&buffered(6, &inner), post(body)).await.unwrap();
    assert_eq!(response.status(), 200);
    let whole = || Got { text: "abcdef".into(), trailers: Some(trailers()), failed: false };
    assert_eq!(*inner.seen.lock().unwrap(), [whole(), whole()]);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_rejected_before_its_end_is_replayed_as_the_kept_prefix_and_the_rest() {
    for frames in 0..=3 {
        let (feed, body) = fed();
        for item in [data("abc"), data("def"), Ok(Frame::trailers(trailers()))] {
            feed.send(item).unwrap();
        }
        drop(feed);
        let inner = Picky::rejecting_after(frames);
        let stack = buffered(6, &inner);
        let call = tokio::spawn(async move { send(&stack, post(body)).await.unwrap().status() });
        settle().await;
        assert_eq!(inner.seen.lock().unwrap().len(), 1, "it waits for the body");
        let waiting = Instant::now();
        inner.let_go();
        assert_eq!(call.await.unwrap(), 200, "after {frames} frames");
        assert_eq!(waiting.elapsed(), Duration::ZERO, "and no longer than that");
        let expected = Got { text: "abcdef".into(), trailers: Some(trailers()), failed: false };
        assert_eq!(inner.seen.lock().unwrap()[1], expected, "after {frames} frames");
    }
}

#[tokio::test(start_paused = true)]
async fn the_unread_part_streams_on_as_it_comes() {
    let (feed, body) = fed();
    feed.send(data("abc")).unwrap();
    let inner = Picky::rejecting_after(1);
    let stack = buffered(3, &inner);
    let call = tokio::spawn(async move { send(&stack, post(body)).await.unwrap().status() });
    settle().await;
    inner.let_go();
    settle().await;
    // The limit is for what is kept, and nothing more is kept now.
    feed.send(data("a long tail")).unwrap();
    drop(feed);
    assert_eq!(call.await.unwrap(), 200);
    assert_eq!(inner.texts(), ["abc", "abca long tail"]);
}

#[tokio::test(start_paused = true)]
async fn past_the_limit_the_rejection_is_the_answer() {
    let (feed, body) = fed();
    for item in [data("abc"), data("def")] {
        feed.send(item).unwrap();
    }
    drop(feed);
    let inner = Picky::rejecting_after(usize::MAX);
    let response = send(&buffered(5, &inner), post(body)).await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "body");
    assert_eq!(inner.texts(), ["abcdef"], "what is sent has no limit");
}

#[tokio::test(start_paused = true)]
async fn past_the_limit_while_the_replay_waits_for_it_the_rejection_is_the_answer() {
    let (feed, body) = fed();
    feed.send(data("abc")).unwrap();
    let (goes_on, on) = oneshot::channel::<()>();
    let on = on.shared();
    // The server answers at once, and the connection goes on reading.
    let inner = tower::service_fn(move |request: Request<ReplayBody<Fed>>| {
        let on = on.clone();
        async move {
            tokio::spawn(async move {
                on.await.unwrap();
                drop(request.into_body().collect().await);
            });
            let response = Response::builder().status(401).body(Full::<Bytes>::default());
            Ok::<_, Infallible>(response.unwrap())
        }
    });
    let stack = layer(&cache(Mint::default()))
        .buffer_body(5, std::convert::identity::<ReplayBody<Fed>>)
        .layer(inner);
    let call = tokio::spawn(async move { send(&stack, post(body)).await.unwrap().status() });
    settle().await;
    assert!(!call.is_finished());
    goes_on.send(()).unwrap();
    feed.send(data("def")).unwrap();
    settle().await;
    assert_eq!(call.await.unwrap(), 401);
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_holds_no_buffer_that_a_frame_was_cut_from() {
    let (feed, body) = fed();
    let (chunk, dropped) = watched("abc");
    for nth in 0..3 {
        feed.send(Ok(Frame::data(chunk.slice(nth..=nth)))).unwrap();
    }
    drop((chunk, feed));
    let inner = Picky::rejecting_after(usize::MAX);
    let seen = Arc::clone(&inner.seen);
    let (source, mut desk) = manual();
    let stack = buffered_over(&cache(source), 3, &inner);
    let call = tokio::spawn(async move { send(&stack, post(body)).await.unwrap().status() });
    desk.next().await.answer("t1");
    let renewal = desk.next().await;
    assert_eq!(dropped.load(SeqCst), 1, "the inner service has let go of it");
    renewal.answer("t2");
    assert_eq!(call.await.unwrap(), 200);
    let texts: Vec<_> = seen.lock().unwrap().iter().map(|got| got.text.clone()).collect();
    assert_eq!(texts, ["abc", "abc"]);
}

#[tokio::test(start_paused = true)]
async fn endless_empty_frames_cost_no_replay() {
    let (feed, body) = fed();
    for _ in 0..10_000 {
        feed.send(data("")).unwrap();
    }
    feed.send(data("abc")).unwrap();
    drop(feed);
    let inner = Picky::rejecting_after(usize::MAX);
    assert_eq!(send(&buffered(3, &inner), post(body)).await.unwrap().status(), 200);
    assert_eq!(inner.texts(), ["abc", "abc"]);
}

#[tokio::test(start_paused = true)]
async fn trailers_past_the_limit_are_not_kept() {
    let (feed, body) = fed();
    let long = "v".repeat(10_000).parse().unwrap();
    let trailers = HeaderMap::from_iter([("x-long".parse().unwrap(), long)]);
    for item in [data("abc"), Ok(Frame::trailers(trailers.clone()))] {
        feed.send(item).unwrap();
    }
    drop(feed);
    let inner = Picky::rejecting_after(usize::MAX);
    assert_eq!(send(&buffered(10_000, &inner), post(body)).await.unwrap().status(), 401);
    let expected = Got { text: "abc".into(), trailers: Some(trailers), failed: false };
    assert_eq!(*inner.seen.lock().unwrap(), [expected], "what is sent has no limit");
}

#[tokio::test(start_paused = true)]
async fn past_the_limit_the_rejection_is_the_answer_at_once_while_the_renewal_goes_on() {
    let (feed, body) = fed();
    feed.send(data("abcdef")).unwrap();
    drop(feed);
    let inner = Picky::rejecting_after(usize::MAX);
    let (source, mut desk) = manual();
    let cache = cache(source);
    let stack = buffered_over(&cache, 5, &inner);
    let call = tokio::spawn(async move { send(&stack, post(body)).await.unwrap().status() });
    desk.next().await.answer("t1");
    let renewal = desk.next().await;
    settle().await;
    assert!(call.is_finished(), "it waits for a token that it has no use for");
    assert_eq!(call.await.unwrap(), 401);
    renewal.answer("t2");
    settle().await;
    assert_eq!(cache.current().unwrap().secret(), "t2");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_passes_the_limit_during_the_renewal_ends_the_wait_for_it() {
    let (feed, body) = fed();
    // The server answers at once, and the connection goes on reading.
    let inner = tower::service_fn(move |request: Request<ReplayBody<Fed>>| async move {
        tokio::spawn(async move { drop(request.into_body().collect().await) });
        let response = Response::builder().status(401).body(Full::<Bytes>::default());
        Ok::<_, Infallible>(response.unwrap())
    });
    let (source, mut desk) = manual();
    let stack = layer(&cache(source))
        .buffer_body(5, std::convert::identity::<ReplayBody<Fed>>)
        .layer(inner);
    let call = tokio::spawn(async move { send(&stack, post(body)).await.unwrap().status() });
    desk.next().await.answer("t1");
    let _renewal = desk.next().await;
    settle().await;
    assert!(!call.is_finished());
    feed.send(data("abcdef")).unwrap();
    settle().await;
    assert!(call.is_finished(), "it waits for a token that it has no use for");
    assert_eq!(call.await.unwrap(), 401);
}

#[tokio::test(start_paused = true)]
async fn with_an_error_in_the_body_the_rejection_is_the_answer() {
    let (feed, body) = fed();
    for item in [data("abc"), Err("cut")] {
        feed.send(item).unwrap();
    }
    let inner = Picky::rejecting_after(usize::MAX);
    let began = Instant::now();
    let response = send(&buffered(100, &inner), post(body)).await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(began.elapsed(), Duration::ZERO, "nobody waits for what cannot come");
    let expected = Got { text: "abc".into(), trailers: None, failed: true };
    assert_eq!(*inner.seen.lock().unwrap(), [expected]);
}

#[tokio::test(start_paused = true)]
async fn an_error_in_the_unread_part_is_the_replays_own() {
    let (feed, body) = fed();
    for item in [data("abc"), Err("cut")] {
        feed.send(item).unwrap();
    }
    let inner = Picky::rejecting_after(1);
    let stack = buffered(100, &inner);
    let call = tokio::spawn(async move { send(&stack, post(body)).await.unwrap().status() });
    settle().await;
    inner.let_go();
    assert_eq!(call.await.unwrap(), 200);
    assert!(inner.seen.lock().unwrap()[1].failed);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_never_drops_the_body_delays_the_answer_by_a_second() {
    let (feed, body) = fed();
    feed.send(data("abc")).unwrap();
    let inner = Picky::rejecting_after(1);
    let began = Instant::now();
    let response = send(&buffered(100, &inner), post(body)).await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(began.elapsed(), S);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_gives_up_frees_everything() {
    let (feed, mut body) = fed();
    let (gone, is_gone) = oneshot::channel();
    body.dropped = Some(gone);
    feed.send(data("abc")).unwrap();
    let inner = Picky::rejecting_after(1);
    let stack = buffered(100, &inner);
    let call = tokio::spawn(async move { drop(send(&stack, post(body)).await) });
    settle().await;
    call.abort();
    drop(call.await);
    inner.let_go();
    is_gone.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_replay_has_the_same_size() {
    let (feed, mut body) = fed();
    body.hint = SizeHint::with_exact(6);
    feed.send(data("abc")).unwrap();
    let inner = Picky::rejecting_after(1);
    let stack = buffered(6, &inner);
    let call = tokio::spawn(async move { send(&stack, post(body)).await.unwrap().status() });
    settle().await;
    inner.let_go();
    drop(feed);
    call.await.unwrap();
    let sizes: Vec<_> = inner.hints.lock().unwrap().iter().map(SizeHint::exact).collect();
    assert_eq!(sizes, [Some(6), Some(6)]);
}

#[tokio::test(start_paused = true)]
async fn a_replay_has_the_same_method_uri_version_headers_extensions_and_body() {
    #[derive(Clone, Debug, PartialEq)]
    struct Mark(u8);
    let api = Api::new();
    api.revoke("t1");
    let stack = layer(&cache(Mint::default())).layer(api.clone());
    let request = Request::builder()
        .method("PATCH")
        .uri("https://api.example.com/a?b=c")
        .version(Version::HTTP_2)
        .header("x-one", "1")
        .header("x-one", "2")
        .extension(Mark(7))
        .body(Full::<Bytes>::from("body"))
        .unwrap();
    assert_eq!(send(&stack, request).await.unwrap().status(), 200);
    let seen = api.seen();
    assert_eq!(api.tokens(), ["t1", "t2"]);
    for seen in &seen {
        assert_eq!((seen.parts.method.as_str(), seen.parts.version), ("PATCH", Version::HTTP_2));
        assert_eq!(seen.parts.uri, "https://api.example.com/a?b=c");
        let ones: Vec<_> = seen.parts.headers.get_all("x-one").iter().collect();
        assert_eq!(ones, ["1", "2"]);
        assert_eq!(seen.parts.headers.get_all("authorization").iter().count(), 1);
        assert_eq!(seen.parts.extensions.get(), Some(&Mark(7)));
        assert_eq!(seen.body, "body");
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_has_all_headers_in_their_order_however_many_there_are() {
    for count in [0, 1, 7, 8, 9, 16, 17, 100] {
        let api = Api::new();
        api.revoke("t1");
        let stack = layer(&cache(Mint::default())).layer(api.clone());
        let mut request = get("/");
        for n in 0..count {
            let name: http::HeaderName = format!("x-{}", n % 60).parse().unwrap();
            request.headers_mut().append(name, n.into());
        }
        assert_eq!(send(&stack, request).await.unwrap().status(), 200);
        let [first, second] = <[_; 2]>::try_from(api.seen()).unwrap().map(|seen| {
            let headers = seen.parts.headers.into_iter();
            headers.filter(|(_, value)| !value.is_sensitive()).collect::<Vec<_>>()
        });
        assert_eq!((first.len(), first), (count, second));
    }
}

#[tokio::test(start_paused = true)]
async fn buffer_body_leaves_the_stacks_own_body_type_in_place() {
    fn takes<B, S: Service<Request<B>, Response = Response<Full<Bytes>>>>(_: &S, _: B) {}
    let auth = || layer(&cache(Mint::default()));

    let inner = tower::service_fn(|_: Request<axum::body::Body>| async {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    });
    takes(&auth().buffer_body(64 * 1024, axum::body::Body::new).layer(inner), fed().1);

    #[cfg(feature = "reqwest")]
    {
        let inner = tower::service_fn(|_: Request<reqwest::Body>| async {
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        });
        // Its bodies have to be `Sync`, which axum's are not.
        let body = axum::body::Body::empty();
        takes(&auth().buffer_body(64 * 1024, reqwest::Body::wrap).layer(inner), body);
    }
}
