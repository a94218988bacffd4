//! Keeps a body of any type while it streams.
//!
//! The inner service gets a [`ReplayBody`], the response future has the [`KeptBody`]. They share a
//! [`Record`]. The `ReplayBody` records what it reads and, when it ends or is dropped, gives back
//! what it has not read; the `KeptBody` makes the replay from both.
//!
//! ```text
//! Reading ──end, or body dropped──▶ Returned ──replay──▶ Void
//!    └──past the limit, an error, or KeptBody dropped──────▲
//! ```

mod storage;

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

use self::storage::Storage;
use super::strategy::{Replay, sealed::Sealed};

/// Keeps a copy of what the inner service reads of the body, up to a limit in bytes.
///
/// It delays no frame. If the token is rejected before the body has been read to its end, the
/// replay is what was kept, followed by the unread rest as soon as the inner service has released
/// it. Past the limit, or after an error of the body, there is no replay.
///
/// The limit counts the memory that the copy holds, however small the frames are. Trailers count
/// too: they may take the room that the data leaves, or 1 KiB if that is more.
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

    /// The most bytes that the layer keeps of a body.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }
}

impl<F> Sealed for BufferBody<F> {}

impl<B, F, W> Replay<B> for BufferBody<F>
where
    B: Body,
    F: Fn(ReplayBody<B>) -> W + Clone,
{
    type Body = W;
    type Kept = KeptBody<B, F>;
    const KEEPS: bool = true;

    fn keep(&self, body: &B, limit: Option<usize>) -> Option<KeptBody<B, F>> {
        let limit = limit.unwrap_or(self.limit);
        // Do not start to keep a body that is known to be too long.
        let may_fit = body.size_hint().lower() <= limit as u64;
        let kept = || KeptBody { record: Arc::new(Record::new(limit)), wrap: self.wrap.clone() };
        may_fit.then(kept)
    }

    fn pass(&self, request: Request<B>, kept: Option<&KeptBody<B, F>>) -> Request<W> {
        request.map(|body| {
            let mut body = ReplayBody::new(VecDeque::new(), Some(Box::pin(body)), None);
            body.record = kept.map(|kept| Arc::clone(&kept.record));
            (self.wrap)(body)
        })
    }

    fn can_restore(kept: &KeptBody<B, F>) -> bool {
        !kept.record.is_void()
    }

    fn poll_void(kept: &mut KeptBody<B, F>, cx: &mut Context<'_>) -> Poll<()> {
        kept.record.poll_void(cx)
    }

    fn poll_restore(kept: &mut KeptBody<B, F>, cx: &mut Context<'_>) -> Poll<Option<W>> {
        let body = ready!(kept.record.poll_replay(cx));
        Poll::Ready(body.map(|body| (kept.wrap)(body)))
    }
}

impl<F> fmt::Debug for BufferBody<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferBody").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// What [`BufferBody`] keeps of a body in flight. Dropping it frees the memory at once.
pub struct KeptBody<B, F> {
    record: Arc<Record<B>>,
    wrap: F,
}

impl<B, F> Drop for KeptBody<B, F> {
    fn drop(&mut self) {
        self.record.void();
    }
}

impl<B, F> fmt::Debug for KeptBody<B, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptBody").finish_non_exhaustive()
    }
}

// ===== impl ReplayBody =====

/// The body that [`BufferBody`] gives to the inner service: the request's own, frame by frame, or
/// its replay.
///
/// It is `Send` and `Sync` if the request's body is `Send`.
pub struct ReplayBody<B> {
    /// What was kept, on a replay.
    prefix: VecDeque<Bytes>,
    /// The request's body, as far as it has not ended. The mutex, which is never locked, makes this
    /// type `Sync`: whoever polls has exclusive access.
    unread: Option<Mutex<Pin<Box<B>>>>,
    trailers: Option<HeaderMap>,
    /// Records what is read, the first time.
    record: Option<Arc<Record<B>>>,
    /// The last size hint of `unread`.
    hint: SizeHint,
    ended: bool,
}

impl<B: Body> ReplayBody<B> {
    fn new(
        prefix: VecDeque<Bytes>,
        unread: Option<Pin<Box<B>>>,
        trailers: Option<HeaderMap>,
    ) -> Self {
        let mut body = Self {
            prefix,
            unread: unread.map(Mutex::new),
            trailers,
            record: None,
            hint: SizeHint::default(),
            ended: false,
        };
        body.look_at_unread();
        body
    }

    fn look_at_unread(&mut self) {
        (self.hint, self.ended) = match unread(&mut self.unread) {
            Some(unread) => (unread.size_hint(), unread.is_end_stream()),
            None => (SizeHint::with_exact(0), true),
        };
    }

