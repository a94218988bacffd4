//! Promise 20: `BufferBody`, and what a replay is made of.

use std::{
    cell::Cell,
    convert::Infallible,
    marker::{PhantomData, PhantomPinned},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, Request, Response, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use pin_project_lite::pin_project;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tower::{BoxError, Layer, Service, ServiceExt};
use tower_bearer::{BearerAuth, BufferBody, ReplayBody, TokenCache};

use crate::support::*;

// ===== A body that the test feeds =====

type Item = Result<Frame<Bytes>, &'static str>;

pin_project! {
    /// Not `Clone`, not `Sync`, not `Unpin`.
    struct Fed {
        items: mpsc::UnboundedReceiver<Item>,
        hint: SizeHint,
        dropped: Option<oneshot::Sender<()>>,
        no_sync: PhantomData<Cell<()>>,
        #[pin]
        no_unpin: PhantomPinned,
    }

    impl PinnedDrop for Fed {
        fn drop(this: Pin<&mut Self>) {
            if let Some(dropped) = this.project().dropped.take() {
                let _ = dropped.send(());
            }
        }
    }
}

fn fed() -> (mpsc::UnboundedSender<Item>, Fed) {
    let (sender, items) = mpsc::unbounded_channel();
    let hint = SizeHint::default();
    (sender, Fed { items, hint, dropped: None, no_sync: PhantomData, no_unpin: PhantomPinned })
}

#[expect(clippy::unnecessary_wraps, reason = "it stands beside errors")]
fn data(text: &'static str) -> Item {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

fn trailers() -> HeaderMap {
    HeaderMap::from_iter([("x-checksum".parse().unwrap(), "42".parse().unwrap())])
}

impl Body for Fed {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        let this = self.project();
        let item = ready!(this.items.poll_recv(cx));
        if let (Some(Ok(frame)), Some(left)) = (&item, this.hint.exact()) {
            let read = frame.data_ref().map_or(0, |data| data.len() as u64);
            *this.hint = SizeHint::with_exact(left - read);
        }
        Poll::Ready(item)
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}

// ===== An inner service that does with the body what the test says =====

/// How much of the first request's body is read before it is rejected; the rest of it is then
/// kept until the test drops it.
#[derive(Clone)]
struct Picky {
    frames: usize,
    held: Arc<Mutex<Vec<Box<dyn std::any::Any + Send>>>>,
    seen: Arc<Mutex<Vec<Got>>>,
    hints: Arc<Mutex<Vec<SizeHint>>>,
}

/// One request as it arrived: its body, its trailers, whether the body failed.
#[derive(Debug, Default, PartialEq)]
struct Got {
    text: String,
    trailers: Option<HeaderMap>,
    failed: bool,
}

impl Picky {
    fn rejecting_after(frames: usize) -> Self {
        Self { frames, held: Arc::default(), seen: Arc::default(), hints: Arc::default() }
    }

    fn let_go(&self) {
        self.held.lock().unwrap().clear();
    }

    fn texts(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|got| got.text.clone()).collect()
    }
}

impl<B> Service<Request<B>> for Picky
where
    B: Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = futures_util::future::BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let is_first = request.headers()["authorization"] == "Bearer t1";
            let mut body = Box::pin(request.into_body());
            this.hints.lock().unwrap().push(body.size_hint());
            let mut got = Got::default();
            let mut read = 0;
            while !is_first || read < this.frames {
                match body.frame().await {
                    None => break,
                    Some(Err(_)) => {
                        got.failed = true;
                        break;
                    }
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => got.text.push_str(std::str::from_utf8(&data).unwrap()),
                        Err(frame) => got.trailers = frame.into_trailers().ok(),
                    },
                }
                read += 1;
            }
            this.seen.lock().unwrap().push(got);
            this.held.lock().unwrap().push(Box::new(body));
            let mut response = Response::new(Full::from("body"));
            if is_first {
                *response.status_mut() = http::StatusCode::UNAUTHORIZED;
            }
            Ok(response)
        })
    }
}

fn buffered(limit: usize, inner: &Picky) -> BearerAuth<Picky, BufferBody<Identity>> {
    let wrap: Identity = std::convert::identity;
    layer(&cache(Mint::default())).buffer_body(limit, wrap).layer(inner.clone())
}

