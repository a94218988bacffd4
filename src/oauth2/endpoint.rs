//! A token endpoint, and one fetch from it: from the secrets to the token.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, StatusCode};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep, timeout_at},
};
use zeroize::Zeroizing;

use super::{
    assertion::skew,
    changes::{Change, Refusal, Refusals},
    destination::Destination,
    discovery::Discovery,
    error::{EndpointError, EndpointErrorKind as Kind},
    overlay::Overlay,
    redact::Redactor,
    refresh::{Grant, Refresh},
    request::{Readings, Redeemed, Template},
    response::{FieldNames, Reply, retry_after},
    token_exchange::TokenType,
    transport::{Answer, Transport, TransportError},
};
use crate::{
    error::{CacheError, TokenError},
    observe::{self, Label},
    source::{TokenRequest, TokenSource},
    token::AccessToken,
};

type Outcome<T> = Result<T, EndpointError>;
type RefreshToken = Option<Zeroizing<String>>;

/// What is added to the exchanges' timeouts, so that an exchange that takes too long is
/// reported by its own error and not by the cache's.
const MARGIN: Duration = Duration::from_secs(1);
/// How long what a function returns must keep still to have changed and not just have a date,
/// which is in whole seconds in most.
const STILL_FOR: Duration = Duration::from_millis(1100);
/// What is said if a signer takes too long.
const UNSIGNED: &str = "`client_assertion`: it was not signed in time";

/// Fetches access tokens from the token endpoint of an OAuth 2.0 authorization server.
///
/// [`TokenEndpoint::builder`] makes one, or one of the [`providers`](super::providers). Its errors
/// hold an [`EndpointError`]. It needs a tokio runtime, as the [`TokenCache`](crate::TokenCache)
/// does.
pub struct TokenEndpoint {
    endpoint: Arc<Endpoint>,
}

/// What a [`TokenEndpoint`] is made of. Its fetches may outlive it.
pub(super) struct Endpoint {
    pub(super) label: Label,
    /// Scheme, host, port and path, as errors show them: the endpoint's, or its issuer's.
    pub(super) place: String,
    pub(super) location: Location,
    pub(super) template: Template,
    pub(super) grant: Grant,
    /// What kind of token has to come, if it is not for the service to decide.
    pub(super) requested: Option<TokenType>,
    pub(super) names: FieldNames,
    pub(super) timeout: Option<Duration>,
    pub(super) transport: Box<dyn Transport>,
    pub(super) refusals: Refusals,
}

/// How it is known where token requests go.
pub(super) enum Location {
    /// By the settings.
    Fixed(Arc<Destination>),
    /// By what the issuer says.
    Discovered(Box<Discovery>),
}

// ===== impl TokenEndpoint =====

