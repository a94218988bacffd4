//! Hands new refresh tokens to the user's hook, one after another.
//!
//! ```text
//!           push                      the hook has ended
//!  idle ──────────▶ running the first ──────────────────▶ running the next, or idle
//!                       │ the runtime drops the task
//!                       ▼
//!                   waiting ──the next push or fetch──▶ running the first again
//! ```
//!
//! A push moves it from idle, the task moves it from there on, and [`Worker`] moves it when it is
//! dropped. A token stays first until its hook has ended, so that none is lost with a runtime, and
//! none is stored after a newer one.

use std::{
    collections::VecDeque,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{Either, select},
};
use tokio::{
    runtime::Handle,
    sync::Notify,
    time::{Instant, sleep},
};
use zeroize::Zeroizing;

use crate::observe::{self, Label};

type Token = Zeroizing<String>;

pub(crate) type Hook = dyn Fn(Token) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;

/// A hook that runs for longer counts as hanging.
const HANGS_AFTER: Duration = Duration::from_secs(10);
/// How many tokens wait behind a hanging hook. Beyond that the oldest, which are spent, are
/// dropped.
const MAX_WAITING: usize = 64;

/// The hook, and the tokens that it has not stored yet.
pub(super) struct Hooks {
    hook: Box<Hook>,
    queue: Mutex<Queue>,
    is_idle: Notify,
}

#[derive(Default)]
struct Queue {
    /// The first is the one that the hook is storing, if it is running.
    tokens: VecDeque<Token>,
    is_running: bool,
    /// The name of the source, from the last fetch.
    label: Label,
}

// ===== impl Hooks =====

impl Hooks {
    pub(super) fn new(hook: Box<Hook>) -> Self {
        Self { hook, queue: Mutex::default(), is_idle: Notify::new() }
    }

    /// Sets the source of the tokens from now on.
    pub(super) fn label(&self, label: &Label) {
        self.queue().label.clone_from(label);
    }

    /// Queues a token, and hands it over after those before it.
    pub(super) fn push(self: &Arc<Self>, token: Token) {
        let dropped = {
            let mut queue = self.queue();
            queue.tokens.push_back(token);
            // Never the first one, which the hook may be storing.
            if queue.tokens.len() > MAX_WAITING { queue.tokens.remove(1) } else { None }
        };
        drop(dropped);
        self.resume();
    }

    /// Starts a worker, if there is a token to hand over and no worker.
    pub(super) fn resume(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else { return };
        let may_start = {
            let mut queue = self.queue();
            let may_start = !queue.tokens.is_empty() && !queue.is_running;
            queue.is_running |= may_start;
            may_start
        };
        if may_start {
            let mut worker = Worker { hooks: Arc::clone(self), has_ended: false };
            runtime.spawn(async move { worker.run().await });
        }
    }

    /// Waits until all tokens are handed over.
    pub(super) async fn idle(self: &Arc<Self>) {
        loop {
            let mut is_idle = pin!(self.is_idle.notified());
            // From here on no notification is missed.
            is_idle.as_mut().enable();
            self.resume();
            if self.queue().tokens.is_empty() {
                return;
            }
            is_idle.await;
        }
    }

