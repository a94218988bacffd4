//! A request's body, and the part of the replay budget that it uses.

use std::{
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use axum::body::HttpBody;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::budget::Reservation;

/// The reservation for one request, while the layer may keep a part of its body. Two owners share
/// it: the request in the layer, until its response arrives, and the replayed body, until all kept
/// bytes have passed.
pub(crate) struct Kept {
    limit: usize,
    reservation: Reservation,
    /// How many bytes of the body passed in the first attempt.
    recorded: AtomicUsize,
    is_replay: AtomicBool,
}

/// The body that the HTTP client sends, in the first attempt or the replay.
pub(crate) struct Held<B> {
    body: B,
    role: Role,
}

enum Role {
    /// The first attempt: the layer may keep `room` more bytes. Once the request is answered the
    /// layer keeps none, even if the body continues; `kept` is then dead.
    Recorded { room: usize, kept: Weak<Kept> },
    /// The replay: the layer had kept the next `left` bytes.
    Replayed { left: usize, kept: Option<Arc<Kept>> },
}

// ===== impl Kept =====

impl Kept {
    pub(crate) fn new(limit: usize, reservation: Reservation) -> Self {
        Self {
            limit,
            reservation,
            recorded: AtomicUsize::new(0),
            is_replay: AtomicBool::new(false),
        }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Wraps the body of the first attempt, and in the second call that of the replay.
    pub(crate) fn hold<B>(self: &Arc<Self>, body: B) -> Held<B> {
        let role = if self.is_replay.swap(true, Relaxed) {
            let left = self.recorded.load(Relaxed);
            Role::Replayed { left, kept: (left > 0).then(|| Arc::clone(self)) }
        } else {
            Role::Recorded { room: self.limit, kept: Arc::downgrade(self) }
        };
        Held { body, role }
    }
}

// ===== impl Role =====

impl Role {
    fn passed(&mut self, bytes: usize) {
        match self {
            Self::Recorded { room, kept } => {
                let Some(kept) = kept.upgrade() else { return };
                kept.recorded.fetch_add(bytes, Relaxed);
                match room.checked_sub(bytes) {
                    Some(less) => *room = less,
                    None => kept.reservation.release(),
                }
            }
            Self::Replayed { left, kept } => {
                *left = left.saturating_sub(bytes);
                if *left == 0 {
                    *kept = None;
                }
            }
        }
    }

    /// The layer does not replay a body that breaks.
    fn broke(&mut self) {
        if let Self::Recorded { kept, .. } = self {
            kept.upgrade().into_iter().for_each(|kept| kept.reservation.release());
        }
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for Held<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => self.role.passed(frame.data_ref().map_or(0, Bytes::len)),
            Some(Err(_)) => self.role.broke(),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use futures_util::{FutureExt, stream};
    use http_body_util::BodyExt;

    use super::*;
    use crate::budget::Budget;

    /// A budget of 100 bytes, 10 of which are reserved.
    fn reserved() -> (Budget, Arc<Kept>) {
        let budget = Budget::new(100);
        let reservation = budget.reserve(10).unwrap();
        (budget, Arc::new(Kept::new(10, reservation)))
    }

    fn pieces(pieces: &'static [&'static str]) -> Body {
        let pieces = pieces.iter().map(|piece| match *piece {
            "broken" => Err("broken"),
            piece => Ok(piece),
        });
        Body::from_stream(stream::iter(pieces))
    }

    fn next(body: &mut Held<Body>) {
        drop(body.frame().now_or_never().expect("the body is ready"));
    }

    #[test]
    fn a_kept_body_is_charged_until_the_response() {
        let (budget, kept) = reserved();
        let mut body = kept.hold(pieces(&["12345", "67890", ""]));
        next(&mut body);
        next(&mut body);
        assert_eq!(budget.free(), 90);
        // The layer drops its share when the response arrives. The body continues.
        drop(kept);
        assert_eq!(budget.free(), 100);
        next(&mut body);
    }

    #[test]
    fn a_body_past_the_limit_or_with_an_error_is_not_charged() {
        for body in [&["1234567890", "1"][..], &["1", "broken"]] {
            let (budget, kept) = reserved();
            let mut body = kept.hold(pieces(body));
            next(&mut body);
            assert_eq!(budget.free(), 90);
            next(&mut body);
            assert_eq!(budget.free(), 100);
        }
    }

    #[test]
    fn a_replay_is_charged_until_all_kept_bytes_have_passed() {
        let (budget, kept) = reserved();
        let mut first = kept.hold(pieces(&["123", "45", "6"]));
        next(&mut first);
        next(&mut first);
        drop(first);
        let mut replay = kept.hold(pieces(&["123", "45", "6"]));
        drop(kept);
        next(&mut replay);
        assert_eq!(budget.free(), 90);
        next(&mut replay);
        assert_eq!(budget.free(), 100);
    }

    #[test]
    fn an_empty_or_dropped_replay_is_not_charged() {
        let (budget, kept) = reserved();
        drop(kept.hold(pieces(&["123"])));
        let replay = kept.hold(pieces(&["123"]));
        drop(kept);
        assert_eq!(budget.free(), 100);
        drop(replay);

        let (budget, kept) = reserved();
        next(&mut kept.hold(pieces(&["123"])));
        let replay = kept.hold(pieces(&["123"]));
        drop(kept);
        assert_eq!(budget.free(), 90);
        drop(replay);
        assert_eq!(budget.free(), 100);
    }
}
