//! What goes on on one connection, and when nothing has gone on for too long.
//!
//! ```text
//! accepted ──headers complete──▶ under way ◀──headers complete── quiet
//!     │                              └──answered──────────────────▶ │
//!     └──headers too late──▶ closed ◀──idle, or headers too late────┘
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
pub(crate) enum Why {
    Headers,
    Idle,
    /// Others want to connect, and there are too many connections.
    Full,
    /// The program ends.
    Stop,
}

/// One connection's, shared by whoever works for it.
pub(crate) struct Activity {
    limits: Limits,
    state: Mutex<State>,
    /// The connection's task.
    task: AtomicWaker,
}

struct State {
    /// How many requests are not answered to the end.
    under_way: usize,
    /// How many bodies of requests are not read to the end, perhaps after their answers.
    uploads: usize,
    /// Since when nothing is under way.
    quiet_since: Instant,
    /// When the first byte of the next headers came.
    headers_since: Option<Instant>,
    protocol: Protocol,
    has_asked: bool,
    /// Whether the client does not take what is written to it.
    is_blocked: bool,
    told_to_end: Option<Why>,
}

enum Protocol {
    /// So much of the preface of HTTP/2 has come, and nothing else.
    Unknown(usize),
    Http1,
    Http2,
}

/// A request, until the end of its answer.
pub(crate) struct UnderWay(Arc<Activity>);

/// The body of a request, as long as somebody may read it.
pub(crate) struct Upload(Arc<Activity>);

// ===== impl Activity =====

impl Activity {
    pub(crate) fn new(limits: Limits, now: Instant) -> Self {
        let state = State {
            under_way: 0,
            uploads: 0,
            quiet_since: now,
            headers_since: None,
            protocol: Protocol::Unknown(0),
            has_asked: false,
            is_blocked: false,
            told_to_end: None,
        };
        Self { limits, state: Mutex::new(state), task: AtomicWaker::new() }
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// The headers of a request are complete.
    pub(crate) fn begin(self: &Arc<Self>) -> UnderWay {
        let mut state = self.state();
        state.under_way += 1;
        state.has_asked = true;
        state.headers_since = None;
        drop(state);
        UnderWay(Arc::clone(self))
    }

    /// A request may have a body.
    pub(crate) fn upload(self: &Arc<Self>) -> Upload {
        self.state().uploads += 1;
        Upload(Arc::clone(self))
    }

    pub(crate) fn received(&self, bytes: &[u8], now: Instant) {
        let mut state = self.state();
        state.protocol.learn(bytes);
        // HTTP/2 has frames that are no part of headers; there, `PING` finds who is stuck.
        let is_quiet = state.under_way == 0 && !matches!(state.protocol, Protocol::Http2);
        let may_be_headers = is_quiet && state.uploads == 0;
        if is_quiet && !may_be_headers {
            state.quiet_since = now;
        }
        state.headers_since = state.headers_since.or(Some(now)).filter(|_| may_be_headers);
    }

    /// Whether the client has taken something, or does not.
    pub(crate) fn sent(&self, is_blocked: bool, now: Instant) {
        let mut state = self.state();
        if state.is_blocked && !is_blocked {
            state.quiet_since = now;
        }
        state.is_blocked = is_blocked;
    }

    /// Asks the connection to end once nothing is under way.
    pub(crate) fn tell_to_end(&self, why: Why) {
        self.state().told_to_end.get_or_insert(why);
        self.task.wake();
    }

    /// When the connection is to end, and why; `None` while something is under way.
    pub(crate) fn end(&self) -> Option<(Instant, Why)> {
        let state = self.state();
        if let Some(why) = state.told_to_end {
            return Some((state.quiet_since, why));
        }
        if state.under_way > 0 {
            return None;
        }
        let first = !state.has_asked && !matches!(state.protocol, Protocol::Http2);
        let headers = if first { Some(state.quiet_since) } else { state.headers_since };
        let idle = (state.quiet_since + self.limits.idle, Why::Idle);
        let headers = headers.map(|since| (since + self.limits.headers, Why::Headers));
        Some(headers.filter(|headers| headers.0 < idle.0).unwrap_or(idle))
    }

    /// Since when nothing is under way; `None` if something is.
    pub(crate) fn quiet_since(&self) -> Option<Instant> {
        let state = self.state();
        (state.under_way == 0).then_some(state.quiet_since)
    }

    /// The same; `None` also if the client has yet to take the end of an answer.
    pub(crate) fn all_sent_since(&self) -> Option<Instant> {
        let state = self.state();
        (state.under_way == 0 && !state.is_blocked).then_some(state.quiet_since)
    }

    /// Which of many connections has to make room for another: the lowest. First those that have
    /// never asked for anything, then those that have been quiet for longest.
    pub(crate) fn rank(&self) -> Option<(bool, Instant)> {
        let quiet_since = self.all_sent_since()?;
        let state = self.state();
        state.told_to_end.is_none().then_some((state.has_asked, quiet_since))
    }

    /// Whoever waits for the connection looks at it again if `end` comes earlier.
    pub(crate) fn task(&self) -> &AtomicWaker {
        &self.task
    }

    fn finish(&self, now: Instant) {
        let mut state = self.state();
        state.under_way -= 1;
        let is_quiet = state.under_way == 0;
        if is_quiet {
            state.quiet_since = now;
        }
        // With HTTP/1 it is the connection's task that drops what was under way.
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

// ===== impl UnderWay =====

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.finish(Instant::now());
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.0.state().uploads -= 1;
    }
}

impl Why {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Headers => "headers",
            Self::Idle => "idle",
            Self::Full => "full",
            Self::Stop => "stop",
        }
    }
}