    fn poll_unread(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let Some(unread) = unread(&mut self.unread) else { return Poll::Ready(None) };
        let polled = ready!(unread.as_mut().poll_frame(cx)).map(|frame| frame.map(into_bytes));
        match &polled {
            Some(Ok(frame)) => self.write_down(frame),
            Some(Err(_)) => self.record.take().into_iter().for_each(|record| record.void()),
            None => {
                self.unread = None;
                self.give_back();
            }
        }
        self.look_at_unread();
        Poll::Ready(polled)
    }

    fn write_down(&mut self, frame: &Frame<Bytes>) {
        let goes_on = self.record.as_ref().is_some_and(|record| record.push(frame));
        if !goes_on {
            self.record = None;
        }
    }
}

impl<B> ReplayBody<B> {
    fn give_back(&mut self) {
        if let Some(record) = self.record.take() {
            let unread = self.unread.take();
            record.give_back(
                unread.map(|unread| unread.into_inner().unwrap_or_else(PoisonError::into_inner)),
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
        match ready!(this.poll_unread(cx)) {
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
        // The upper bound first: the lower bound must not exceed it.
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

fn unread<B>(unread: &mut Option<Mutex<Pin<Box<B>>>>) -> Option<&mut Pin<Box<B>>> {
    unread.as_mut().map(|unread| unread.get_mut().unwrap_or_else(PoisonError::into_inner))
}

/// Free for `Bytes`.
fn into_bytes<D: Buf>(frame: Frame<D>) -> Frame<Bytes> {
    frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))
}

// ===== impl Record =====

/// What the two bodies share. No user code runs, and nothing of the user's is dropped, under its
/// lock.
struct Record<B>(Mutex<State<B>>);

enum State<B> {
    /// The inner service has the body; a task may wait for a change.
    Reading { kept: Storage, waiter: Option<Waker> },
    /// The inner service has released the body. `unread` is what it has not read, unless it has
    /// read everything.
    Returned { kept: Storage, unread: Option<Pin<Box<B>>> },
    /// There will be no replay, or it has been made.
    Void,
}

impl<B> Record<B> {
    fn new(limit: usize) -> Self {
        Self(Mutex::new(State::Reading { kept: Storage::new(limit), waiter: None }))
    }

    /// Keeps a copy of the frame. Returns whether to keep the next one too.
    fn push(&self, frame: &Frame<Bytes>) -> bool {
        let is_kept = match &mut *self.lock() {
            State::Reading { kept, .. } => kept.push(frame),
            State::Returned { .. } | State::Void => false,
        };
        if !is_kept {
            self.void();
        }
        is_kept
    }

    /// Takes the body back from the inner service.
    fn give_back(&self, unread: Option<Pin<Box<B>>>) {
        let mut state = self.lock();
        let before = mem::replace(&mut *state, State::Void);
        let State::Reading { kept, waiter } = before else {
            *state = before;
            drop(state);
            return;
        };
        *state = State::Returned { kept, unread };
        drop(state);
        waiter.into_iter().for_each(Waker::wake);
    }

    /// Rules out a replay, and frees what was kept at once.
    fn void(&self) {
        let before = mem::replace(&mut *self.lock(), State::Void);
        if let State::Reading { waiter: Some(waiter), .. } = before {
            waiter.wake();
        }
    }

    fn is_void(&self) -> bool {
        matches!(&*self.lock(), State::Void)
    }

    fn poll_void(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.wakes_later(cx) || !self.is_void() { Poll::Pending } else { Poll::Ready(()) }
    }

    /// The body again, as soon as the inner service has released it.
    fn poll_replay(&self, cx: &mut Context<'_>) -> Poll<Option<ReplayBody<B>>>
    where
        B: Body,
    {
        if self.wakes_later(cx) {
            return Poll::Pending;
        }
        let before = mem::replace(&mut *self.lock(), State::Void);
        let State::Returned { kept, unread } = before else { return Poll::Ready(None) };
        let (prefix, trailers) = kept.into_parts();
        Poll::Ready(Some(ReplayBody::new(prefix, unread, trailers)))
    }

    /// Whether the inner service still has the body. If so, the task is woken when that changes.
    fn wakes_later(&self, cx: &mut Context<'_>) -> bool {
        let waker = cx.waker().clone();
        let before = match &mut *self.lock() {
            State::Reading { waiter, .. } => Ok(waiter.replace(waker)),
            State::Returned { .. } | State::Void => Err(waker),
        };
        before.is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, State<B>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
