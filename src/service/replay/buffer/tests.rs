use std::{
    convert::{Infallible, identity},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    task::Wake,
};

use futures_util::FutureExt;
use http_body_util::{BodyExt, Full};

use super::*;

type Kept = KeptBody<Full<Bytes>, fn(ReplayBody<Full<Bytes>>) -> ReplayBody<Full<Bytes>>>;

/// A body of six bytes in flight, of which `limit` bytes may be kept.
fn sent(limit: usize) -> (ReplayBody<Full<Bytes>>, Kept) {
    let wrap: fn(_) -> _ = identity;
    // This bypasses `keep`, which refuses a body that is known to be too long.
    let body = Full::from(Bytes::from_static(b"abcdef"));
    let record = Arc::new(Record::new(limit));
    let mut sent = ReplayBody::new(VecDeque::new(), Some(Box::pin(body)), None);
    sent.record = Some(Arc::clone(&record));
    (sent, KeptBody { record, wrap })
}

fn read(body: &mut ReplayBody<Full<Bytes>>) -> Option<Result<Frame<Bytes>, Infallible>> {
    body.frame().now_or_never().expect("all is there")
}

/// Counts its wakes.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

#[test]
fn past_the_limit_the_record_is_void_and_its_waiter_is_woken() {
    let (mut body, kept) = sent(5);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    assert!(!kept.record.is_void());
    assert!(kept.record.poll_void(&mut cx).is_pending());
    read(&mut body);
    assert_eq!(woken.0.load(Relaxed), 1);
    assert!(kept.record.is_void());
    assert!(kept.record.poll_void(&mut cx).is_ready());
}

#[test]
fn past_the_limit_the_waiter_for_the_body_is_woken_and_gets_none() {
    let (mut body, mut kept) = sent(5);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    assert!(BufferBody::poll_restore(&mut kept, &mut cx).is_pending());
    read(&mut body);
    assert_eq!(woken.0.load(Relaxed), 1);
    assert!(matches!(BufferBody::poll_restore(&mut kept, &mut cx), Poll::Ready(None)));
}

#[test]
fn what_came_back_is_not_void_until_it_is_replayed() {
    let (body, mut kept) = sent(6);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    assert!(kept.record.poll_void(&mut cx).is_pending());
    drop(body);
    assert_eq!(woken.0.load(Relaxed), 1, "it may be wanted for the replay");
    assert!(kept.record.poll_void(&mut cx).is_pending());
    assert!(!kept.record.is_void());
    let Poll::Ready(Some(replay)) = BufferBody::poll_restore(&mut kept, &mut cx) else {
        panic!("it came back");
    };
    assert!(kept.record.is_void());
    let text = replay.collect().now_or_never().unwrap().unwrap().to_bytes();
    assert_eq!(text, "abcdef");
}

#[test]
fn nothing_is_kept_once_the_replay_is_dropped() {
    let (mut body, kept) = sent(6);
    drop(kept);
    read(&mut body).unwrap().unwrap();
    assert!(body.record.is_none());
}

#[test]
fn what_is_past_the_limit_cannot_be_restored() {
    let (mut body, kept) = sent(5);
    assert!(BufferBody::can_restore(&kept));
    read(&mut body);
    assert!(!BufferBody::can_restore(&kept));
}

#[test]
fn a_body_has_ended_when_nothing_of_it_is_left() {
    let (mut body, _kept) = sent(6);
    assert!(!body.is_end_stream());
    read(&mut body);
    assert!(body.is_end_stream());

    let kept = VecDeque::from([Bytes::from_static(b"abc")]);
    let mut replay = ReplayBody::<Full<Bytes>>::new(kept, None, None);
    assert!(!replay.is_end_stream(), "what was kept has to be sent");
    read(&mut replay);
    assert!(replay.is_end_stream());

    let mut trailers =
        ReplayBody::<Full<Bytes>>::new(VecDeque::new(), None, Some(HeaderMap::new()));
    assert!(!trailers.is_end_stream(), "trailers have to be sent");
    read(&mut trailers);
    assert!(trailers.is_end_stream());
}

#[test]
fn the_limit_is_the_one_that_was_set() {
    assert_eq!(BufferBody::new(7, identity::<()>).limit(), 7);
}