type Identity = fn(ReplayBody<Fed>) -> ReplayBody<Fed>;

fn post(body: Fed) -> Request<Fed> {
    Request::post(API).body(body).unwrap()
}

// ===== The tests =====

#[tokio::test(start_paused = true)]
async fn it_never_delays_a_frame() {
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
async fn rejected_before_the_end_was_read_it_is_the_kept_prefix_followed_by_the_rest() {
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
async fn the_rest_streams_on_as_it_comes() {
    let (feed, body) = fed();
    feed.send(data("abc")).unwrap();
    let inner = Picky::rejecting_after(1);
    let stack = buffered(3, &inner);
    let call = tokio::spawn(async move { send(&stack, post(body)).await.unwrap().status() });
    settle().await;
    inner.let_go();
    settle().await;
    // The limit is for what is kept, and nothing more is kept now.
    feed.send(data("a long rest")).unwrap();
    drop(feed);
    assert_eq!(call.await.unwrap(), 200);
    assert_eq!(inner.texts(), ["abc", "abca long rest"]);
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
async fn a_body_that_says_it_is_past_the_limit_is_not_kept_at_all() {
    let (feed, mut body) = fed();
    body.hint = SizeHint::with_exact(6);
    let (chunk, dropped) = watched("abc");
    feed.send(Ok(Frame::data(chunk))).unwrap();
    let inner = tower::service_fn(move |request: Request<ReplayBody<Fed>>| {
        let dropped = Arc::clone(&dropped);
        async move {
            let mut body = request.into_body();
            drop(body.frame().await);
            assert_eq!(dropped.load(SeqCst), 1, "nobody keeps the first half");
            let response = Response::builder().status(401).body(Full::<Bytes>::default());
            Ok::<_, Infallible>(response.unwrap())
        }
    });
    let stack = layer(&cache(Mint::default()))
        .buffer_body(5, std::convert::identity::<ReplayBody<Fed>>)
        .layer(inner);
    assert_eq!(send(&stack, post(body)).await.unwrap().status(), 401);
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
async fn an_error_in_the_rest_is_the_replays_own() {
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
async fn a_service_that_never_lets_go_makes_nobody_wait_for_ever() {
    let (feed, body) = fed();
    feed.send(data("abc")).unwrap();
    let inner = Picky::rejecting_after(1);
    let began = Instant::now();
    let response = send(&buffered(100, &inner), post(body)).await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(began.elapsed(), S);
}

#[tokio::test(start_paused = true)]
async fn what_was_kept_is_dropped_at_once_when_the_request_is_accepted() {
    let (feed, body) = fed();
    let (chunk, dropped) = watched("abc");
    feed.send(Ok(Frame::data(chunk))).unwrap();
    let cache: TokenCache = cache(Mint::default());
    // Accepted after the first frame, while the body is still open.
    let held = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&held);
    let inner = tower::service_fn(move |request: Request<ReplayBody<Fed>>| {
        let keep = Arc::clone(&keep);
        async move {
            let mut body = request.into_body();
            drop(body.frame().await);
            keep.lock().unwrap().push(body);
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        }
    });
    let mut stack =
        layer(&cache).buffer_body(100, std::convert::identity::<ReplayBody<Fed>>).layer(inner);
    cache.get().await.unwrap();
    stack.ready().await.unwrap();
    let mut call = pin!(stack.call(post(body)));
    (&mut call).await.unwrap();
    assert_eq!(held.lock().unwrap().len(), 1, "the inner service still has the body");
    assert_eq!(dropped.load(SeqCst), 1, "although the future is still there");
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
async fn it_leaves_the_stacks_own_body_type_in_place() {
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

// ===== Helpers =====

/// A chunk that tells when its memory is freed.
fn watched(text: &'static str) -> (Bytes, Arc<AtomicUsize>) {
    struct Watched(&'static str, Arc<AtomicUsize>);
    impl AsRef<[u8]> for Watched {
        fn as_ref(&self) -> &[u8] {
            self.0.as_bytes()
        }
    }
    impl Drop for Watched {
        fn drop(&mut self) {
            self.1.fetch_add(1, SeqCst);
        }
    }
    let dropped = Arc::default();
    (Bytes::from_owner(Watched(text, Arc::clone(&dropped))), dropped)
}
