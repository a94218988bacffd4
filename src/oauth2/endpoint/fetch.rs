//! One fetch, from the secrets to the token.

use std::{sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    time::{Instant, sleep, timeout_at},
};
use zeroize::Zeroizing;

use super::{
    super::{
        changes::{Change, Refusal, Refusals},
        destination::Destination,
        error::{EndpointError, EndpointErrorKind as Kind},
        overlay::Overlay,
        redact::Redactor,
        refresh::{Grant, Refresh},
        request::{Readings, Redeemed, Template},
        response::FieldNames,
        token_exchange::TokenType,
        transport::{Transport, TransportError},
    },
    location::Location,
};
use crate::{
    error::{CacheError, TokenError},
    observe::{self, Label},
    source::TokenRequest,
    token::AccessToken,
};

pub(super) type Outcome<T> = Result<T, EndpointError>;
pub(super) type RefreshToken = Option<Zeroizing<String>>;

/// Added to the exchanges' timeouts, so that an exchange that takes too long ends with its own
/// error and not with the cache's.
const MARGIN: Duration = Duration::from_secs(1);
/// How long a function's value must be stable to count as changed. The dates in generated values
/// are mostly in whole seconds.
const STILL_FOR: Duration = Duration::from_millis(1100);
/// The error of a signer that takes too long.
const UNSIGNED: &str = "`client_assertion`: it was not signed in time";

/// The parts of a [`TokenEndpoint`](super::TokenEndpoint), which its fetches may outlive.
pub(in crate::oauth2) struct Endpoint {
    pub(in crate::oauth2) label: Label,
    /// Scheme, host, port and path, as errors show them: the endpoint's, or its issuer's.
    pub(in crate::oauth2) place: String,
    pub(in crate::oauth2) location: Location,
    pub(in crate::oauth2) template: Template,
    pub(in crate::oauth2) grant: Grant,
    /// The requested type of token, unless the service decides.
    pub(in crate::oauth2) requested: Option<TokenType>,
    pub(in crate::oauth2) names: FieldNames,
    pub(in crate::oauth2) timeout: Option<Duration>,
    pub(in crate::oauth2) transport: Box<dyn Transport>,
    pub(in crate::oauth2) refusals: Refusals,
}

// ===== impl Endpoint =====

impl Endpoint {
    /// Fetches a token. Concurrent fetches that ask for the same share an exchange of a refresh
    /// token, which continues even if all of them are dropped.
    pub(super) async fn fetch(
        self: &Arc<Self>,
        request: TokenRequest,
    ) -> Result<AccessToken, TokenError> {
        let runtime = Handle::try_current().map_err(|_| CacheError::NoRuntime)?;
        let label = request.label().or(&self.label);
        let request = request.labelled(label);
        let overlay = Overlay::of(&request);
        self.check(&overlay).map_err(|error| counted(request.label(), error))?;
        let Grant::Refresh(refresh) = &self.grant else { return self.run(request).await };
        refresh.resume_hooks(request.label());
        let rejected = request.rejected().cloned();
        let start = || {
            let (endpoint, request) = (Arc::clone(self), request.clone());
            async move { endpoint.run(request).await }
        };
        refresh.runs.join(&runtime, &overlay, rejected.as_ref(), self.longest(), start).await
    }

    /// Checks that this endpoint can serve the request. If not, nothing is read or sent.
    fn check(&self, overlay: &Overlay) -> Outcome<()> {
        self.template.check(overlay, self.takes_subject()).map_err(|(kind, problem)| {
            let error = self.error(kind);
            match problem {
                Some(problem) => error.with_detail(&Redactor::default().clean(&problem)),
                None => error,
            }
        })
    }

    pub(super) fn takes_subject(&self) -> bool {
        matches!(self.grant, Grant::Subject(_))
    }

    /// Time for two exchanges, as a fetch may need a second one, and for the metadata.
    pub(super) fn attempt_timeout(&self) -> Option<Duration> {
        let more = self.location.timeout().saturating_add(MARGIN);
        self.timeout.map(|timeout| timeout.saturating_mul(2).saturating_add(more))
    }

    /// The longest time of a fetch with a refresh token: each of two exchanges may be repeated.
    fn longest(&self) -> Duration {
        let timeout = self.timeout.unwrap_or(Duration::MAX);
        let more = self.location.timeout().saturating_add(STILL_FOR).saturating_add(MARGIN);
        timeout.saturating_mul(4).saturating_add(more)
    }

