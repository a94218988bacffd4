//! The same for a schedule explorer: tasks are its tasks, and what time it is the explored program
//! says, by [`ring`].

use std::{
    cell::{Cell, RefCell},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::future::{Either, select};
pub(in crate::cache) use shuttle::future::AbortHandle;
use shuttle::future::JoinHandle;
use tokio::time::Instant;

use crate::error::CacheError;

// All threads of an explored program are one thread.
thread_local! {
    static RUNG: Cell<u64> = const { Cell::new(0) };
    static WAITING: RefCell<Vec<Waker>> = const { RefCell::new(Vec::new()) };
    static RUNNING: Cell<usize> = const { Cell::new(0) };
}

/// The time comes that everybody waits for who waits now.
pub(in crate::cache) fn ring() {
    RUNG.set(RUNG.get() + 1);
    WAITING.take().into_iter().for_each(Waker::wake);
}

/// Explores one program: it is over when all tasks are, for the explorer would drop them at any step.
pub(in crate::cache) fn explored(program: impl FnOnce()) {
    WAITING.take();
    RUNNING.set(0);
    program();
    while RUNNING.get() > 0 {
        ring();
        shuttle::thread::yield_now();
    }
}

/// A task is over when this is dropped.
struct Running;

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.set(RUNNING.get() - 1);
    }
}

#[derive(Clone, Debug)]
pub(in crate::cache) struct Runtime;

pub(in crate::cache) fn runtime() -> Result<Runtime, CacheError> {
    Ok(Runtime)
}

impl Runtime {
    pub(in crate::cache) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        RUNNING.set(RUNNING.get() + 1);
        let running = Running;
        shuttle::future::spawn(async move {
            let _running = running;
            task.await
        })
    }

    pub(in crate::cache) fn enter(&self) {}
}

pub(in crate::cache) struct Sleep {
    from: u64,
}

pub(in crate::cache) fn sleep(_: Duration) -> Sleep {
    Sleep { from: RUNG.get() }
}

pub(in crate::cache) fn sleep_until(_: Instant) -> Sleep {
    Sleep { from: RUNG.get() }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if RUNG.get() > self.from {
            return Poll::Ready(());
        }
        WAITING.with_borrow_mut(|waiting| waiting.push(cx.waker().clone()));
        Poll::Pending
    }
}

pub(in crate::cache) fn poll_timer(
    timer: Pin<&mut Sleep>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), CacheError>> {
    timer.poll(cx).map(Ok)
}

pub(in crate::cache) async fn timeout<F: Future>(_: Duration, work: F) -> Result<F::Output, ()> {
    match select(pin!(work), sleep(Duration::ZERO)).await {
        Either::Left((done, _)) => Ok(done),
        Either::Right(_) => Err(()),
    }
}

pub(in crate::cache) async fn timeout_at<F: Future>(_: Instant, work: F) -> Result<F::Output, ()> {
    timeout(Duration::ZERO, work).await
}
