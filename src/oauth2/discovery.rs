//! Where a token endpoint is, as its issuer's metadata say (RFC 8414, `OpenID` Connect
//! Discovery).
//!
//! They are read when a fetch needs them, by one fetch at a time. Whoever asks meanwhile shares what
//! comes of it or, if they were only due, goes on with what was read last; so does everybody while
//! a new reading fails. Nothing else is fetched that they name.

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
    sync::Semaphore,
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
    metadata::{Client, Plaintext, Wanted},
    well_known::urls,
};

/// How long a reading may take, if no timeout is set: less than an attempt of a cache's, so that
/// there is time left for the exchange.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long after a failed reading there is the next one, while older metadata serve.
const PAUSE: Duration = Duration::from_secs(60);

/// The metadata of one issuer.
pub(super) struct Discovery {
    wanted: Wanted,
    origin: Origin,
    /// Where they may be: one of the two answers, and is asked first from then on.
    urls: [Uri; 2],
    /// What a request says beside what it wants.
    headers: HeaderMap,
    /// How long a reading may take, from the first connection to the last byte.
    pub(super) timeout: Duration,
    /// Who has it reads.
    turn: Semaphore,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    kept: Option<Kept>,
    /// Whether the second URL had the metadata.
    is_second: bool,
    /// How many readings have ended.
    ended: u64,
    /// How the last one did, if it left nothing to use.
    failure: Option<EndpointError>,
}

struct Kept {
    destination: Arc<Destination>,
    /// When the last reading began, whatever came of it.
    tried: Instant,
    due: Instant,
}

/// What there is for who asks.
enum Found {
    Fresh(Arc<Destination>),
    /// Nothing yet; and how many readings have ended so far.
    Due(u64),
}

/// A URL that gave no metadata.
struct Failure {
    error: EndpointError,
    /// Whether there is no such document, as far as can be seen: the other URL may have it.
    is_absent: bool,
}

type Outcome = Result<Arc<Destination>, EndpointError>;
type Reading = (Destination, Duration);

// ===== impl Discovery =====

impl Discovery {
    pub(super) fn new(
        wanted: Wanted,
        origin: Origin,
        urls: [Uri; 2],
        headers: HeaderMap,
        timeout: Option<Duration>,
    ) -> Self {
        Self {
            wanted,
            origin,
            urls,
            headers,
            timeout: timeout.unwrap_or(TIMEOUT),
            turn: Semaphore::new(1),
            state: Mutex::default(),
        }
    }

    /// Where to go, by what was read last or, if that is due, by a new reading.
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
        // It is never closed. Who is dropped while it reads leaves it to the next.
        let _turn = self.turn.acquire().await;
        if let Some(shared) = self.state().since(seen) {
            return shared;
        }
        let started = Instant::now();
        let reading = timeout(self.timeout, self.read(transport, identity)).await;
        let outcome = reading.unwrap_or_else(|_| {
            let [first, _] = self.in_order();
            Err(self.error(Kind::Timeout, first))
        });
        // Nobody else hears of a failure that costs nothing yet.
        let is_kept = self.state().kept.is_some();
        if let Some(error) = outcome.as_ref().err().filter(|_| is_kept) {
            observe::metadata_not_read(label, error);
        }
        self.state().end(outcome, started)
    }

    /// An exchange has failed as it would if the endpoint had moved: the next fetch reads anew.
    pub(super) fn doubt(&self) {
        let now = Instant::now();
        if let Some(kept) = &mut self.state().kept {
            if now.saturating_duration_since(kept.tried) >= lifetime::MIN {
                kept.due = kept.due.min(now);
            }
        }
    }

    /// Asks one URL and, if it has no metadata, the other.
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
        match self.wanted.read(&body) {
            Ok(destination) => Ok((destination, lifetime::of(&head.headers))),
            // Such a page is for people: there is no token service, or a proxy before it.
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
    /// Who finds something due reads it anew. Others go on with it meanwhile, and for a while after
    /// if that reading never ends.
    fn found(&mut self, now: Instant) -> Found {
        match &mut self.kept {
            Some(kept) if now < kept.due => return Found::Fresh(Arc::clone(&kept.destination)),
            Some(kept) => (kept.tried, kept.due) = (now, now.later(PAUSE)),
            None => {}
        }
        Found::Due(self.ended)
    }

    /// What came of the readings that have ended since then, if any has.
    fn since(&self, seen: u64) -> Option<Outcome> {
        if self.ended == seen {
            return None;
        }
        match (&self.failure, &self.kept) {
            (Some(failure), _) => Some(Err(failure.clone())),
            (None, kept) => kept.as_ref().map(|kept| Ok(Arc::clone(&kept.destination))),
        }
    }

    /// Keeps what a reading has brought. If it has failed, what is kept serves on.
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

// ===== impl Failure =====

impl Failure {
    fn new(error: EndpointError) -> Self {
        Self { error, is_absent: false }
    }

    fn absent(error: EndpointError) -> Self {
        Self { error, is_absent: true }
    }

    /// Which of two says more: one that may pass, then one that is more than a 404.
    fn or(self, other: Self) -> EndpointError {
        let is_plain = other.error.status() == Some(StatusCode::NOT_FOUND);
        let first_says_more =
            self.error.is_transient() || (is_plain && !other.error.is_transient());
        if first_says_more { self.error } else { other.error }
    }
}