    /// Whether a change since the last refusal makes a retry worthwhile.
    pub(super) async fn recovered(&self) -> bool {
        let Some(Refusal { request, sent, .. }) = self.refusals.last() else { return false };
        let Ok(now) = self.read(&request).await else { return false };
        let change = match &sent {
            // The secret that could not be read can be read now.
            None => Change::Stored,
            // The pause between two calls exposes values with a date.
            Some(sent) => self.change(&request, sent, &now, Duration::ZERO).await,
        };
        self.refusals.may_end(change, now)
    }

    async fn run(&self, request: TokenRequest) -> Result<AccessToken, TokenError> {
        let label = request.label().clone();
        self.refusals.begin();
        let (outcome, sent) = self.attempt(&request).await;
        match &outcome {
            Ok(_) => self.refusals.succeeded(),
            Err(error) if error.is_about_the_key() => {}
            Err(error) if error.is_transient() => self.refusals.failed(None),
            Err(_) => self.refusals.failed(Some(self.refused(request, sent))),
        }
        outcome.map_err(|error| counted(&label, error))
    }

    /// The part of a reading to keep after a refusal: without a subject's token, as subjects may
    /// log out.
    fn refused(&self, request: TokenRequest, sent: Option<Readings>) -> Refusal {
        if !matches!(self.grant, Grant::Subject(_)) {
            return Refusal::new(request, sent);
        }
        let request = TokenRequest::new(request.reason());
        let overlay = Overlay::of(&request);
        Refusal::new(request, sent.map(|sent| Readings { redeemed: None, overlay, ..sent }))
    }

    /// Fetches a token, and once more if the service refuses and the secrets have changed
    /// meanwhile. Returns the outcome and the secrets that were sent last.
    async fn attempt(&self, request: &TokenRequest) -> (Outcome<AccessToken>, Option<Readings>) {
        let sent = match self.read_whole(request).await {
            Ok(readings) => readings,
            Err(error) => return (Err(error), None),
        };
        let identity = self.template.identity(&sent);
        let to = self.location.destination(&*self.transport, identity, request.label()).await;
        let to = match to {
            Ok(destination) => destination,
            Err(error) => return (Err(self.located(error)), Some(sent)),
        };
        let outcome = self.redeem(&sent, &to).await;
        if !outcome.as_ref().is_err_and(EndpointError::blames_the_request) {
            return (outcome, Some(sent));
        }
        let Ok(fresh) = self.read(request).await else { return (outcome, Some(sent)) };
        let change = self.change(request, &sent, &fresh, STILL_FOR).await;
        if !self.refusals.may_try(change) {
            return (outcome, Some(sent));
        }
        let outcome = self.redeem(&fresh, &to).await;
        let is_refused = outcome.as_ref().is_err_and(EndpointError::blames_the_request);
        if is_refused && change == Change::Function {
            self.refusals.was_generated();
        }
        (outcome, Some(fresh))
    }

    /// Returns what has changed. If the value of a function has, this calls the function once more
    /// after `still_for` to check that the value is stable.
    async fn change(
        &self,
        request: &TokenRequest,
        sent: &Readings,
        now: &Readings,
        still_for: Duration,
    ) -> Change {
        let between = |before, now| Change::between(self.template.secrets(), before, now);
        let change = between(sent, now);
        if change != Change::Function {
            return change;
        }
        if !still_for.is_zero() {
            sleep(still_for).await;
        }
        match self.read(request).await {
            Ok(again) if between(now, &again) == Change::Nothing => change,
            _ => Change::Generated,
        }
    }

    /// Reads the secrets to send. If only one of certificate and key has been replaced, reads them
    /// once more.
    async fn read_whole(&self, request: &TokenRequest) -> Outcome<Readings> {
        let readings = self.read(request).await?;
        if self.transport.may_take(self.template.identity(&readings)) {
            return Ok(readings);
        }
        self.read(request).await
    }

    /// Reads the secrets to send for this request.
    async fn read(&self, request: &TokenRequest) -> Outcome<Readings> {
        let read = async {
            let mut readings = self.template.read(&Overlay::of(request)).await?;
            readings.redeemed = match &self.grant {
                Grant::Repeated => None,
                Grant::Refresh(refresh) => {
                    let token = refresh.choose(request).await?;
                    Some(Redeemed { name: "refresh_token", token })
                }
                Grant::Subject(name) => {
                    let token = readings.overlay.subject_token();
                    token.map(|token| Redeemed { name, token })
                }
            };
            Ok(readings)
        };
        read.await.map_err(|error| EndpointError::credential(&error, &self.place))
    }

