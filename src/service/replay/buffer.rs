//! A body of any kind, kept while it streams.
//!
//! Two share a tape. The [`ReplayBody`] that the inner service was handed records on it, and
//! gives it back, with the rest of the body, at its end or when it is dropped; the [`KeptBody`]
//! of the response future plays it.
//!
//! ```text
//! Recording ──end, or body dropped──▶ Returned ──played
//!     ├──past the limit, or an error──▶ Void
//!     └──KeptBody dropped─────────────────▶ Void
//! ```

use std::{
    collections::VecDeque,
    fmt, mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes};
use http::{HeaderMap, Request};
use http_body::{Body, Frame, SizeHint};

use super::Replay;

/// Keeps a copy of what is read of the body, up to a limit in bytes.
///
/// No frame is delayed. If the token was rejected before the body's end was read, the replay is
/// what was kept, followed by the rest as soon as the inner service has let go of it. Past the
/// limit, or after an error of the body, there is no replay.
#[derive(Clone)]
pub struct BufferBody<F> {
    limit: usize,
    wrap: F,
}

// ===== impl BufferBody =====

impl<F> BufferBody<F> {
    pub(crate) fn new(limit: usize, wrap: F) -> Self {
        Self { limit, wrap }
    }

    /// How many bytes of a body are kept at most.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }
}

impl<B, F, W> Replay<B> for BufferBody<F>
where
    B: Body,
    F: Fn(ReplayBody<B>) -> W + Clone,
{
    type Body = W;
    type Kept = KeptBody<B, F>;
    const KEEPS: bool = true;

    fn pass(&self, request: Request<B>) -> Request<W> {
        let body = |body| ReplayBody::new(VecDeque::new(), Some(Box::pin(body)), None);
        request.map(|it| (self.wrap)(body(it)))
    }

    fn keep(
        &self,
        request: Request<B>,
        limit: Option<usize>,
    ) -> (Request<W>, Option<KeptBody<B, F>>) {
        let limit = limit.unwrap_or(self.limit);
        if request.body().size_hint().lower() > limit as u64 {
            return (self.pass(request), None);
        }
        let tape = Arc::new(Tape::new(limit));
        let request = request.map(|body| {
            let mut body = ReplayBody::new(VecDeque::new(), Some(Box::pin(body)), None);
            body.tape = Some(Arc::clone(&tape));
            (self.wrap)(body)
        });
        (request, Some(KeptBody { tape, wrap: self.wrap.clone() }))
    }

    fn can_restore(kept: &KeptBody<B, F>) -> bool {
        !kept.tape.is_void()
    }

    fn poll_spoilt(kept: &mut KeptBody<B, F>, _: &mut Context<'_>) -> Poll<()> {
        if kept.tape.is_void() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn poll_restore(kept: &mut KeptBody<B, F>, cx: &mut Context<'_>) -> Poll<Option<W>> {
        let body = ready!(kept.tape.poll_play(cx));
        Poll::Ready(body.map(|body| (kept.wrap)(body)))
    }
}

impl<F> fmt::Debug for BufferBody<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferBody").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// What [`BufferBody`] keeps of a body that is on its way. Dropping it frees that at once.
pub struct KeptBody<B, F> {
    tape: Arc<Tape<B>>,
    wrap: F,
}

impl<B, F> Drop for KeptBody<B, F> {
    fn drop(&mut self) {
        self.tape.void();
    }
}

impl<B, F> fmt::Debug for KeptBody<B, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptBody").finish_non_exhaustive()
    }
}

// ===== impl ReplayBody =====

/// The body that the inner service is handed by [`BufferBody`]: the request's own, frame by
/// frame, or its replay.
///
/// It is `Send` and `Sync` if the request's body is `Send`.
pub struct ReplayBody<B> {
    /// What was kept, on a replay.
    prefix: VecDeque<Bytes>,
    /// The request's body, as far as it has not ended. A lock that is never taken makes it
    /// `Sync`: whoever polls has it for himself.
    rest: Option<Mutex<Pin<Box<B>>>>,
    trailers: Option<HeaderMap>,
    /// Where to record, the first time.
    tape: Option<Arc<Tape<B>>>,
    /// What `rest` said last.
    hint: SizeHint,
    ended: bool,
}

impl<B: Body> ReplayBody<B> {
    fn new(
        prefix: VecDeque<Bytes>,
        rest: Option<Pin<Box<B>>>,
        trailers: Option<HeaderMap>,
    ) -> Self {
        let mut body = Self {
            prefix,
            rest: rest.map(Mutex::new),
            trailers,
            tape: None,
            hint: SizeHint::default(),
            ended: false,
        };
        body.look_at_rest();
        body
    }

    fn look_at_rest(&mut self) {
        (self.hint, self.ended) = match rest(&mut self.rest) {
            Some(rest) => (rest.size_hint(), rest.is_end_stream()),
            None => (SizeHint::with_exact(0), true),
        };
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let Some(rest) = rest(&mut self.rest) else { return Poll::Ready(None) };
        let polled = ready!(rest.as_mut().poll_frame(cx)).map(|frame| frame.map(into_bytes));
        match &polled {
            Some(Ok(frame)) => self.record(frame),
            Some(Err(_)) => self.tape.take().into_iter().for_each(|tape| tape.void()),
            None => {
                self.rest = None;
                self.give_back();
            }
        }
        self.look_at_rest();
        Poll::Ready(polled)
    }

