//! What a request carries through the layer: a token, and everything needed to judge the response.
//! There is one for each token and route, which all their requests share.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{
    destination::Destination,
    header::put,
    id::RulesId,
    verdict::{ResponseHead, Verdict, Verdicts},
};
use crate::{
    cache::{Asked, Granted, Rejection, Stamp, TokenCache, Wait},
    challenge::Challenge,
    error::TokenError,
    origin::Origin,
    token::AccessToken,
};

#[derive(Debug)]
pub(crate) struct Pass {
    target: Target,
    pub(crate) token: AccessToken,
    /// The header's value and its name.
    value: HeaderValue,
    name: HeaderName,
    /// How long the token may be used without asking the cache.
    stamp: Stamp,
    /// Whether the cache wants to know that the token was accepted.
    watched: AtomicBool,
    /// Whether the status alone shows an acceptance, and nothing else depends on the response.
    is_plain: bool,
    /// On a replay: the token that was rejected.
    replaces: Option<AccessToken>,
}

/// Where a request goes, whose token it gets, and how the response is judged.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) cache: TokenCache,
    pub(super) origin: Origin,
    /// The authority as the request writes it, and whether the scheme is `https`.
    pub(super) written: Option<(bool, Box<str>)>,
    /// Whether the origin was configured, and so may be a metric label.
    pub(super) is_named: bool,
    pub(super) verdicts: Arc<Verdicts>,
    /// The number of the rules that made it.
    pub(super) rules: u64,
}

/// A request that waits for its token.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(super) target: Target,
    pub(super) wait: Wait,
    /// As in a [`Pass`].
    pub(super) replaces: Option<AccessToken>,
}

/// What has become of a pass after a wait.
#[derive(Debug)]
pub(crate) enum Recheck {
    /// The token may still be used.
    Good,
    /// There is a newer token.
    Newer(Arc<Pass>),
    /// The token has expired, and the request waits for another.
    Waiting(Waiting),
    /// The token has expired, and there is no other; or it was removed.
    Failed(TokenError),
}

// ===== impl Pass =====

impl Pass {
    pub(super) fn new(target: Target, granted: Granted) -> Self {
        Self {
            is_plain: target.verdicts.is_plain(),
            value: target.verdicts.header.value(&granted.token),
            name: target.verdicts.header.name().clone(),
            target,
            token: granted.token,
            stamp: granted.stamp,
            watched: AtomicBool::new(granted.watched),
            replaces: None,
        }
    }

    /// A pass that only the requests of one thread share.
    pub(super) fn of_one_thread(target: Target, granted: Granted) -> Self {
        let value = target.verdicts.header.value_copy(&granted.token);
        Self { value, ..Self::new(target, granted) }
    }

    /// Whether the pass is for a request that writes its destination like this.
    #[inline]
    pub(super) fn is_for(&self, destination: Destination<'_>) -> bool {
        self.target.is_written(destination)
    }

    /// Whether these rules made the pass.
    pub(super) fn is_of(&self, rules: RulesId) -> bool {
        self.target.rules == rules.number()
    }

    /// Whether the token may still be used without asking the cache.
    #[inline]
    pub(super) fn holds(&self) -> bool {
        let holds = self.target.cache.holds(&self.stamp);
        if holds {
            self.target.cache.observe_use(&self.stamp);
        }
        holds
    }

    /// Makes it the pass of a replay, whose end is counted.
    fn replacing(self, rejected: Option<AccessToken>) -> Self {
        Self { is_plain: self.is_plain && rejected.is_none(), replaces: rejected, ..self }
    }

    /// Whether this is the pass of a request that is sent for the second time.
    #[inline]
    pub(crate) fn is_replay(&self) -> bool {
        self.replaces.is_some()
    }

    /// The pass of the replay, with the token from the renewal.
    pub(crate) fn with(&self, token: AccessToken) -> Self {
        let granted = self.target.cache.granted(Some(&self.target.origin));
        let granted = granted.filter(|granted| granted.token.is_same(&token));
        let granted = granted.unwrap_or_else(|| Granted::once(token));
        Self::new(self.target.clone(), granted).replacing(Some(self.token.clone()))
    }

    /// Looks at the token again after a wait.
    pub(crate) fn recheck(&self) -> Recheck {
        let cache = &self.target.cache;
        let is_forgotten = cache.is_forgotten();
        if !is_forgotten && (self.stamp.is_for_one_use() || cache.holds(&self.stamp)) {
            return Recheck::Good;
        }
        match cache.ask(Some(&self.target.origin)) {
            Asked::Token(granted) if self.is_rejected(&granted.token) => Recheck::Good,
            Asked::Token(granted) => {
                let newer = Self::new(self.target.clone(), granted);
                Recheck::Newer(Arc::new(newer.replacing(self.replaces.clone())))
            }
            Asked::Wait(_) | Asked::Error(_) if !is_forgotten && !self.stamp.is_expired() => {
                Recheck::Good
            }
            Asked::Wait(wait) => {
                let (target, replaces) = (self.target.clone(), self.replaces.clone());
                Recheck::Waiting(Waiting { target, wait, replaces })
            }
            Asked::Error(error) => Recheck::Failed(error),
        }
    }

