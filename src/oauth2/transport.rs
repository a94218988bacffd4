//! One exchange over any tower service, type-erased.

use std::{
    error::Error,
    future::poll_fn,
    io,
    pin::{Pin, pin},
};

use bytes::{Buf, Bytes};
use http::{Request, Response, response};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tower_service::Service;
use zeroize::Zeroizing;

use crate::error::BoxError;

/// The largest accepted answer.
const MAX_BODY: usize = 1024 * 1024;
/// The initial buffer for a body of unknown length. Most answers fit.
const USUAL_BODY: usize = 8 * 1024;

/// A type-erased transport. At one exchange an hour, the cost of a box does not matter.
pub(super) trait Transport: Send + Sync {
    /// `identity`: the client certificate and its key, if there is one.
    fn exchange<'a>(
        &'a self,
        request: Request<Full<Bytes>>,
        identity: Option<Identity<'a>>,
    ) -> Exchange<'a>;

    /// Checks the client certificate and its key. If they do not fit, they may be half replaced.
    fn may_take(&self, _: Option<Identity<'_>>) -> bool {
        true
    }
}

/// The client's certificates in PEM, its own first, and their key.
#[derive(Clone, Copy)]
#[cfg_attr(
    not(feature = "reqwest"),
    expect(dead_code, reason = "only the ready-made transport shows one")
)]
pub(super) struct Identity<'a> {
    pub(super) certificate: &'a str,
    pub(super) key: &'a str,
}

pub(super) type Exchange<'a> =
    Pin<Box<dyn Future<Output = Result<Answer, TransportError>> + Send + 'a>>;

/// The head of an answer, and the part of its body that could be read.
pub(super) struct Answer {
    pub(super) head: response::Parts,
    pub(super) body: Result<Zeroizing<Vec<u8>>, TransportError>,
}

/// The point at which an exchange failed.
pub(super) enum TransportError {
    /// Before the service can have seen the request.
    Unsent(BoxError),
    /// At some other point.
    Interrupted(BoxError),
    /// At the limit for a body.
    TooLarge,
    /// Before it began: the client certificate or its key cannot be used.
    #[cfg_attr(
        not(feature = "reqwest"),
        expect(dead_code, reason = "only the ready-made transport shows a certificate")
    )]
    Certificate { problem: &'static str, may_pass: bool },
}

/// A tower service as a transport.
pub(super) struct ServiceTransport<S>(pub(super) S);

// ===== impl ServiceTransport =====

impl<S, B> Transport for ServiceTransport<S>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body + Send,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    /// Ignores `identity`: a user's transport has its own certificate.
    fn exchange<'a>(
        &'a self,
        request: Request<Full<Bytes>>,
        _: Option<Identity<'a>>,
    ) -> Exchange<'a> {
        let mut service = self.0.clone();
        Box::pin(async move {
            let ready = poll_fn(|cx| service.poll_ready(cx)).await;
            ready.map_err(|error| TransportError::Unsent(error.into()))?;
            let response = service.call(request).await;
            let (head, body) = response.map_err(|error| failed(error.into()))?.into_parts();
            Ok(Answer { head, body: read(body).await })
        })
    }
}

/// Reads a body, up to the limit, into memory that is wiped.
async fn read<B>(body: B) -> Result<Zeroizing<Vec<u8>>, TransportError>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    let said = body.size_hint().exact().and_then(|length| usize::try_from(length).ok());
    let mut whole = Zeroizing::new(Vec::with_capacity(said.unwrap_or(USUAL_BODY).min(MAX_BODY)));
    let mut body = pin!(body);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| TransportError::Interrupted(error.into()))?;
        let Ok(mut data) = frame.into_data() else { continue };
        while data.has_remaining() {
            let chunk = data.chunk();
            if chunk.len() > MAX_BODY.saturating_sub(whole.len()) {
                return Err(TransportError::TooLarge);
            }
            append(&mut whole, chunk);
            data.advance(chunk.len());
        }
    }
    Ok(whole)
}

/// Grows by hand: a vector that grows by itself leaves copies behind that are not wiped.
fn append(whole: &mut Zeroizing<Vec<u8>>, chunk: &[u8]) {
    let length = whole.len().saturating_add(chunk.len());
    if whole.capacity() < length {
        let mut larger = Zeroizing::new(Vec::with_capacity(length.saturating_mul(2)));
        larger.extend_from_slice(whole);
        *whole = larger;
    }
    whole.extend_from_slice(chunk);
}

/// Only an exchange that certainly failed before anything was sent counts as unsent. Otherwise the
/// endpoint could send a refresh token twice, although the service has got the first one.
fn failed(error: BoxError) -> TransportError {
    if is_unsent(error.as_ref()) {
        TransportError::Unsent(error)
    } else {
        TransportError::Interrupted(error)
    }
}

fn is_unsent(error: &(dyn Error + 'static)) -> bool {
    #[cfg(feature = "reqwest")]
    if error.downcast_ref().is_some_and(|error: &reqwest::Error| error.is_connect()) {
        return true;
    }
    // The only error kind that an established connection never ends with.
    let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    error.downcast_ref().is_some_and(refused) || error.source().is_some_and(is_unsent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_doubles_only_when_it_is_full() {
        let mut whole = Zeroizing::new(Vec::new());
        append(&mut whole, b"abc");
        assert_eq!((&**whole, whole.capacity()), (&b"abc"[..], 6));
        let place = whole.as_ptr();
        append(&mut whole, b"def");
        assert_eq!((&**whole, whole.capacity(), whole.as_ptr()), (&b"abcdef"[..], 6, place));
        append(&mut whole, b"g");
        assert_eq!((&**whole, whole.capacity()), (&b"abcdefg"[..], 14));
    }
}