impl TokenEndpoint {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint: Arc::new(endpoint) }
    }

    /// Fetches a token, once, as a cache lets it do: for a source of your own that does something
    /// before or after. The future holds on to the endpoint, so it goes into an async block.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_bearer::{TokenSource, from_fn, oauth2::TokenEndpoint};
    ///
    /// /// For an API that forgets tokens long before they expire.
    /// fn forgotten_soon(endpoint: TokenEndpoint) -> impl TokenSource {
    ///     from_fn(move |request| {
    ///         let token = endpoint.fetch(request);
    ///         async move { Ok(token.await?.with_lifetime(Duration::from_secs(300))) }
    ///     })
    /// }
    /// # let service = tower::service_fn(async |_: http::Request<http_body_util::Full<bytes::Bytes>>| {
    /// #     let answer = r#"{"access_token":"abc","expires_in":3600}"#.to_owned();
    /// #     Ok::<_, std::convert::Infallible>(http::Response::new(answer))
    /// # });
    /// # let endpoint = TokenEndpoint::builder("https://auth.example.com/token").client_id("a");
    /// # let endpoint = endpoint.client_secret("b").transport(service).build()?;
    /// # let cache = tower_bearer::TokenCache::new(forgotten_soon(endpoint));
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    /// # let token = runtime.block_on(cache.get())?;
    /// # assert_eq!(token.lifetime(), Some(Duration::from_secs(300)));
    /// # Ok::<(), tower_bearer::BoxError>(())
    /// ```
    ///
    /// What a cache learns of an endpoint beside its tokens, such a source has to say again, or
    /// does without: its timeout, and that a secret has changed while the source cools down.
    ///
    /// # Errors
    ///
    /// As [`TokenSource::fetch`]: a [`TokenError`] with an [`EndpointError`] in it.
    pub fn fetch(
        &self,
        request: TokenRequest,
    ) -> impl Future<Output = Result<AccessToken, TokenError>> + Send + use<> {
        let endpoint = Arc::clone(&self.endpoint);
        async move { endpoint.fetch(request).await }
    }

    /// Whether the endpoint's grant exchanges the token of a request's
    /// [`Subject`](crate::Subject), so that it has a token for each user and none for a request
    /// on behalf of nobody. Ask at the start of a program whose configuration chooses the grant.
    ///
    /// ```
    /// # #[cfg(feature = "reqwest")] {
    /// use tower_bearer::oauth2::{TokenEndpoint, TokenExchange};
    ///
    /// let builder = || TokenEndpoint::builder("https://auth.example.com/token").client_id("orders");
    /// assert!(!builder().build()?.takes_subject());
    /// assert!(builder().token_exchange(TokenExchange::new()).build()?.takes_subject());
    /// let fixed = TokenExchange::new().subject_token("of-the-program");
    /// assert!(!builder().token_exchange(fixed).build()?.takes_subject());
    /// # }
    /// # Ok::<(), tower_bearer::oauth2::InvalidEndpoint>(())
    /// ```
    #[cfg(feature = "keyed")]
    #[cfg_attr(docsrs, doc(cfg(feature = "keyed")))]
    #[must_use]
    pub fn takes_subject(&self) -> bool {
        self.endpoint.takes_subject()
    }

    /// Waits until the [hook](super::TokenEndpointBuilder::on_new_refresh_token) has ended for
    /// each new refresh token that has come so far.
    ///
    /// A program that ends right after a fetch should wait for this, because the hook ends with
    /// the runtime. An [`Arc`] shares the endpoint with a cache. A hook that hangs keeps this
    /// waiting.
    pub async fn refresh_tokens_stored(&self) {
        if let Grant::Refresh(refresh) = &self.endpoint.grant {
            refresh.hooks_ended().await;
        }
    }
}

impl TokenSource for TokenEndpoint {
    fn fetch(
        &self,
        request: TokenRequest,
    ) -> impl Future<Output = Result<AccessToken, TokenError>> + Send {
        Self::fetch(self, request)
    }

    /// The [name](super::TokenEndpointBuilder::name) that it was given.
    fn name(&self) -> Option<&str> {
        self.endpoint.label.name()
    }

    /// Not where each exchange may spend its
    /// [refresh token](super::TokenEndpointBuilder::refresh_token).
    fn is_repeatable(&self) -> bool {
        !matches!(self.endpoint.grant, Grant::Refresh(_))
    }

    /// Two exchanges, if each has a [timeout](super::TokenEndpointBuilder::timeout), because a
    /// fetch may need a second one; and as long for the metadata, if they are
    /// [discovered](TokenEndpoint::discover).
    fn attempt_timeout(&self) -> Option<Duration> {
        self.endpoint.attempt_timeout()
    }

    /// Whether a [`Secret`](crate::Secret) reads differently than at the last permanent failure.
    /// One that reads differently each time never does.
    async fn recovered(&self) -> bool {
        self.endpoint.recovered().await
    }
}

impl fmt::Debug for TokenEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Endpoint { label, place, location, template, .. } = &*self.endpoint;
        let mut debug = f.debug_struct("TokenEndpoint");
        debug.field("name", label);
        match location {
            Location::Fixed(to) => debug.field("url", place).field("client_auth", &to.client_auth),
            Location::Discovered(_) => debug.field("issuer", place),
        };
        debug
            .field("grant_type", &template.grant_type)
            .field("client_id", &template.client_id)
            .finish_non_exhaustive()
    }
}

