//! Every decision about one request and its response: which origin gets which token, what a
//! rejection is, whether the request may be sent again.
//!
//! Nothing here waits or sends: an [`Exchange`](crate::exchange::Exchange) asks the rules, and
//! [`service`](crate::service) or [`middleware`](crate::middleware) drives the exchange.

mod destination;
mod header;
mod id;
mod pass;
mod recent;
mod routes;
#[cfg_attr(not(feature = "keyed"), path = "rules/tokens/unkeyed.rs")]
mod tokens;
mod verdict;

use std::{fmt, sync::Arc};

use http::{Extensions, HeaderMap, Request, request};

pub(crate) use self::{
    destination::Destination,
    pass::{Pass, Recheck, Waiting},
    recent::Recent,
    verdict::{ResponseHead, Verdict},
};
pub use self::{
    header::{InvalidTokenHeader, TokenHeader},
    tokens::Tokens,
};
use self::{
    id::RulesId,
    pass::Target,
    routes::{Assumed, Routes, Slot, Slots},
    tokens::Supply,
    verdict::{Judge, Verdicts},
};
#[cfg(feature = "keyed")]
use crate::key::TokenKey;
use crate::{
    cache::Asked,
    error::{Refused, TokenError},
    observe,
    origin::{InvalidOrigin, Origin},
};

/// What happens to a request for an origin that was not named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnlistedOrigin {
    /// The request fails with [`Refused`], and nothing is sent.
    #[default]
    Refuse,
    /// The request is sent without a token.
    SendBare,
}

/// A request extension: the layer passes this request through untouched.
///
/// ```
/// use tower_bearer::SkipAuth;
///
/// let request = http::Request::get("https://api.example.com/public").extension(SkipAuth).body(());
/// # request.unwrap();
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SkipAuth;

/// A request extension: how many bytes of this request's body the layer may keep, to send it again
/// after a rejection. It replaces the layer's own limit; 0 means no replay.
///
/// A layer that keeps clones of bodies ([`CloneBody`](crate::CloneBody)) keeps the whole body
/// unless this is 0.
///
/// ```
/// use tower_bearer::ReplayLimit;
///
/// let request = http::Request::post("https://api.example.com/v1/uploads")
///     .extension(ReplayLimit(0))
///     .body("a body that is not to be kept");
/// # request.unwrap();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayLimit(pub usize);

/// The layer's settings, shared by all its services and requests.
#[derive(Clone)]
pub(crate) struct Rules {
    tokens: Tokens,
    routes: Routes,
    /// The slots for `https` origins that are not named, if these get the layer's token.
    any_https: Option<Slots>,
    pub(crate) allow_plaintext: bool,
    assumed: Option<Assumed>,
    pub(crate) unlisted: UnlistedOrigin,
    pub(crate) replay_if: Option<Judge<request::Parts>>,
    requires_subject: bool,
    verdicts: Arc<Verdicts>,
    id: RulesId,
}

/// What the rules look at in a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestHead<'a> {
    pub(crate) destination: Destination<'a>,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) extensions: &'a Extensions,
}

/// What happens to a request.
#[derive(Debug)]
pub(crate) enum Admission {
    /// It passes untouched.
    Untouched,
    /// It carries this token.
    Ready(Arc<Pass>),
    /// It waits for a token.
    Waiting(Waiting),
    /// No token may go with it.
    Refused(Refused),
    /// There is no token.
    Failed(TokenError),
}

/// How much of a request's body the layer may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// There is no replay.
    Nothing,
    /// At most this many bytes; `None`: the layer's own limit.
    UpTo(Option<usize>),
}

// ===== impl Rules =====

impl Rules {
    pub(crate) fn new(tokens: Tokens) -> Self {
        Self {
            tokens,
            routes: Routes::default(),
            any_https: None,
            allow_plaintext: false,
            assumed: None,
            unlisted: UnlistedOrigin::default(),
            replay_if: None,
            requires_subject: false,
            verdicts: Arc::default(),
            id: RulesId::default(),
        }
    }

