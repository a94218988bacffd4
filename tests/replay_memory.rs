//! How much memory `BufferBody` holds, exactly. Each thread counts its own.

#[path = "common/heap.rs"]
mod heap;

use std::{
    cell::Cell,
    convert::{Infallible, identity},
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use tower::{Layer, Service};
use tower_bearer::{
    AccessToken, BearerAuth, BearerAuthLayer, BufferBody, ReplayBody, TokenCache, TokenError,
    from_fn,
};

// ===== The memory of this thread =====

/// How many more bytes are allocated now than before.
fn more_than(before: usize) -> usize {
    heap::live().saturating_sub(before)
}

// ===== A body that is made while it is read =====

/// So many frames, one after another, and what comes then.
struct Frames {
    left: usize,
    next: fn() -> Bytes,
    end: End,
    hint: SizeHint,
}

#[derive(Clone, Copy)]
enum End {
    Nothing,
    Error,
    /// So many fields.
    Trailers(usize),
    /// It stays open.
    Never,
}

impl Frames {
    fn new(count: usize, next: fn() -> Bytes) -> Self {
        Self { left: count, next, end: End::Nothing, hint: SizeHint::default() }
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        if self.left > 0 {
            self.left -= 1;
            return Poll::Ready(Some(Ok(Frame::data((self.next)()))));
        }
        let end = match self.end {
            End::Nothing => None,
            End::Error => Some(Err("cut")),
            End::Trailers(count) => Some(Ok(Frame::trailers(fields(count)))),
            End::Never => return Poll::Pending,
        };
        self.end = End::Nothing;
        Poll::Ready(end)
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}

/// One byte, cut from a buffer that a connection reads into.
fn one_byte() -> Bytes {
    Bytes::from(vec![b'x'; 8192]).slice(..1)
}

fn kilobyte() -> Bytes {
    Bytes::from(vec![b'x'; 1024])
}

/// Each value is cut from such a buffer too.
fn fields(count: usize) -> HeaderMap {
    let name = |nth| HeaderName::try_from(format!("x-{nth}")).unwrap();
    let value = || HeaderValue::from_maybe_shared(one_byte()).unwrap();
    (0..count).map(|nth| (name(nth), value())).collect()
}

// ===== The stack =====

type Sent = ReplayBody<Frames>;

/// An inner service that reads all of the body that there is, hands it to the test, and answers when
/// the test says so.
#[derive(Clone)]
struct Inner {
    tell: fn(Sent),
}

thread_local! {
    static SENT: Cell<Option<Sent>> = const { Cell::new(None) };
    static ANSWER: Cell<Option<oneshot::Receiver<()>>> = const { Cell::new(None) };
}

impl Service<Request<Sent>> for Inner {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<()>, Infallible>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Sent>) -> Self::Future {
        let tell = self.tell;
        Box::pin(async move {
            let mut body = request.into_body();
            while let Some(Some(Ok(_))) = body.frame().now_or_never() {}
            tell(body);
            let answer = ANSWER.take().expect("there is one request");
            let _ = answer.await;
            Ok(Response::new(()))
        })
    }
}

type Wrap = fn(Sent) -> Sent;

async fn stack(limit: usize) -> BearerAuth<Inner, BufferBody<Wrap>> {
    let cache = TokenCache::new(from_fn(|_| async {
        AccessToken::new("abc").map_err(TokenError::permanent)
    }));
    cache.get().await.unwrap();
    let layer = BearerAuthLayer::from_cache(cache).origin("https://api.example.com").unwrap();
    let wrap: Wrap = identity;
    layer.buffer_body(limit, wrap).layer(Inner { tell: |body| SENT.set(Some(body)) })
}

/// How much memory a request adds: once its body has been read, and once it was accepted, while
/// the inner service still has the body and the caller the future.
async fn held(limit: usize, body: Frames) -> (usize, usize) {
    let mut stack = stack(limit).await;
    let (answer, answered) = oneshot::channel();
    ANSWER.set(Some(answered));
    let request = Request::post("https://api.example.com/").body(body).unwrap();
    let before = heap::live();
    let mut call = pin!(stack.call(request));
    assert!(call.as_mut().now_or_never().is_none(), "it waits for its answer");
    let sent = SENT.take().expect("it was sent");
    let while_sent = more_than(before);
    answer.send(()).unwrap();
    call.as_mut().await.unwrap();
    let accepted = more_than(before);
    drop(sent);
    (while_sent, accepted)
}

/// What a request takes beside its body.
const OTHER: usize = 4 * 1024;

const LIMIT: usize = 64 * 1024;

#[tokio::test]
async fn the_limit_is_for_the_memory_that_is_held_however_small_the_frames_are() {
    let (held, _) = held(LIMIT, Frames::new(10_000, one_byte)).await;
    assert!(held >= 10_000, "they are kept: {held}");
    assert!(held <= 2 * 10_000 + OTHER, "{held}");
    let (held, _) = self::held(LIMIT, Frames::new(LIMIT, one_byte)).await;
    assert!((LIMIT..=LIMIT + OTHER).contains(&held), "{held}");
}

#[tokio::test]
async fn endless_empty_frames_hold_nothing() {
    let (held, _) = held(LIMIT, Frames::new(100_000, Bytes::new)).await;
    assert!(held <= OTHER, "{held}");
}

#[tokio::test]
async fn trailers_count_too() {
    for count in [1, 200, 2_000] {
        let mut body = Frames::new(1, kilobyte);
        body.end = End::Trailers(count);
        let (held, _) = held(LIMIT, body).await;
        assert!(held <= LIMIT + OTHER, "{count} fields: {held}");
    }
}

#[tokio::test]
async fn past_the_limit_and_after_an_error_nothing_is_held_any_more() {
    let past = Frames::new(65, kilobyte);
    let mut failed = Frames::new(10, kilobyte);
    failed.end = End::Error;
    for body in [past, failed] {
        let (held, _) = held(LIMIT, body).await;
        assert!(held <= OTHER, "{held}");
    }
}

#[tokio::test]
async fn a_body_that_says_it_is_past_the_limit_is_not_kept_at_all() {
    let mut body = Frames::new(10, kilobyte);
    body.hint.set_lower(LIMIT as u64 + 1);
    let (held, _) = held(LIMIT, body).await;
    assert!(held <= OTHER, "{held}");
}

#[tokio::test]
async fn what_was_kept_is_freed_at_once_when_the_request_is_accepted() {
    for end in [End::Nothing, End::Never] {
        let mut body = Frames::new(64, kilobyte);
        body.end = end;
        let (held, accepted) = held(LIMIT, body).await;
        assert!(held >= LIMIT, "{held}");
        assert!(accepted <= OTHER, "{accepted}");
    }
}
