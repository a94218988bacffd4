//! A request's body on its way, and the budget for what is kept of it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::body::HttpBody;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::budget::Reservation;

/// The body that the client is handed. A clone of the reservation is with what is kept of the
/// body, so it ends when both are gone; or here, past the limit, where nothing is kept.
pub(crate) struct Held<B> {
    body: B,
    room: usize,
    reservation: Arc<Reservation>,
}

impl<B> Held<B> {
    pub(crate) fn new(body: B, limit: usize, reservation: Arc<Reservation>) -> Self {
        Self { body, room: limit, reservation }
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for Held<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
        match self.room.checked_sub(data.map_or(0, Bytes::len)) {
            Some(room) => self.room = room,
            None => self.reservation.release(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