    fn is_rejected(&self, token: &AccessToken) -> bool {
        self.replaces.as_ref().is_some_and(|rejected| rejected.is_same(token))
    }

    /// Puts the token on the request. If the request brings its own credentials, this leaves it as
    /// it was and returns `false`.
    #[inline]
    pub(crate) fn put(&self, headers: &mut HeaderMap) -> bool {
        put(headers, &self.name, &self.value)
    }

    /// Whether a user's rule wants to see the whole head of the response.
    #[inline]
    pub(crate) fn judges_parts(&self) -> bool {
        self.target.verdicts.rejected_when.is_some()
    }

    pub(crate) fn verdict(&self, response: &ResponseHead<'_>) -> Verdict {
        let verdict = self.target.verdicts.of(response);
        // A token does not follow a redirect, so the answer at the end of one says nothing about
        // it.
        let is_foreign = verdict != Verdict::Silent
            && response.came_from().is_some_and(|origin| !self.target.is(origin));
        if is_foreign { Verdict::Silent } else { verdict }
    }

    /// Whether a response with this status says only what is already known: the token is accepted.
    #[inline]
    pub(crate) fn takes_for_granted(&self, status: StatusCode) -> bool {
        self.is_plain && status.as_u16() < 400 && !self.watched.load(Relaxed)
    }

    /// Tells the cache, once, that the token was accepted.
    pub(crate) fn accepted(&self) {
        if self.watched.load(Relaxed) {
            self.watched.store(false, Relaxed);
            self.target.cache.accepted(&self.token, Some(&self.target.origin));
        }
    }

    /// The rejection, with the challenge that decides for a bearer client.
    pub(crate) fn rejection(&self, response: &ResponseHead<'_>) -> Rejection {
        let rejection = Rejection::new(self.token.clone()).with_origin(self.target.origin.clone());
        let name = self.target.verdicts.header.challenges();
        match Challenge::decisive(Challenge::from_lines(response.headers.get_all(name))) {
            Some(challenge) => rejection.with_challenge(challenge),
            None => rejection,
        }
    }

    pub(crate) fn cache(&self) -> &TokenCache {
        &self.target.cache
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.target.origin
    }

    /// The origin, if it was configured.
    pub(crate) fn named_origin(&self) -> Option<&Origin> {
        self.target.is_named.then_some(&self.target.origin)
    }
}

// ===== impl Target =====

impl Target {
    #[inline]
    fn is_written(&self, destination: Destination<'_>) -> bool {
        match (destination, &self.written) {
            (Destination::Host { is_https, authority }, Some((https, written))) => {
                is_https == *https && *authority == **written
            }
            (Destination::Unsaid, None) => true,
            _ => false,
        }
    }

    /// Whether that is the same origin.
    pub(super) fn is(&self, destination: Destination<'_>) -> bool {
        self.is_written(destination)
            || destination.origin().is_none_or(|origin| origin == self.origin)
    }
}

// ===== impl Waiting =====

impl Waiting {
    /// Waits for the token.
    #[expect(clippy::manual_async_fn, reason = "its future would hold twice what waits")]
    pub(crate) fn pass(mut self) -> impl Future<Output = Result<Arc<Pass>, TokenError>> + Send {
        async move {
            let token = self.target.cache.wait(&mut self.wait).await?;
            let granted = self.target.cache.granted(Some(&self.target.origin));
            // The token may have expired on arrival. That is no reason to go back to a suspect one.
            let is_better = |it: &Granted| !it.stamp.is_suspect() || it.token.is_same(&token);
            let granted = granted.filter(is_better).unwrap_or_else(|| Granted::once(token));
            Ok(Arc::new(Pass::new(self.target, granted).replacing(self.replaces)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::from_fn;

    /// The target of a request that writes its destination like this.
    fn target(written: Destination<'_>) -> Target {
        let never = from_fn(|_| std::future::pending());
        Target {
            cache: TokenCache::new(never),
            origin: "https://api.example".parse().unwrap(),
            written: written.written(),
            is_named: true,
            verdicts: Arc::default(),
            rules: 0,
        }
    }

    const HTTPS: Destination<'_> = Destination::Host { is_https: true, authority: "api.example" };
    const HTTP: Destination<'_> = Destination::Host { is_https: false, authority: "api.example" };

    #[test]
    fn it_is_for_what_is_written_like_its_request() {
        let longer = Destination::Host { is_https: true, authority: "api.example:443" };
        assert!(target(HTTPS).is_written(HTTPS));
        for other in [HTTP, longer, Destination::Unsaid, Destination::Other] {
            assert!(!target(HTTPS).is_written(other), "{other:?}");
        }
        assert!(target(Destination::Unsaid).is_written(Destination::Unsaid));
        assert!(!target(Destination::Unsaid).is_written(HTTPS));
        assert!(!target(Destination::Unsaid).is_written(Destination::Other));
    }

    #[test]
    fn an_origin_is_the_same_however_it_is_written() {
        for authority in ["api.example", "API.example", "api.example:443"] {
            let written = Destination::Host { is_https: true, authority };
            assert!(target(HTTPS).is(written), "{authority}");
        }
        for authority in ["api.example:8443", "evil.example"] {
            assert!(!target(HTTPS).is(Destination::Host { is_https: true, authority }));
        }
        assert!(!target(HTTPS).is(HTTP));
    }
}
