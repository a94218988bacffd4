//! Finds a token endpoint through its issuer's metadata (RFC 8414, `OpenID` Connect Discovery).
//!
//! A fetch that needs the metadata reads them, one fetch at a time. Concurrent fetches share the
//! result. If older metadata are merely due for another reading, the other fetches use them
//! meanwhile, and all fetches do while a reading fails. The endpoint fetches nothing else that they
//! name.

mod lifetime;
mod metadata;
mod well_known;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header::ACCEPT};
use http_body_util::Full;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use self::metadata::PAGE;
use super::{
    destination::{Destination, place},
    error::{EndpointError, EndpointErrorKind as Kind},
    redact::Redactor,
    response::retry_after,
    transport::{Answer, Identity, Transport},
};
use crate::{
    clock::later::Later,
    observe::{self, Label},
    origin::Origin,
};

pub(super) use self::{
    metadata::{Client, Plaintext, Requirements},
    well_known::urls,
};

/// How long a reading may take if no timeout is set: less than a cache's attempt, to leave time for
/// the exchange.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How much longer than a reading takes a fetch waits for another one's reading.
const MARGIN: Duration = Duration::from_secs(1);
/// The pause after a failed reading while older metadata are in use.
const PAUSE: Duration = Duration::from_secs(60);

/// The metadata of one issuer.
pub(super) struct Discovery {
    requirements: Requirements,
    origin: Origin,
    /// The two candidate URLs. The one that has the metadata is tried first from then on.
    urls: [Uri; 2],
    /// The headers of a request.
    headers: HeaderMap,
    /// How long a reading may take, from the first connection to the last byte.
    pub(super) timeout: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    turn: Turn,
    kept: Option<Kept>,
    /// Whether the second URL had the metadata.
    is_second: bool,
    /// How many readings have ended.
    ended: u64,
    /// The error of the last one, if there is nothing to use.
    failure: Option<EndpointError>,
}

/// Held by the fetch that reads.
struct Turn(Arc<Semaphore>);

struct Kept {
    destination: Arc<Destination>,
    /// When the last reading began, successful or not.
    tried: Instant,
    due: Instant,
}

/// The state that a fetch finds.
enum Found {
    Fresh(Arc<Destination>),
    /// No metadata yet, with the number of readings that have ended so far.
    Due(u64),
}

/// A URL that gave no metadata.
struct Failure {
    error: EndpointError,
    /// Whether the document seems not to exist, so that the other URL may have it.
    is_absent: bool,
}

type Outcome = Result<Arc<Destination>, EndpointError>;
type Reading = (Destination, Duration);

// ===== impl Discovery =====

impl Discovery {
    pub(super) fn new(
        requirements: Requirements,
        origin: Origin,
        urls: [Uri; 2],
        headers: HeaderMap,
        timeout: Option<Duration>,
    ) -> Self {
        Self {
            requirements,
            origin,
            urls,
            headers,
            timeout: timeout.unwrap_or(TIMEOUT),
            state: Mutex::default(),
        }
    }

    /// The destination, from the last metadata or, if they are due, from a new reading.
    pub(super) async fn destination(
        &self,
        transport: &dyn Transport,
        identity: Option<Identity<'_>>,
        label: &Label,
    ) -> Outcome {
        let seen = match self.state().found(Instant::now()) {
            Found::Fresh(destination) => return Ok(destination),
            Found::Due(seen) => seen,
        };
        // If a fetch is dropped while it reads, the next one reads.
        let _turn = self.turn().await;
        if let Some(shared) = self.state().since(seen) {
            return shared;
        }
        let started = Instant::now();
        let reading = timeout(self.timeout, self.read(transport, identity)).await;
        let outcome = reading.unwrap_or_else(|_| {
            let [first, _] = self.in_order();
            Err(self.error(Kind::Timeout, first))
        });
        // Do not report a failure that has no effect yet.
        let is_kept = self.state().kept.is_some();
        if let Some(error) = outcome.as_ref().err().filter(|_| is_kept) {
            observe::metadata_not_read(label, error);
        }
        self.state().end(outcome, started)
    }

    /// Records that an exchange has failed as if the endpoint had moved: the next fetch reads
    /// again.
    pub(super) fn doubt(&self) {
        let now = Instant::now();
        if let Some(kept) = &mut self.state().kept {
            if now.saturating_duration_since(kept.tried) >= lifetime::MIN {
                kept.due = kept.due.min(now);
            }
        }
    }

    /// Waits for the turn to read. If it takes longer than a reading, nobody drives the fetch that
    /// has the turn, and another one gets it.
    async fn turn(&self) -> OwnedSemaphorePermit {
        let longest = self.timeout.saturating_add(MARGIN);
        loop {
            let turn = Arc::clone(&self.state().turn.0);
            match timeout(longest, Arc::clone(&turn).acquire_owned()).await {
                Ok(Ok(permit)) => return permit,
                // The semaphore is never closed.
                Ok(Err(_)) | Err(_) => self.state().turn.pass_on(&turn),
            }
        }
    }

