//! What the crate logs while a test runs.
#![allow(dead_code, reason = "no test needs all of it")]

use std::{cell::RefCell, io, sync::Once};

use tracing::Level;
use tracing_subscriber::fmt::format::FmtSpan;

thread_local! {
    static LINES: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Collects what this thread logs, until it is dropped.
pub(crate) struct Log;

impl Log {
    /// At every level, with the ends of spans.
    pub(crate) fn start() -> Self {
        Self::from_level(Level::TRACE)
    }

    /// From that level up. It has to be the same in all tests of a program.
    pub(crate) fn from_level(level: Level) -> Self {
        // One subscriber for all threads. With one for each, the interest that tracing caches for a
        // callsite would depend on which thread reached it first.
        static SUBSCRIBER: Once = Once::new();
        SUBSCRIBER.call_once(|| {
            let spans = if level == Level::TRACE { FmtSpan::CLOSE } else { FmtSpan::NONE };
            tracing_subscriber::fmt()
                .with_max_level(level)
                .with_ansi(false)
                .with_span_events(spans)
                .with_writer(|| ThreadLines)
                .init();
        });
        LINES.set(Some(Vec::new()));
        Self
    }

    /// What this thread has logged so far.
    pub(crate) fn lines() -> Vec<String> {
        logged().lines().map(str::to_owned).collect()
    }

    /// What has been logged; it ends with this.
    pub(crate) fn text(self) -> String {
        let _until_then = self;
        logged()
    }
}

fn logged() -> String {
    LINES.with_borrow(|lines| String::from_utf8(lines.clone().unwrap()).unwrap())
}

impl Drop for Log {
    fn drop(&mut self) {
        LINES.set(None);
    }
}

struct ThreadLines;

impl io::Write for ThreadLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.with_borrow_mut(|lines| lines.iter_mut().for_each(|lines| lines.extend(bytes)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
