//! What a replay keeps of a body, in memory of its own.
//!
//! A frame is often a small slice of a large buffer, and keeping the slice would keep the buffer.
//! So the storage copies the bytes, and counts the memory that it holds against the limit. It does
//! not keep where one frame ended and the next began.

use std::{cmp::max, collections::VecDeque};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;

/// The smallest chunk to allocate, if the limit leaves that much room.
const MIN_CHUNK: usize = 256;

/// What each field of the trailers counts for, besides its name and its value: its place in the
/// map, and the reserve of a growing map.
const FIELD: usize = 256;

/// This much of the trailers is kept whatever the limit, so that a checksum after a body that just
/// fits does not prevent the replay.
const FREE_TRAILERS: usize = 1024;

/// The data and the trailers of a body, as far as the inner service has read them.
pub(super) struct Storage {
    limit: usize,
    /// How much data is kept. It fills all chunks but the last, and a part of the last.
    length: usize,
    chunks: VecDeque<Vec<u8>>,
    trailers: Option<HeaderMap>,
}

impl Storage {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, length: 0, chunks: VecDeque::new(), trailers: None }
    }

    /// Keeps a copy of the frame. Returns `false` if that is not possible; what was kept before is
    /// then useless.
    #[must_use]
    pub(super) fn push(&mut self, frame: &Frame<Bytes>) -> bool {
        // Nothing follows the trailers.
        if self.trailers.is_some() {
            return false;
        }
        match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => self.push_data(data),
            (None, Some(trailers)) => self.push_trailers(trailers),
            (None, None) => false,
        }
    }

    fn push_data(&mut self, data: &[u8]) -> bool {
        let room = self.limit.saturating_sub(self.length);
        if data.len() > room {
            return false;
        }
        let free = self.chunks.back().map_or(0, |last| last.capacity().saturating_sub(last.len()));
        let (here, beyond) = data.split_at(free.min(data.len()));
        if let Some(last) = self.chunks.back_mut() {
            last.extend_from_slice(here);
        }
        if !beyond.is_empty() {
            // All chunks are full now, so the new one may take all the room that is left. Each
            // chunk is as large as all chunks before it together: so there are few, and none is
            // ever moved.
            let room = room.saturating_sub(here.len());
            let size = max(beyond.len(), max(self.length, MIN_CHUNK)).min(room);
            let mut chunk = Vec::with_capacity(size);
            chunk.extend_from_slice(beyond);
            self.chunks.push_back(chunk);
        }
        self.length = self.length.saturating_add(data.len());
        true
    }

    fn push_trailers(&mut self, trailers: &HeaderMap) -> bool {
        let size = trailers.iter().fold(0_usize, |size, (name, value)| {
            [FIELD, name.as_str().len(), value.len()]
                .iter()
                .fold(size, |size, it| size.saturating_add(*it))
        });
        if size > max(self.limit.saturating_sub(self.length), FREE_TRAILERS) {
            return false;
        }
        self.trailers = copy(trailers);
        self.trailers.is_some()
    }

    /// The data, and the trailers.
    pub(super) fn into_parts(self) -> (VecDeque<Bytes>, Option<HeaderMap>) {
        (self.chunks.into_iter().map(Bytes::from).collect(), self.trailers)
    }
}

/// Copies fields into memory of their own; `None` if a field does not pass the checks of its type
/// again.
fn copy(fields: &HeaderMap) -> Option<HeaderMap> {
    let mut copy = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_str().as_bytes()).ok()?;
        let mut copied = HeaderValue::from_bytes(value.as_bytes()).ok()?;
        copied.set_sensitive(value.is_sensitive());
        copy.append(name, copied);
    }
    Some(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Storage {
        /// How much memory the data holds.
        fn held(&self) -> usize {
            self.chunks.iter().map(Vec::capacity).sum()
        }

        fn push_bytes(&mut self, data: &[u8]) -> bool {
            self.push(&Frame::data(Bytes::copy_from_slice(data)))
        }
    }

    #[test]
    fn frames_of_any_size_hold_no_more_than_the_limit_nor_much_more_than_they_have() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..300 {
            let limit = random.usize(0..20_000);
            let largest = 1 << random.usize(0..13);
            let (mut storage, mut sent) = (Storage::new(limit), Vec::new());
            loop {
                let mut data = vec![0; random.usize(0..=largest)];
                random.fill(&mut data);
                let fits = sent.len() + data.len() <= limit;
                assert_eq!(storage.push_bytes(&data), fits);
                if !fits {
                    break;
                }
                sent.extend(data);
                assert!(storage.held() <= limit);
                assert!(storage.held() <= max(2 * sent.len(), MIN_CHUNK));
                assert!(storage.chunks.len() <= 16, "{} chunks", storage.chunks.len());
            }
            let (chunks, _) = storage.into_parts();
            assert_eq!(Vec::from(chunks).concat(), sent);
        }
    }

    #[test]
    fn endless_empty_frames_are_not_kept() {
        let mut storage = Storage::new(10);
        for _ in 0..10_000 {
            assert!(storage.push_bytes(b""));
        }
        assert_eq!(storage.chunks.capacity(), 0);
    }

    #[test]
    fn trailers_take_the_room_that_the_data_has_left_or_a_little() {
        let field = |size| {
            let value = HeaderValue::from_str(&"v".repeat(size)).unwrap();
            Frame::trailers(HeaderMap::from_iter([(HeaderName::from_static("x"), value)]))
        };
        let other = FIELD + 1;
        let after = |data: usize, limit| {
            let mut storage = Storage::new(limit);
            assert!(storage.push_bytes(&vec![0; data]));
            storage
        };
        assert!(after(0, 10_000).push(&field(10_000 - other)));
        assert!(!after(1, 10_000).push(&field(10_000 - other)));
        assert!(after(10_000, 10_000).push(&field(FREE_TRAILERS - other)));
        assert!(!after(10_000, 10_000).push(&field(FREE_TRAILERS - other + 1)));
    }

    #[test]
    fn a_field_is_copied_as_it_is() {
        let name = HeaderName::from_static("x-secret");
        let mut fields = HeaderMap::new();
        for text in ["one", "two"] {
            let mut value = HeaderValue::from_static(text);
            value.set_sensitive(text == "two");
            fields.append(name.clone(), value);
        }
        let copy = copy(&fields).unwrap();
        assert_eq!(copy, fields);
        let sensitive: Vec<_> = copy.get_all(name).iter().map(HeaderValue::is_sensitive).collect();
        assert_eq!(sensitive, [false, true]);
    }

    #[test]
    fn what_follows_the_trailers_cannot_be_kept() {
        for frame in [Frame::data(Bytes::new()), Frame::trailers(HeaderMap::new())] {
            let mut storage = Storage::new(10);
            assert!(storage.push(&Frame::trailers(HeaderMap::new())));
            assert!(!storage.push(&frame));
        }
    }
}