    /// Reads from one URL and, if it has no metadata, from the other.
    async fn read(
        &self,
        transport: &dyn Transport,
        identity: Option<Identity<'_>>,
    ) -> Result<Reading, EndpointError> {
        let [first, second] = self.in_order();
        let failure = match self.ask(first, transport, identity).await {
            Ok(reading) => return Ok(reading),
            Err(failure) if failure.is_absent => failure,
            Err(failure) => return Err(failure.error),
        };
        match self.ask(second, transport, identity).await {
            Ok(reading) => {
                let mut state = self.state();
                state.is_second = !state.is_second;
                Ok(reading)
            }
            Err(other) if other.is_absent => Err(failure.or(other)),
            Err(other) => Err(other.error),
        }
    }

    async fn ask(
        &self,
        url: &Uri,
        transport: &dyn Transport,
        identity: Option<Identity<'_>>,
    ) -> Result<Reading, Failure> {
        let broken = |broken| {
            let place = place(url, &self.origin);
            EndpointError::broken(broken, &place, &Redactor::default()).about_metadata()
        };
        let answer = transport.exchange(self.request(url), identity).await;
        let Answer { head, body } = answer.map_err(|error| Failure::new(broken(error)))?;
        let wait = retry_after(&head.headers, SystemTime::now());
        let failed = |kind| self.error(kind, url).with_head(head.status, wait);
        if head.status.is_redirection() {
            return Err(Failure::absent(failed(Kind::Redirected)));
        }
        if !head.status.is_success() {
            return Err(Failure::absent(failed(Kind::of(head.status))));
        }
        let body = body.map_err(|error| Failure::new(broken(error)))?;
        match self.requirements.read(&body) {
            Ok(destination) => Ok((destination, lifetime::of(&head.headers))),
            // An HTML page: there is no token service, or a proxy is in front of it.
            Err((kind @ Kind::Unreadable(PAGE), _)) => Err(Failure::absent(failed(kind).settled())),
            Err((kind, None)) => Err(Failure::new(self.error(kind, url))),
            Err((kind, Some(said))) => {
                let said = Redactor::default().clean(&said);
                Err(Failure::new(self.error(kind, url).with_detail(&said)))
            }
        }
    }

    fn request(&self, url: &Uri) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = url.clone();
        let headers = request.headers_mut();
        headers.extend(self.headers.clone());
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        request
    }

    fn in_order(&self) -> [&Uri; 2] {
        let [first, second] = &self.urls;
        if self.state().is_second { [second, first] } else { [first, second] }
    }

    fn error(&self, kind: Kind, url: &Uri) -> EndpointError {
        EndpointError::new(kind, &place(url, &self.origin)).about_metadata()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// ===== impl State =====

impl State {
    /// A fetch that finds due metadata reads them again. Others use the old ones meanwhile, and
    /// for a while longer if that reading never ends.
    fn found(&mut self, now: Instant) -> Found {
        match &mut self.kept {
            Some(kept) if now < kept.due => return Found::Fresh(Arc::clone(&kept.destination)),
            Some(kept) => (kept.tried, kept.due) = (now, now.later(PAUSE)),
            None => {}
        }
        Found::Due(self.ended)
    }

    /// The result of the readings that have ended since then, if any.
    fn since(&self, seen: u64) -> Option<Outcome> {
        if self.ended == seen {
            return None;
        }
        match (&self.failure, &self.kept) {
            (Some(failure), _) => Some(Err(failure.clone())),
            (None, kept) => kept.as_ref().map(|kept| Ok(Arc::clone(&kept.destination))),
        }
    }

    /// Stores the result of a reading. If it has failed, the old metadata remain in use.
    fn end(&mut self, outcome: Result<Reading, EndpointError>, started: Instant) -> Outcome {
        self.ended = self.ended.wrapping_add(1);
        match (outcome, &mut self.kept) {
            (Ok((destination, lifetime)), _) => {
                let destination = Arc::new(destination);
                let due = started.later(lifetime);
                let kept = Kept { destination: Arc::clone(&destination), tried: started, due };
                (self.kept, self.failure) = (Some(kept), None);
                Ok(destination)
            }
            (Err(_), Some(kept)) => {
                kept.due = Instant::now().later(PAUSE);
                Ok(Arc::clone(&kept.destination))
            }
            (Err(error), None) => {
                self.failure = Some(error.clone());
                Err(error)
            }
        }
    }
}

// ===== impl Turn =====

impl Turn {
    /// Replaces that one, unless another fetch has done so.
    fn pass_on(&mut self, stuck: &Arc<Semaphore>) {
        if Arc::ptr_eq(&self.0, stuck) {
            *self = Self::default();
        }
    }
}

impl Default for Turn {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

// ===== impl Failure =====

impl Failure {
    fn new(error: EndpointError) -> Self {
        Self { error, is_absent: false }
    }

    fn absent(error: EndpointError) -> Self {
        Self { error, is_absent: true }
    }

    /// The more informative of two: a transient failure first, then one other than a 404.
    fn or(self, other: Self) -> EndpointError {
        let is_plain = other.error.status() == Some(StatusCode::NOT_FOUND);
        let first_says_more =
            self.error.is_transient() || (is_plain && !other.error.is_transient());
        if first_says_more { self.error } else { other.error }
    }
}