    /// The token for a request to this destination, if it is known at once.
    pub(crate) fn ready(
        &self,
        destination: Destination<'_>,
        extensions: &Extensions,
    ) -> Option<Arc<Pass>> {
        if !extensions.is_empty() && extensions.get::<SkipAuth>().is_some() {
            return None;
        }
        #[cfg(feature = "keyed")]
        if !extensions.is_empty() {
            if let Some(key) = extensions.get() {
                return self.ready_for(key, destination);
            }
        }
        let (slot, is_shared) = self.slot(destination)?;
        slot.get(|pass| pass.holds() && (!is_shared || pass.is_for(destination)))
    }

    /// The token for a request with this key, if it is known at once.
    #[cfg(feature = "keyed")]
    fn ready_for(&self, key: &TokenKey, destination: Destination<'_>) -> Option<Arc<Pass>> {
        let tokens = match (destination, &self.assumed) {
            (Destination::Host { is_https, authority }, _) => {
                self.routes.written(is_https, authority).map(|route| &route.tokens)
            }
            (Destination::Unsaid, Some(assumed)) => {
                self.routes.get(&assumed.origin).map(|route| &route.tokens)
            }
            _ => None,
        };
        let tokens = tokens.or_else(|| self.any_https.as_ref().map(|_| &self.tokens))?;
        tokens.ready(key, |pass| pass.is_of(self.id) && pass.is_for(destination) && pass.holds())
    }

    /// The slot for the pass of a request to this destination, and whether other origins use that
    /// slot too.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "it returns what only its caller takes apart")]
    fn slot(&self, destination: Destination<'_>) -> Option<(&Slot, bool)> {
        match (destination, &self.assumed) {
            (Destination::Host { is_https, authority }, _) => {
                match self.routes.written(is_https, authority) {
                    Some(route) => Some((&route.slot, false)),
                    None => Some((self.any_https.as_ref()?.of(authority), true)),
                }
            }
            (Destination::Unsaid, Some(assumed)) => Some((&assumed.slot, false)),
            _ => None,
        }
    }

    /// Decides what happens to the request.
    #[cold]
    pub(crate) fn admit(&self, request: &RequestHead<'_>) -> Admission {
        let skips = request.extensions.get::<SkipAuth>().is_some();
        if skips || request.headers.contains_key(self.verdicts.header.name()) {
            return Admission::Untouched;
        }
        match self.target(request) {
            Ok((target, supply)) => self.granted(target, &supply, request.destination),
            Err(refused) if self.sends_bare(&refused) => Admission::Untouched,
            Err(refused) => {
                observe::refused(&refused);
                Admission::Refused(refused)
            }
        }
    }

    /// Asks the cache for the token of this request, and leaves the pass for the next request.
    fn granted(&self, target: Target, supply: &Supply, destination: Destination<'_>) -> Admission {
        let is_good = |pass: &Pass| pass.is_of(self.id) && pass.is_for(destination) && pass.holds();
        if let Some(pass) = supply.left(is_good) {
            return Admission::Ready(pass);
        }
        match target.cache.ask(Some(&target.origin)) {
            Asked::Token(granted) => {
                let pass = supply.pass(target, granted);
                if !supply.leave(&pass) {
                    if let Some((slot, _)) = self.slot(destination) {
                        slot.set(Arc::clone(&pass));
                    }
                }
                Admission::Ready(pass)
            }
            Asked::Wait(wait) => Admission::Waiting(Waiting { target, wait, replaces: None }),
            Asked::Error(error) => Admission::Failed(error),
        }
    }

    /// How much of the request the layer may keep. `parts` are given if a rule of the user's
    /// [judges](Self::replay_if) requests.
    #[inline]
    pub(crate) fn keep(&self, extensions: &Extensions, parts: Option<&request::Parts>) -> Keep {
        if extensions.is_empty() && self.replay_if.is_none() {
            return Keep::UpTo(None);
        }
        let limit = extensions.get::<ReplayLimit>().map(|limit| limit.0);
        let allowed = match (&self.replay_if, parts) {
            (Some(judge), Some(parts)) => judge(parts),
            _ => true,
        };
        if allowed && limit != Some(0) { Keep::UpTo(limit) } else { Keep::Nothing }
    }

