//! The activity on one connection, and the time at which an inactive connection ends.
//!
//! ```text
//! accepted ──headers complete──▶ busy ◀──headers complete── quiet
//!     │                            └──answered──────────────▶ │
//!     └──headers too late──▶ closed ◀──idle, or headers too late
//! ```

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::task::AtomicWaker;
use tokio::time::Instant;

const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// From the connection, or the first byte of a later request, to the end of the headers.
    pub(crate) headers: Duration,
    /// From the end of a request to the next one.
    pub(crate) idle: Duration,
}

/// Why the sidecar ends a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum EndReason {
    Headers,
    Idle,
    /// There are too many connections, and another client wants to connect.
    Full,
    /// The program shuts down.
    Stop,
}

/// The state of one connection. The connection's task, its requests and the list of connections
/// share it.
pub(crate) struct Activity {
    limits: Limits,
    state: Mutex<State>,
    /// Wakes the connection's task.
    task: AtomicWaker,
}

struct State {
    /// How many requests have no complete response yet.
    in_progress: usize,
    /// How many request bodies are not read to the end. The response may already be complete.
    uploads: usize,
    /// When the last request ended.
    quiet_since: Instant,
    /// When the first byte of the next headers arrived.
    headers_since: Option<Instant>,
    protocol: Protocol,
    had_request: bool,
    /// Whether a write waits for the client to read.
    is_blocked: bool,
    end_requested: Option<EndReason>,
}

enum Protocol {
    /// This many bytes have arrived, all of them of the HTTP/2 preface.
    Unknown(usize),
    Http1,
    Http2,
}

/// Counts a request until the end of its response.
pub(crate) struct InProgress(Arc<Activity>);

/// Counts the body of a request until its reader drops it.
pub(crate) struct Upload(Arc<Activity>);

// ===== impl Activity =====

impl Activity {
    pub(crate) fn new(limits: Limits, now: Instant) -> Self {
        let state = State {
            in_progress: 0,
            uploads: 0,
            quiet_since: now,
            headers_since: None,
            protocol: Protocol::Unknown(0),
            had_request: false,
            is_blocked: false,
            end_requested: None,
        };
        Self { limits, state: Mutex::new(state), task: AtomicWaker::new() }
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// Records that the headers of a request are complete.
    pub(crate) fn begin(self: &Arc<Self>) -> InProgress {
        let mut state = self.state();
        state.in_progress += 1;
        state.had_request = true;
        state.headers_since = None;
        drop(state);
        InProgress(Arc::clone(self))
    }

    /// Records the body that a request may have.
    pub(crate) fn upload(self: &Arc<Self>) -> Upload {
        self.state().uploads += 1;
        Upload(Arc::clone(self))
    }

    pub(crate) fn received(&self, bytes: &[u8], now: Instant) {
        let mut state = self.state();
        state.protocol.learn(bytes);
        // HTTP/2 also has frames that are not part of headers. Its `PING` finds a client that
        // hangs.
        let is_quiet = state.in_progress == 0 && !matches!(state.protocol, Protocol::Http2);
        let may_be_headers = is_quiet && state.uploads == 0;
        if is_quiet && !may_be_headers {
            state.quiet_since = now;
        }
        state.headers_since = state.headers_since.or(Some(now)).filter(|_| may_be_headers);
    }

    /// Records whether a write went through (`is_blocked` is false) or has to wait for the client.
    pub(crate) fn sent(&self, is_blocked: bool, now: Instant) {
        let mut state = self.state();
        if state.is_blocked && !is_blocked {
            state.quiet_since = now;
        }
        state.is_blocked = is_blocked;
    }

    /// Asks the connection to end once no request is in progress.
    pub(crate) fn request_end(&self, why: EndReason) {
        self.state().end_requested.get_or_insert(why);
        self.task.wake();
    }

    /// When the connection is to end, and why; `None` while a request is in progress.
    pub(crate) fn end(&self) -> Option<(Instant, EndReason)> {
        let state = self.state();
        if let Some(why) = state.end_requested {
            return Some((state.quiet_since, why));
        }
        if state.in_progress > 0 {
            return None;
        }
        let first = !state.had_request && !matches!(state.protocol, Protocol::Http2);
        let headers = if first { Some(state.quiet_since) } else { state.headers_since };
        let idle = (state.quiet_since + self.limits.idle, EndReason::Idle);
        let headers = headers.map(|since| (since + self.limits.headers, EndReason::Headers));
        Some(headers.filter(|headers| headers.0 < idle.0).unwrap_or(idle))
    }

    /// When the last request ended; `None` while a request is in progress.
    pub(crate) fn quiet_since(&self) -> Option<Instant> {
        let state = self.state();
        (state.in_progress == 0).then_some(state.quiet_since)
    }

    /// As [`Self::quiet_since`]; also `None` while the client has not read the end of a response.
    pub(crate) fn all_sent_since(&self) -> Option<Instant> {
        let state = self.state();
        (state.in_progress == 0 && !state.is_blocked).then_some(state.quiet_since)
    }

    /// The order in which connections make room for new ones, lowest first: connections without
    /// a request yet come before the others, and a longer quiet time before a shorter one. `None`
    /// if the connection cannot make room.
    pub(crate) fn rank(&self) -> Option<(bool, Instant)> {
        let quiet_since = self.all_sent_since()?;
        let state = self.state();
        state.end_requested.is_none().then_some((state.had_request, quiet_since))
    }

    /// The waker of the connection's task. It wakes the task when `end` moves to an earlier time.
    pub(crate) fn task(&self) -> &AtomicWaker {
        &self.task
    }

    fn finish(&self, now: Instant) {
        let mut state = self.state();
        state.in_progress -= 1;
        let is_quiet = state.in_progress == 0;
        if is_quiet {
            state.quiet_since = now;
        }
        // With HTTP/1 the connection's task itself drops the guard of the request.
        let is_another_task = matches!(state.protocol, Protocol::Http2);
        drop(state);
        if is_quiet && is_another_task {
            self.task.wake();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Protocol {
    fn learn(&mut self, bytes: &[u8]) {
        let Self::Unknown(known) = *self else { return };
        let expected = &HTTP2_PREFACE[known..];
        let length = expected.len().min(bytes.len());
        *self = if bytes[..length] != expected[..length] {
            Self::Http1
        } else if length == expected.len() {
            Self::Http2
        } else {
            Self::Unknown(known + length)
        };
    }
}

// ===== impl InProgress =====

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.finish(Instant::now());
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.0.state().uploads -= 1;
    }
}

impl EndReason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Headers => "headers",
            Self::Idle => "idle",
            Self::Full => "full",
            Self::Stop => "stop",
        }
    }
}
