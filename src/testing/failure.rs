//! How a token service fails.

use bytes::Bytes;
use futures_util::{StreamExt, future, stream};
use http::{
    HeaderValue, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER},
};
use http_body::Frame;
use http_body_util::StreamBody;

use super::{
    dialect::{Dialect, Refusal},
    server::{Answer, Cut, boxed},
};

const LOGIN_PAGE: &str = "<!doctype html><title>Log in</title><form method=post></form>";
/// Neither UTF-8 nor JSON, nor a form.
const GARBAGE: &[u8] = b"{\"access_token\":\"\xff\xfe\0";

/// A way in which the [`TokenService`](super::TokenService) can fail.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// An answer with this status (200 to 999; any other number becomes 500) and without a body.
    Status(u16),
    /// An OAuth error with this code (RFC 6749 §5.2), in the shape of the dialect, with the status
    /// that belongs to it: 401 for `invalid_client`, else 400.
    OAuth(&'static str),
    /// Status 503, with a `Retry-After` of this many seconds.
    RetryAfter(u64),
    /// A login page, with status 200.
    HtmlPage,
    /// Meaningless bytes, as JSON with status 200.
    Garbage,
    /// The service does nothing, and closes the connection without an answer.
    Cut,
    /// The service does what the request asks for, and closes the connection in the middle of the
    /// answer: it has issued a token that no client gets, and a refresh token is spent.
    AnswerLost,
}

// ===== impl Failure =====

impl Failure {
    pub(super) fn answer(&self, dialect: Dialect) -> Result<Response<Bytes>, Cut> {
        let mut response = Response::new(Bytes::new());
        match self {
            Self::Status(status) => *response.status_mut() = final_status(*status),
            Self::OAuth(code) => {
                let description = "as the test wants it";
                return Ok(dialect.refuses(&Refusal { code, description }));
            }
            Self::RetryAfter(seconds) => {
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                response.headers_mut().insert(RETRY_AFTER, (*seconds).into());
            }
            Self::HtmlPage => fill(&mut response, "text/html", LOGIN_PAGE.as_bytes()),
            Self::Garbage => fill(&mut response, "application/json", GARBAGE),
            Self::Cut | Self::AnswerLost => return Err(Cut),
        }
        Ok(response)
    }
}

fn final_status(status: u16) -> StatusCode {
    let status = StatusCode::from_u16(status).ok().filter(|status| !status.is_informational());
    status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn fill(response: &mut Response<Bytes>, content_type: &'static str, body: &'static [u8]) {
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    *response.body_mut() = Bytes::from_static(body);
}

/// The same answer, of which only one half is sent.
pub(super) fn lost(mut answer: Response<Bytes>) -> Answer {
    let length = answer.body().len();
    answer.headers_mut().insert(CONTENT_LENGTH, length.into());
    boxed(answer.map(|body| {
        let half = stream::once(future::ready(Ok(Frame::data(body.slice(..length / 2)))));
        let end = stream::once(async {
            // What has been written so far goes out before the connection closes.
            tokio::task::yield_now().await;
            Err(Cut)
        });
        StreamBody::new(half.chain(end))
    }))
}