    /// The first token. If there is none, the worker ends under the same lock, so that a push either
    /// finds a worker that will see its token, or starts one.
    fn first_or_end(&self) -> Option<Token> {
        let mut queue = self.queue();
        let first = queue.tokens.front().cloned();
        queue.is_running = first.is_some();
        first
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// ===== impl Worker =====

/// Runs the hook until all tokens are handed over.
struct Worker {
    hooks: Arc<Hooks>,
    /// Whether it has ended by itself. Another worker may be running since.
    has_ended: bool,
}

impl Worker {
    async fn run(&mut self) {
        while let Some(token) = self.hooks.first_or_end() {
            self.hand_over(token).await;
            let done = self.hooks.queue().tokens.pop_front();
            drop(done);
        }
        self.has_ended = true;
    }

    async fn hand_over(&self, token: Token) {
        let start = Instant::now();
        // The panic of a hook is already reported, and the token is valid in spite of it.
        let hook = AssertUnwindSafe(async { (self.hooks.hook)(token).await }).catch_unwind();
        if let Either::Right(((), hook)) = select(pin!(hook), pin!(sleep(HANGS_AFTER))).await {
            let label = self.hooks.queue().label.clone();
            observe::hook_hangs(&label, HANGS_AFTER);
            let _ = hook.await;
            observe::hook_ended(&label, start.elapsed());
        }
    }
}

impl Drop for Worker {
    /// Also runs if the runtime drops the task in the middle of a hook.
    fn drop(&mut self) {
        if !self.has_ended {
            self.hooks.queue().is_running = false;
        }
        self.hooks.is_idle.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    fn token(at: usize) -> Token {
        Zeroizing::new(format!("rt-{at}"))
    }

    /// Hooks that report each token, and then wait for a permit.
    fn hooks() -> (Arc<Hooks>, mpsc::UnboundedReceiver<String>, Arc<tokio::sync::Semaphore>) {
        let (tell, reported) = mpsc::unbounded_channel();
        let permits = Arc::new(tokio::sync::Semaphore::new(0));
        let gate = Arc::clone(&permits);
        let hook = move |token: Token| -> Pin<Box<dyn Future<Output = ()> + Send>> {
            let (tell, gate) = (tell.clone(), Arc::clone(&gate));
            Box::pin(async move {
                tell.send(token.to_string()).unwrap();
                gate.acquire().await.unwrap().forget();
            })
        };
        (Arc::new(Hooks::new(Box::new(hook))), reported, permits)
    }

    async fn idle(hooks: &Arc<Hooks>) {
        let limit = Duration::from_secs(30);
        tokio::time::timeout(limit, hooks.idle()).await.expect("the hooks end");
    }

    #[tokio::test]
    async fn each_token_is_handed_over_after_the_one_before() {
        let (hooks, mut reported, permits) = hooks();
        (0..5).for_each(|at| hooks.push(token(at)));
        for at in 0..5 {
            assert_eq!(reported.recv().await.unwrap(), format!("rt-{at}"));
            tokio::task::yield_now().await;
            assert!(reported.try_recv().is_err(), "the next one waits");
            permits.add_permits(1);
        }
        idle(&hooks).await;
        assert!(!hooks.queue().is_running);
    }

    #[tokio::test]
    async fn a_hanging_hook_has_a_bounded_queue_of_the_newest_tokens() {
        let (hooks, mut reported, permits) = hooks();
        hooks.push(token(0));
        assert_eq!(reported.recv().await.unwrap(), "rt-0");
        (1..=1000).for_each(|at| hooks.push(token(at)));
        assert_eq!(hooks.queue().tokens.len(), MAX_WAITING);
        permits.add_permits(MAX_WAITING);
        idle(&hooks).await;
        let mut all = Vec::new();
        while let Ok(token) = reported.try_recv() {
            all.push(token);
        }
        let expected: Vec<_> =
            (1000 - (MAX_WAITING - 2)..=1000).map(|at| format!("rt-{at}")).collect();
        assert_eq!(all, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_comes_while_the_worker_ends_is_handed_over() {
        let (hooks, mut reported, permits) = hooks();
        permits.add_permits(1);
        hooks.queue().is_running = true;
        let mut worker = Worker { hooks: Arc::clone(&hooks), has_ended: false };
        worker.run().await;
        // On another thread: the worker has found nothing, and is not dropped yet.
        hooks.push(token(0));
        drop(worker);
        let limit = Duration::from_secs(30);
        let handed_over = tokio::time::timeout(limit, reported.recv()).await;
        assert_eq!(handed_over.expect("without another push").unwrap(), "rt-0");
        tokio::task::yield_now().await;
        assert!(!hooks.queue().is_running);
    }

    #[test]
    fn a_runtime_that_ends_during_a_hook_loses_no_token() {
        let (hooks, mut reported, permits) = hooks();
        let runtime =
            || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let first = runtime();
        first.block_on(async {
            hooks.push(token(0));
            hooks.push(token(1));
            assert_eq!(reported.recv().await.unwrap(), "rt-0");
        });
        drop(first);
        // Without a runtime nothing happens, and nothing panics.
        hooks.resume();
        permits.add_permits(2);
        runtime().block_on(idle(&hooks));
        assert_eq!(reported.try_recv().unwrap(), "rt-0");
        assert_eq!(reported.try_recv().unwrap(), "rt-1");
    }

    #[tokio::test]
    async fn a_hook_that_panics_still_gets_the_next_token() {
        let (tell, mut reported) = mpsc::unbounded_channel();
        let hook = move |token: Token| -> Pin<Box<dyn Future<Output = ()> + Send>> {
            assert_ne!(*token, "rt-0", "before it returns a future");
            let tell = tell.clone();
            Box::pin(async move {
                assert_ne!(*token, "rt-1", "in the future");
                tell.send(token.to_string()).unwrap();
            })
        };
        let hooks = Arc::new(Hooks::new(Box::new(hook)));
        (0..3).for_each(|at| hooks.push(token(at)));
        assert_eq!(reported.recv().await.unwrap(), "rt-2");
        idle(&hooks).await;
    }
}
