//! A body that is kept while it streams, against a plain model of it.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_bearer::{AccessToken, BearerAuthLayer, ReplayBody, TokenError, from_fn};

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Data(Vec<u8>),
    Trailers(usize),
    Error,
    /// Nothing yet.
    Pause,
}

/// The pieces that are left, and how many bytes it says that there are.
struct Script(VecDeque<Piece>, SizeHint);

impl Body for Script {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(match self.0.pop_front() {
            None => None,
            Some(Piece::Data(data)) => Some(Ok(Frame::data(data.into()))),
            Some(Piece::Trailers(length)) => Some(Ok(Frame::trailers(trailers(length)))),
            Some(Piece::Error) => {
                self.0.clear();
                Some(Err(io::Error::other("broken")))
            }
            Some(Piece::Pause) => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        })
    }

    fn size_hint(&self) -> SizeHint {
        self.1
    }
}

fn trailers(length: usize) -> HeaderMap {
    let value = HeaderValue::from_str(&"x".repeat(length)).expect("ASCII");
    HeaderMap::from_iter([(http::HeaderName::from_static("t"), value)])
}

/// What one call read: its data, its trailers, and whether it ended with an error.
#[derive(Debug, Default, PartialEq)]
struct Read {
    data: Vec<u8>,
    trailers: Option<usize>,
    broke: bool,
}

async fn read(mut body: ReplayBody<Script>, frames: usize) -> Read {
    let mut read = Read::default();
    for _ in 0..frames {
        match body.frame().await {
            None => break,
            Some(Err(_)) => {
                read.broke = true;
                break;
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => read.data.extend_from_slice(&data),
                Err(frame) => {
                    let trailers = frame.into_trailers().expect("no data");
                    read.trailers = Some(trailers["t"].len());
                }
            },
        }
    }
    read
}

/// The same of the script itself.
fn expected(script: &[Piece], frames: usize) -> Read {
    let mut read = Read::default();
    for piece in script.iter().filter(|piece| **piece != Piece::Pause).take(frames) {
        match piece {
            Piece::Data(data) => read.data.extend_from_slice(data),
            Piece::Trailers(length) => read.trailers = Some(*length),
            Piece::Error => {
                read.broke = true;
                break;
            }
            Piece::Pause => {}
        }
    }
    read
}

/// The first three bytes: the limit, how many frames the first call reads, and what the body says
/// of its length. Then two bytes for each piece.
pub fn replay_body(data: &[u8]) {
    let [limit, frames, hint, pieces @ ..] = data else { return };
    let limit = usize::from(*limit) * 16;
    let frames = usize::from(*frames);
    let mut script = Vec::new();
    for (at, piece) in pieces.chunks_exact(2).enumerate().take(64) {
        let length = usize::from(piece[1]) * if piece[0] & 0x40 == 0 { 1 } else { 8 };
        let fill = u8::try_from(at).expect("64 at most");
        script.push(match piece[0] % 8 {
            0 => Piece::Pause,
            1 => Piece::Error,
            2 => Piece::Trailers(length),
            _ => Piece::Data(vec![fill; length]),
        });
        // Nothing comes after these.
        if matches!(script.last(), Some(Piece::Error | Piece::Trailers(_))) {
            break;
        }
    }
    let whole = expected(&script, usize::MAX);
    let first = expected(&script, frames);
    let length = whole.data.len() as u64;
    let hint = match hint % 3 {
        0 => SizeHint::default(),
        1 => SizeHint::with_exact(length),
        _ => {
            let mut hint = SizeHint::new();
            hint.set_lower(length / 2);
            hint
        }
    };

    let calls = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&calls);
    let api = service_fn(move |request: Request<ReplayBody<Script>>| {
        let seen = Arc::clone(&seen);
        async move {
            let is_first = seen.lock().expect("no panic").is_empty();
            let read = read(request.into_body(), if is_first { frames } else { usize::MAX }).await;
            seen.lock().expect("no panic").push(read);
            let status = if is_first { StatusCode::UNAUTHORIZED } else { StatusCode::OK };
            Ok::<_, BoxError>(Response::builder().status(status).body(())?)
        }
    });
    let count = Arc::new(Mutex::new(0));
    let source = from_fn(move |_| {
        *count.lock().expect("no panic") += 1;
        let token = AccessToken::new(format!("t-{}", count.lock().expect("no panic")));
        async move { token.map_err(TokenError::permanent) }
    });
    let layer = BearerAuthLayer::new(source).origin("https://api.example.com").expect("an origin");
    let stack = layer.buffer_body(limit, |body| body).layer(api);
    let may_begin = hint.lower() <= limit as u64;
    let request = Request::post("https://api.example.com/").body(Script(script.into(), hint));
    let answer = block_on(stack.oneshot(request.expect("a request"))).expect("an answer");

    let calls = std::mem::take(&mut *calls.lock().expect("no panic"));
    assert_eq!(calls[0], first, "no frame is delayed or changed");
    if let Some(replayed) = calls.get(1) {
        assert_eq!(*replayed, whole, "the replay is the whole body");
        assert!(may_begin && !first.broke && first.data.len() <= limit);
        assert_eq!(answer.status(), StatusCode::OK);
    } else {
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        // Small frames and trailers take more room than their bytes; and what is kept is
        // allocated in powers of two.
        let room = 4 * first.data.len() + first.trailers.map_or(0, |length| length + 1024) + 512;
        assert!(!may_begin || first.broke || room > limit, "{first:?} within {limit}");
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work)
}