    fn record(&mut self, frame: &Frame<Bytes>) {
        let goes_on = self.tape.as_ref().is_some_and(|tape| tape.record(frame));
        if !goes_on {
            self.tape = None;
        }
    }
}

impl<B> ReplayBody<B> {
    fn give_back(&mut self) {
        if let Some(tape) = self.tape.take() {
            let rest = self.rest.take();
            tape.give_back(
                rest.map(|rest| rest.into_inner().unwrap_or_else(PoisonError::into_inner)),
            );
        }
    }
}

impl<B: Body> Body for ReplayBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        if let Some(kept) = this.prefix.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(kept))));
        }
        match ready!(this.poll_rest(cx)) {
            Some(frame) => Poll::Ready(Some(frame)),
            None => Poll::Ready(this.trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.prefix.is_empty() && self.ended && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let kept: u64 = self.prefix.iter().map(|kept| kept.len() as u64).sum();
        let mut hint = SizeHint::default();
        // The upper bound first: the lower one may not pass it.
        if let Some(upper) = self.hint.upper().and_then(|upper| upper.checked_add(kept)) {
            hint.set_upper(upper);
        }
        hint.set_lower(self.hint.lower().saturating_add(kept));
        hint
    }
}

impl<B> Drop for ReplayBody<B> {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl<B> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayBody")
            .field("size_hint", &self.hint)
            .field("is_end_stream", &self.ended)
            .finish_non_exhaustive()
    }
}

fn rest<B>(rest: &mut Option<Mutex<Pin<Box<B>>>>) -> Option<&mut Pin<Box<B>>> {
    rest.as_mut().map(|rest| rest.get_mut().unwrap_or_else(PoisonError::into_inner))
}

/// Costs nothing for `Bytes`.
fn into_bytes<D: Buf>(frame: Frame<D>) -> Frame<Bytes> {
    frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))
}

// ===== impl Tape =====

/// What the two share. Nothing of the user's is called or dropped under its lock.
struct Tape<B>(Mutex<Recording<B>>);

struct Recording<B> {
    /// How many bytes may still be recorded.
    room: usize,
    frames: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
    phase: Phase<B>,
}

enum Phase<B> {
    /// The inner service has the body; perhaps somebody waits for it.
    Recording(Option<Waker>),
    /// What had not been read, unless all was.
    Returned(Option<Pin<Box<B>>>),
    /// There will be no replay.
    Void,
}

impl<B> Tape<B> {
    fn new(limit: usize) -> Self {
        Self(Mutex::new(Recording {
            room: limit,
            frames: VecDeque::new(),
            trailers: None,
            phase: Phase::Recording(None),
        }))
    }

    fn is_void(&self) -> bool {
        matches!(self.lock().phase, Phase::Void)
    }

    /// Whether the recording goes on.
    fn record(&self, frame: &Frame<Bytes>) -> bool {
        let mut recording = self.lock();
        if !matches!(recording.phase, Phase::Recording(_)) {
            return false;
        }
        if let Some(data) = frame.data_ref() {
            let Some(room) = recording.room.checked_sub(data.len()) else {
                drop(recording);
                self.void();
                return false;
            };
            recording.room = room;
            if !data.is_empty() {
                recording.frames.push_back(data.clone());
            }
        } else {
            recording.trailers = frame.trailers_ref().cloned();
        }
        true
    }

    /// The inner service has let go of the body.
    fn give_back(&self, rest: Option<Pin<Box<B>>>) {
        self.leave_recording(Phase::Returned(rest));
    }

    /// There will be no replay: what was recorded is freed.
    fn void(&self) {
        self.leave_recording(Phase::Void);
        let frames = mem::take(&mut self.lock().frames);
        drop(frames);
    }

    fn leave_recording(&self, next: Phase<B>) {
        let mut recording = self.lock();
        let unused = match &mut recording.phase {
            Phase::Recording(waiter) => {
                let waiter = waiter.take();
                recording.phase = next;
                Ok(waiter)
            }
            _ => Err(next),
        };
        drop(recording);
        if let Ok(Some(waiter)) = unused {
            waiter.wake();
        }
    }

    /// The body once more, as soon as it is back.
    fn poll_play(&self, cx: &mut Context<'_>) -> Poll<Option<ReplayBody<B>>>
    where
        B: Body,
    {
        let mut recording = self.lock();
        let rest = match mem::replace(&mut recording.phase, Phase::Void) {
            Phase::Void => return Poll::Ready(None),
            Phase::Returned(rest) => rest,
            Phase::Recording(before) => {
                recording.phase = Phase::Recording(Some(cx.waker().clone()));
                drop(recording);
                drop(before);
                return Poll::Pending;
            }
        };
        let (prefix, trailers) = (mem::take(&mut recording.frames), recording.trailers.take());
        drop(recording);
        Poll::Ready(Some(ReplayBody::new(prefix, rest, trailers)))
    }

    fn lock(&self) -> MutexGuard<'_, Recording<B>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