// ===== impl Endpoint =====

impl Endpoint {
    /// Fetches a token. An exchange of a refresh token is shared by all who ask for the same
    /// meanwhile, and goes on if none of them is left.
    pub(super) async fn fetch(
        self: &Arc<Self>,
        request: TokenRequest,
    ) -> Result<AccessToken, TokenError> {
        let runtime = Handle::try_current().map_err(|_| CacheError::NoRuntime)?;
        let label = request.label().or(&self.label);
        let request = request.labelled(label);
        let overlay = Overlay::of(&request);
        self.check(&overlay).map_err(|error| told(request.label(), error))?;
        let Grant::Refresh(refresh) = &self.grant else { return self.run(request).await };
        refresh.resume_hooks(request.label());
        let rejected = request.rejected().cloned();
        let start = || {
            let (endpoint, request) = (Arc::clone(self), request.clone());
            async move { endpoint.run(request).await }
        };
        refresh.runs.join(&runtime, &overlay, rejected.as_ref(), self.longest(), start).await
    }

    /// Whether what is asked for can be asked for here. If not, nothing is read and nothing sent.
    fn check(&self, overlay: &Overlay) -> Outcome<()> {
        self.template.check(overlay, self.takes_subject()).map_err(|(kind, problem)| {
            let error = self.error(kind);
            match problem {
                Some(problem) => error.with_detail(&Redactor::default().clean(&problem)),
                None => error,
            }
        })
    }

    fn takes_subject(&self) -> bool {
        matches!(self.grant, Grant::Subject(_))
    }

    /// Two exchanges, of which a fetch may need the second, and the metadata before them.
    pub(super) fn attempt_timeout(&self) -> Option<Duration> {
        let more = self.location.timeout().saturating_add(MARGIN);
        self.timeout.map(|timeout| timeout.saturating_mul(2).saturating_add(more))
    }

    /// The longest that a fetch of a refresh token can take: each of two exchanges may have to
    /// be repeated.
    fn longest(&self) -> Duration {
        let timeout = self.timeout.unwrap_or(Duration::MAX);
        let more = self.location.timeout().saturating_add(STILL_FOR + MARGIN);
        timeout.saturating_mul(4).saturating_add(more)
    }