    /// Redeems the grant, with care if it may be valid for one exchange only.
    async fn redeem(&self, readings: &Readings, to: &Destination) -> Outcome<AccessToken> {
        let (Grant::Refresh(refresh), Some(redeemed)) = (&self.grant, &readings.redeemed) else {
            return self.exchange(readings, to).await.map(|(token, _)| token);
        };
        let sent = &redeemed.token;
        match self.refresh(refresh, sent, readings, to).await {
            Err(error) if error.is_ambiguous() => {
                // Send the same refresh token, but new values for everything else that is valid
                // only once.
                let fresh = self.template.read(&readings.overlay).await.ok();
                let fresh =
                    fresh.map(|fresh| Readings { redeemed: Some(redeemed.clone()), ..fresh });
                let readings = fresh.as_ref().unwrap_or(readings);
                let again = self.refresh(refresh, sent, readings, to).await;
                again.map_err(EndpointError::settled)
            }
            outcome => outcome,
        }
    }

    /// Exchanges a refresh token, and records the outcome.
    async fn refresh(
        &self,
        refresh: &Refresh,
        sent: &Zeroizing<String>,
        readings: &Readings,
        to: &Destination,
    ) -> Outcome<AccessToken> {
        let was_in_doubt = refresh.sending(sent);
        match self.exchange(readings, to).await {
            Ok((token, new)) => {
                let new = new.as_ref().unwrap_or(sent);
                refresh.answered(sent, new);
                Ok(token.with_refresh_token(new.as_str()))
            }
            Err(error) if error.is_invalid_grant() => {
                refresh.refused(sent);
                Err(if was_in_doubt { error.lost() } else { error })
            }
            Err(error) => {
                if !was_in_doubt && !error.is_ambiguous() {
                    refresh.settled();
                }
                Err(error)
            }
        }
    }

    /// Sends one request. Returns the access token, and the refresh token beside it.
    async fn exchange(
        &self,
        readings: &Readings,
        to: &Destination,
    ) -> Outcome<(AccessToken, RefreshToken)> {
        let end = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let proven = self.prove(readings, to, end).await?;
        let readings = proven.as_ref().unwrap_or(readings);
        let request = self.template.request(readings, to);
        let exchange = self.transport.exchange(request, self.template.identity(readings));
        let outcome = match until(end, exchange).await {
            None => Err(self.error(Kind::Timeout)),
            Some(Ok(answer)) => self.judge(answer, readings),
            Some(Err(broken)) => Err(self.broken(broken, readings)),
        };
        outcome.map_err(|error| {
            self.location.failed(&error);
            error.at(&to.place)
        })
    }

    /// Adds new assertions to the readings, if the exchange needs any.
    async fn prove(
        &self,
        readings: &Readings,
        to: &Destination,
        end: Option<Instant>,
    ) -> Outcome<Option<Readings>> {
        match until(end, self.template.prove(readings, to)).await {
            None => Err(self.error(Kind::Credential).with_detail(UNSIGNED)),
            Some(Ok(proofs)) => Ok(proofs.map(|proofs| Readings { proofs, ..readings.clone() })),
            Some(Err(error)) => {
                Err(EndpointError::unusable(&error, error.is_transient(), &self.place))
            }
        }
    }

    pub(super) fn broken(&self, broken: TransportError, readings: &Readings) -> EndpointError {
        let redactor = self.template.redactor(readings);
        self.located(EndpointError::broken(broken, &self.place, &redactor))
    }

    /// Adds the places of certificate and key, if the error is about them.
    fn located(&self, error: EndpointError) -> EndpointError {
        match (&self.template.certificate, error.kind()) {
            (Some((certificate, key)), Kind::ClientCertificate(_)) => {
                let (certificate, key) = (certificate.place(), key.place());
                let places = format!("the certificate is {certificate}, the key {key}");
                error.with_detail(&Redactor::default().clean(&places))
            }
            _ => error,
        }
    }

    pub(super) fn error(&self, kind: Kind) -> EndpointError {
        EndpointError::new(kind, &self.place)
    }
}

/// Waits for `work` until `end` at most; `None` on a timeout.
async fn until<F: Future>(end: Option<Instant>, work: F) -> Option<F::Output> {
    match end {
        None => Some(work.await),
        Some(end) => timeout_at(end, work).await.ok(),
    }
}

/// Returns the error of a fetch, and counts it.
fn counted(label: &Label, error: EndpointError) -> TokenError {
    observe::endpoint_error(label, error.label());
    error.into()
}