    /// Where the request goes, and where its token comes from.
    fn target(&self, request: &RequestHead<'_>) -> Result<(Target, Supply), Refused> {
        let destination = request.destination;
        let origin = match (destination, &self.assumed) {
            (Destination::Unsaid, Some(assumed)) => Some(assumed.origin.clone()),
            _ => destination.origin(),
        };
        let origin = origin.ok_or(Refused::NoOrigin)?;
        let route = self.routes.get(&origin);
        let tokens = match route {
            Some(route) => &route.tokens,
            None if self.any_https.is_some() && origin.is_https() => &self.tokens,
            None => return Err(Refused::NotNamed(origin)),
        };
        if !self.may_be_told(&origin) {
            return Err(Refused::Plaintext(origin));
        }
        let supply = tokens.supply(request.extensions, self.requires_subject)?;
        let target = Target {
            cache: supply.cache().clone(),
            origin,
            written: destination.written(),
            is_named: route.is_some(),
            verdicts: Arc::clone(&self.verdicts),
            rules: self.id.number(),
        };
        Ok((target, supply))
    }

    /// Whether no one on the network path can read the token, or the user has allowed it.
    fn may_be_told(&self, origin: &Origin) -> bool {
        origin.is_https() || origin.is_loopback() || self.allow_plaintext
    }

    fn sends_bare(&self, refused: &Refused) -> bool {
        let is_unlisted = matches!(refused, Refused::NotNamed(_) | Refused::NoOrigin);
        is_unlisted && self.unlisted == UnlistedOrigin::SendBare
    }
}

/// The layer's builder calls these. Existing services keep the rules that they were made with.
impl Rules {
    /// Names an origin and sets where its tokens come from; `None`: from the layer's own cache.
    pub(crate) fn add(
        &mut self,
        origin: Origin,
        tokens: Option<Tokens>,
    ) -> Result<(), InvalidOrigin> {
        let tokens = tokens.unwrap_or_else(|| self.tokens.clone());
        // A slot may hold a pass with the layer's own token for that origin.
        self.any_https = self.any_https.take().map(|_| Slots::default());
        if let Some(assumed) = &mut self.assumed {
            assumed.slot = Slot::default();
        }
        self.routes.add(origin, tokens)
    }

    pub(crate) fn any_https(&mut self) {
        self.any_https = Some(Slots::default());
    }

    pub(crate) fn assume(&mut self, origin: Origin) {
        self.assumed = Some(Assumed { origin, slot: Slot::default() });
    }

    /// From now on each request needs a subject. Passes that were made without one are dropped.
    #[cfg(feature = "keyed")]
    pub(crate) fn require_subject(&mut self) {
        *self = Self { requires_subject: true, ..self.clone() };
    }

    /// Called before each change: passes that were left elsewhere belong to the old rules.
    pub(crate) fn changing(&mut self) {
        self.id = RulesId::default();
    }

    /// Finds the origins that will never get a token.
    pub(crate) fn check(&self) -> Result<(), InvalidOrigin> {
        for (origin, tokens) in self.routes.iter() {
            if !self.may_be_told(origin) {
                return Err(InvalidOrigin::Plaintext(origin.clone()));
            }
            if self.requires_subject && !tokens.takes_subjects() {
                return Err(InvalidOrigin::NotForSubjects(origin.clone()));
            }
        }
        if self.any_https.is_none() && self.routes.iter().next().is_none() {
            return Err(InvalidOrigin::NoneNamed);
        }
        let Some(Assumed { origin, .. }) = &self.assumed else { return Ok(()) };
        let is_named = self.routes.get(origin).is_some();
        if is_named || (self.any_https.is_some() && origin.is_https()) {
            Ok(())
        } else {
            Err(InvalidOrigin::NotNamed(origin.clone()))
        }
    }

    /// How responses are judged. Passes that were made for the old verdicts are dropped.
    pub(crate) fn verdicts(&mut self) -> &mut Verdicts {
        *self = self.clone();
        Arc::make_mut(&mut self.verdicts)
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules")
            .field("origins", &self.routes)
            .field("any_https", &self.any_https.is_some())
            .field("allow_plaintext", &self.allow_plaintext)
            .field("assumed", &self.assumed.as_ref().map(|assumed| &assumed.origin))
            .field("unlisted_origins", &self.unlisted)
            .field("verdicts", &self.verdicts)
            .finish_non_exhaustive()
    }
}

// ===== impl RequestHead =====

impl<'a> RequestHead<'a> {
    #[inline]
    pub(crate) fn of<B>(request: &'a Request<B>) -> Self {
        Self {
            destination: Destination::of(request.uri()),
            headers: request.headers(),
            extensions: request.extensions(),
        }
    }
}

#[cfg(test)]
mod tests;
