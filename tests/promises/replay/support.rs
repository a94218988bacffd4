//! Bodies, and an inner service, that do what the test says.

use std::{
    cell::Cell,
    marker::{PhantomData, PhantomPinned},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use pin_project_lite::pin_project;
use tokio::sync::{mpsc, oneshot};
use tower::{BoxError, Layer, Service};
use tower_bearer::{BearerAuth, BufferBody, ReplayBody, TokenCache};

use crate::support::{API, Mint, cache, layer};

// ===== A body that the test feeds =====

pub(crate) type Item = Result<Frame<Bytes>, &'static str>;

pin_project! {
    /// Not `Clone`, not `Sync`, not `Unpin`. It panics if it is polled after its end.
    pub(crate) struct Fed {
        items: mpsc::UnboundedReceiver<Item>,
        has_ended: bool,
        pub(crate) hint: SizeHint,
        pub(crate) dropped: Option<oneshot::Sender<()>>,
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

pub(crate) fn fed() -> (mpsc::UnboundedSender<Item>, Fed) {
    let (sender, items) = mpsc::unbounded_channel();
    let fed = Fed {
        items,
        has_ended: false,
        hint: SizeHint::default(),
        dropped: None,
        no_sync: PhantomData,
        no_unpin: PhantomPinned,
    };
    (sender, fed)
}

#[expect(clippy::unnecessary_wraps, reason = "it stands beside errors")]
pub(crate) fn data(text: &'static str) -> Item {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

pub(crate) fn trailers() -> HeaderMap {
    HeaderMap::from_iter([("x-checksum".parse().unwrap(), "42".parse().unwrap())])
}

impl Body for Fed {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        let this = self.project();
        assert!(!*this.has_ended, "polled after its end");
        let item = ready!(this.items.poll_recv(cx));
        *this.has_ended = item.is_none();
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

/// How much of the first request's body is read before it is rejected; what remains of it is then
/// kept until the test drops it.
#[derive(Clone)]
pub(crate) struct Picky {
    frames: usize,
    held: Arc<Mutex<Vec<Box<dyn std::any::Any + Send>>>>,
    pub(crate) seen: Arc<Mutex<Vec<Got>>>,
    pub(crate) hints: Arc<Mutex<Vec<SizeHint>>>,
}

/// One request as it arrived: its body, its trailers, whether the body failed.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Got {
    pub(crate) text: String,
    pub(crate) trailers: Option<HeaderMap>,
    pub(crate) failed: bool,
}

impl Picky {
    pub(crate) fn rejecting_after(frames: usize) -> Self {
        Self { frames, held: Arc::default(), seen: Arc::default(), hints: Arc::default() }
    }

    pub(crate) fn let_go(&self) {
        self.held.lock().unwrap().clear();
    }

    pub(crate) fn texts(&self) -> Vec<String> {
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
            let (mut read, mut at_end) = (0, false);
            while !is_first || read < this.frames {
                let says_end = body.is_end_stream();
                let frame = body.frame().await;
                assert!(!says_end || frame.is_none(), "that was not the end");
                match frame {
                    None => {
                        at_end = true;
                        break;
                    }
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
            assert!(!at_end || body.frame().await.is_none(), "it has ended twice");
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

pub(crate) fn buffered(limit: usize, inner: &Picky) -> Buffered {
    buffered_over(&cache(Mint::default()), limit, inner)
}

pub(crate) fn buffered_over(cache: &TokenCache, limit: usize, inner: &Picky) -> Buffered {
    let wrap: Identity = std::convert::identity;
    layer(cache).buffer_body(limit, wrap).layer(inner.clone())
}

pub(crate) type Buffered = BearerAuth<Picky, BufferBody<Identity>>;

type Identity = fn(ReplayBody<Fed>) -> ReplayBody<Fed>;

pub(crate) fn post(body: Fed) -> Request<Fed> {
    Request::post(API).body(body).unwrap()
}

/// A chunk that tells when its memory is freed.
pub(crate) fn watched(text: &'static str) -> (Bytes, Arc<AtomicUsize>) {
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
