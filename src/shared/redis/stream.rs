//! The byte stream of a connection to a Redis server, with or without TLS, bounded by the commands.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::shared::record::MAX_LEN;

/// More than the answer to one command: a record and its framing.
const ANSWER: usize = MAX_LEN + 4096;
/// The number of answers that may be outstanding at once, besides those that callers wait for.
const ANSWERS: usize = 16;

/// How many bytes the server may still send. Each command permits one answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Allowance(Arc<Left>);

#[derive(Debug, Default)]
struct Left {
    bytes: AtomicUsize,
    /// How many callers wait for an answer.
    waiting: AtomicUsize,
}

/// A caller that waits for an answer.
pub(super) struct Waiting(Allowance);

/// A stream that fails once its allowance is spent, so that unsolicited or endless output of a
/// server does not fill the memory.
pub(super) struct Bounded<T> {
    inner: T,
    allowance: Allowance,
}

impl Allowance {
    pub(super) fn one_answer_more(&self) {
        let most = ANSWERS.saturating_add(self.0.waiting.load(Ordering::Relaxed));
        let most = most.saturating_mul(ANSWER);
        let more = |left: usize| Some(left.saturating_add(ANSWER).min(most));
        // `more` always returns a value.
        let _ = self.0.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Counts a caller until the result is dropped.
    pub(super) fn wait(&self) -> Waiting {
        self.0.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(self.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<T> Bounded<T> {
    pub(super) fn new(inner: T, allowance: Allowance) -> Self {
        Self { inner, allowance }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Bounded<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let read = buf.filled().len().saturating_sub(before);
        let less = |left: usize| left.checked_sub(read);
        if self.allowance.0.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok() {
            return Poll::Ready(Ok(()));
        }
        buf.set_filled(before);
        let told = "the server sends more than was requested";
        Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, told)))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Bounded<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn a_server_that_sends_unasked_or_without_end_is_cut_off() {
        let (mut server, client) = duplex(64);
        let allowance = Allowance::default();
        let mut client = Bounded::new(client, allowance.clone());
        tokio::spawn(async move { while server.write_all(&[b'x'; 64]).await.is_ok() {} });
        assert!(client.read_u8().await.is_err(), "nothing was asked for");
        allowance.one_answer_more();
        let mut read = Vec::new();
        assert!(client.read_to_end(&mut read).await.is_err());
        assert!((ANSWER - 64..=ANSWER).contains(&read.len()), "{}", read.len());
        for _ in 0..1000 {
            allowance.one_answer_more();
        }
        assert!(client.read_to_end(&mut read).await.is_err());
        assert!(read.len() <= (ANSWERS + 1) * ANSWER, "{}", read.len());
    }
}
