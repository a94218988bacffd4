//! All that the process says.

use std::{
    collections::{HashMap, HashSet},
    error::Error,
    fmt::{Debug, Write},
    io,
    sync::{Arc, Mutex},
};

use metrics_util::debugging::{DebuggingRecorder, Snapshotter};
use tracing_subscriber::{fmt::MakeWriter, util::SubscriberInitExt};

use crate::spellings::spellings;

/// How much of a secret, or of its spelling, is enough to find it.
const PIECE: usize = 12;

#[derive(Clone)]
pub(crate) struct Output {
    text: Arc<Mutex<Vec<u8>>>,
    metrics: Snapshotter,
}

impl Output {
    /// From now on, for the whole process.
    pub(crate) fn capture() -> Self {
        let recorder = DebuggingRecorder::new();
        let output = Self { text: Arc::default(), metrics: recorder.snapshotter() };
        recorder.install().unwrap();
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_span_events(tracing_subscriber::fmt::format::FmtSpan::NEW)
            .with_ansi(false)
            .with_writer(output.clone())
            .finish()
            .init();
        let panics = output.clone();
        std::panic::set_hook(Box::new(move |panic| panics.say(panic)));
        output
    }

    pub(crate) fn say(&self, said: impl std::fmt::Display) {
        self.text.lock().unwrap().extend_from_slice(format!("{said}\n").as_bytes());
    }

    pub(crate) fn debug(&self, shown: impl Debug) {
        self.say(format!("{shown:?} {shown:#?}"));
    }

    /// An error and its causes, each in both ways.
    pub(crate) fn error(&self, error: &(dyn Error + 'static)) {
        let mut said = String::new();
        let mut next = Some(error);
        while let Some(error) = next {
            write!(said, "{error} {error:#} {error:?} {error:#?} ").unwrap();
            next = error.source();
        }
        self.say(said);
    }

    pub(crate) fn take_metrics(&self) {
        self.debug(self.metrics.snapshot().into_vec());
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap()).into_owned()
    }
}

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Output {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Which secrets are shown, how they are spelled, and in which line.
pub(crate) fn found(text: &str, secrets: &[(&str, Vec<u8>)]) -> Vec<String> {
    let mut needles = HashMap::<[u8; PIECE], String>::new();
    for (name, secret) in secrets {
        for (spelling, written) in spellings(secret) {
            for piece in [written.first_chunk(), written.last_chunk()].into_iter().flatten() {
                needles.insert(*piece, format!("{name} ({spelling})"));
            }
        }
    }
    // In one pass, because there are many needles and the log is long.
    let begins: HashSet<[u8; 2]> = needles.keys().map(|needle| [needle[0], needle[1]]).collect();
    let mut is_begin = vec![false; 1 << 16];
    for begin in begins {
        is_begin[usize::from(u16::from_be_bytes(begin))] = true;
    }
    let mut found = Vec::new();
    for line in text.lines() {
        let bytes = line.as_bytes();
        let mut at = 0;
        while at + PIECE <= bytes.len() {
            if is_begin[usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]))] {
                let window = bytes[at..].first_chunk::<PIECE>().unwrap();
                if let Some(what) = needles.get(window) {
                    let line: String = line.chars().take(600).collect();
                    found.push(format!("{what}: {line}"));
                    break;
                }
            }
            at += 1;
        }
    }
    found
}