    /// Whether something was changed, since the last refusal, by which it may be over.
    pub(super) async fn recovered(&self) -> bool {
        let Some(Refusal { request, sent, .. }) = self.refusals.last() else { return false };
        let Ok(now) = self.read(&request).await else { return false };
        let change = match &sent {
            // What could not be read can be read now.
            None => Change::Kept,
            // The pause between one question and the next shows what has a date.
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
        outcome.map_err(|error| told(&label, error))
    }

    /// What is remembered of a refusal: nothing of a subject, who may log out.
    fn refused(&self, request: TokenRequest, sent: Option<Readings>) -> Refusal {
        if !matches!(self.grant, Grant::Subject(_)) {
            return Refusal::new(request, sent);
        }
        let request = TokenRequest::new(request.reason());
        let overlay = Overlay::of(&request);
        Refusal::new(request, sent.map(|sent| Readings { redeemed: None, overlay, ..sent }))
    }

    /// Fetches a token, and once more if the service refuses and what would be sent has changed
    /// meanwhile. Beside the outcome, what was sent last.
    async fn attempt(&self, request: &TokenRequest) -> (Outcome<AccessToken>, Option<Readings>) {
        let sent = match self.read_whole(request).await {
            Ok(readings) => readings,
            Err(error) => return (Err(error), None),
        };
        let to = match self.destination(request, &sent).await {
            Ok(destination) => destination,
            Err(error) => return (Err(error), Some(sent)),
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
        if is_refused && change == Change::Made {
            self.refusals.was_made_anew();
        }
        (outcome, Some(fresh))
    }

    /// What has changed. What a function returns is read once more, to see if it keeps still
    /// for so long.
    async fn change(
        &self,
        request: &TokenRequest,
        sent: &Readings,
        now: &Readings,
        still_for: Duration,
    ) -> Change {
        let between = |before, now| Change::between(self.template.secrets(), before, now);
        let change = between(sent, now);
        if change != Change::Made {
            return change;
        }
        if !still_for.is_zero() {
            sleep(still_for).await;
        }
        match self.read(request).await {
            Ok(again) if between(now, &again) == Change::Nothing => change,
            _ => Change::Anew,
        }
    }

    /// Reads what has to be sent and, if one of certificate and key is the old one still, reads
    /// them once more.
    async fn read_whole(&self, request: &TokenRequest) -> Outcome<Readings> {
        let readings = self.read(request).await?;
        if self.transport.may_take(self.template.identity(&readings)) {
            return Ok(readings);
        }
        self.read(request).await
    }

    /// Reads what has to be sent for this request.
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

    /// Where to send it.
    async fn destination(
        &self,
        request: &TokenRequest,
        readings: &Readings,
    ) -> Outcome<Arc<Destination>> {
        match &self.location {
            Location::Fixed(destination) => Ok(Arc::clone(destination)),
            Location::Discovered(discovery) => {
                let identity = self.template.identity(readings);
                let found = discovery.destination(&*self.transport, identity, request.label());
                found.await.map_err(|error| self.located(error))
            }
        }
    }

    /// Redeems the grant, with care if it may be good for one exchange only.
    async fn redeem(&self, readings: &Readings, to: &Destination) -> Outcome<AccessToken> {
        let (Grant::Refresh(refresh), Some(redeemed)) = (&self.grant, &readings.redeemed) else {
            return self.exchange(readings, to).await.map(|(token, _)| token);
        };
        let sent = &redeemed.token;
        match self.refresh(refresh, sent, readings, to).await {
            Err(error) if error.is_ambiguous() => {
                // The same refresh token, but nothing else that is good for one exchange only.
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

    /// Exchanges a refresh token, and notes what came of it.
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

    /// One request and its answer: the access token, and the refresh token beside it.
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

    /// The same with assertions, if there have to be any. No two exchanges have the same.
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

    fn judge(
        &self,
        Answer { head, body }: Answer,
        readings: &Readings,
    ) -> Outcome<(AccessToken, RefreshToken)> {
        let wait = retry_after(&head.headers, SystemTime::now());
        let failed = |error: EndpointError| error.with_head(head.status, wait);
        if head.status.is_redirection() {
            return Err(failed(self.error(Kind::Redirected)));
        }
        let is_success = head.status.is_success();
        let body = match body {
            Err(broken) if is_success => return Err(failed(self.broken(broken, readings))),
            // The status says enough.
            body => body.unwrap_or_default(),
        };
        match Reply::read(&body, &self.names) {
            Ok(reply) if is_success && !reply.is_error() => {
                self.check_type(&reply, readings).map_err(failed)?;
                let token = reply.access_token().map_err(|kind| {
                    let is_missing = kind == Kind::MissingToken;
                    let error = failed(self.error(kind));
                    if is_missing && reply.has_token_of_another_type() {
                        return error.with_detail("what stands in its place is not a text");
                    }
                    error
                })?;
                Ok((token, reply.refresh_token()))
            }
            Err(kind) if is_success => Err(failed(self.error(kind))),
            reply => {
                let error = failed(self.refusal(head.status, reply.ok().as_ref(), readings));
                Err(self.explained(error, &head.headers))
            }
        }
    }

    /// Says so if an assertion may have been refused because the clocks differ.
    fn explained(&self, error: EndpointError, headers: &HeaderMap) -> EndpointError {
        if !error.may_be_about_an_assertion() {
            return error;
        }
        let tolerated = self.template.tolerated_skew();
        match tolerated.and_then(|tolerated| skew(headers, SystemTime::now(), tolerated)) {
            Some(detail) => error.with_detail(&detail),
            None => error,
        }
    }

    /// Whether the token is of a type that can be presented, and of the one that was asked for.
    fn check_type(&self, reply: &Reply, readings: &Readings) -> Outcome<()> {
        let requested = self.requested.as_ref();
        if !reply.is_presented(requested) {
            return Err(self.error(Kind::NotBearer));
        }
        match (reply.issued_token_type(), requested) {
            (Some(issued), Some(requested)) if issued != requested.as_str() => {
                let issued = self.redactor(reply, readings).clean(issued);
                let detail = format!("`{issued}` in place of `{}`", requested.as_str());
                Err(self.error(Kind::OtherTokenType).with_detail(&detail))
            }
            _ => Ok(()),
        }
    }

    fn refusal(
        &self,
        status: StatusCode,
        reply: Option<&Reply>,
        readings: &Readings,
    ) -> EndpointError {
        let error = self.error(Kind::of(status)).when_asked(readings.overlay.asked());
        let Some(reply) = reply else { return error };
        let redactor = self.redactor(reply, readings);
        error.with_oauth(reply.error(), reply.error_description(), &redactor).with_more(
            reply.error_uri(),
            reply.claims(),
            &redactor,
        )
    }

    /// Knows every secret that was sent, and every token that came.
    fn redactor(&self, reply: &Reply, readings: &Readings) -> Redactor {
        let mut redactor = self.template.redactor(readings);
        reply.hide_tokens(&mut redactor);
        redactor
    }

    fn broken(&self, broken: TransportError, readings: &Readings) -> EndpointError {
        let redactor = self.template.redactor(readings);
        self.located(EndpointError::broken(broken, &self.place, &redactor))
    }

    /// Says where certificate and key are, if the error is about them.
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

    fn error(&self, kind: Kind) -> EndpointError {
        EndpointError::new(kind, &self.place)
    }
}

// ===== impl Location =====

impl Location {
    /// How long it may take to find out.
    fn timeout(&self) -> Duration {
        match self {
            Self::Fixed(_) => Duration::ZERO,
            Self::Discovered(discovery) => discovery.timeout,
        }
    }

    /// An exchange has failed: has the endpoint moved?
    fn failed(&self, error: &EndpointError) {
        let Self::Discovered(discovery) = self else { return };
        let is_gone = [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED, StatusCode::GONE];
        let has_moved = match error.kind() {
            Kind::Unreachable | Kind::Redirected => true,
            Kind::Refused => error.status().is_some_and(|status| is_gone.contains(&status)),
            _ => false,
        };
        if has_moved {
            discovery.doubt();
        }
    }
}

/// Waits for something at most until then; `None` if that was not long enough.
async fn until<F: Future>(end: Option<Instant>, work: F) -> Option<F::Output> {
    match end {
        None => Some(work.await),
        Some(end) => timeout_at(end, work).await.ok(),
    }
}

/// The error of a fetch, which is counted.
fn told(label: &Label, error: EndpointError) -> TokenError {
    observe::endpoint_error(label, error.label());
    error.into()
}

#[cfg(all(test, feature = "keyed"))]
mod tests {
    use http::Response;

    use super::*;
    use crate::{
        key::{Subject, TokenKey},
        oauth2::token_exchange::TokenExchange,
        source::Reason,
    };

    #[tokio::test]
    async fn no_subject_is_remembered_of_a_refusal() {
        let service = tower::service_fn(async |_: http::Request<_>| {
            let answer = Response::builder().status(401);
            answer.body(r#"{"error":"invalid_client"}"#.to_owned())
        });
        let endpoint = TokenEndpoint::builder("https://auth.example.com/token")
            .token_exchange(TokenExchange::new())
            .transport(service)
            .build()
            .unwrap();
        let subject = Subject::new(AccessToken::new("alice-token").unwrap());
        let key = TokenKey::new().scope("a").on_behalf_of(subject);
        endpoint.fetch(TokenRequest::new(Reason::Due).with_key(key)).await.unwrap_err();

        let Refusal { request, sent, .. } = endpoint.endpoint.refusals.last().unwrap();
        let sent = sent.unwrap();
        assert!(request.key().is_none() && sent.redeemed.is_none());
        assert!(sent.overlay.subject_token().is_none());
    }
}
