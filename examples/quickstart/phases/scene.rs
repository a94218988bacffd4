//! The set-up of a phase: the two services, a new client stack, and the counts at its start.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use tower_bearer::{BoxError, RefreshPolicy, TokenCache};

use crate::{
    api::Api,
    load::{Load, Outcome},
    mutex,
    phase::{Phase, Story},
    stack::{local_cache, local_client, stack},
    timeline::Timeline,
    token_service::TokenService,
};

/// The two services. All phases share them.
pub(crate) struct World {
    pub(crate) tokens: TokenService,
    pub(crate) api: Api,
    timeline: Timeline,
}

pub(crate) struct Scene<'a> {
    world: &'a World,
    name: &'static str,
    story: Story,
    /// `None` if hand-written code makes the calls.
    cache: Option<TokenCache>,
    pub(crate) load: Load,
    /// The counts and the time at the start of the phase.
    issued: u64,
    replayed: u64,
    since: Instant,
}

impl World {
    /// Starts both services. The API gets each call after `delay`.
    pub(crate) async fn start(delay: Duration) -> Result<Self, BoxError> {
        let timeline = Timeline::default();
        let tokens = TokenService::start(timeline.clone()).await?;
        let api = Api::start(tokens.clone(), delay, timeline.clone()).await?;
        Ok(Self { tokens, api, timeline })
    }
}

impl<'a> Scene<'a> {
    /// Opens a scene with a client stack that has no token yet.
    pub(crate) fn open(
        world: &'a World,
        name: &'static str,
        summary: &str,
        policy: RefreshPolicy,
    ) -> Result<Self, BoxError> {
        let cache = local_cache(&world.tokens.url, policy)?;
        let stack = stack(cache.clone(), &world.api.origin, local_client())?;
        let load = Load::echo(stack, world.api.uri(), name);
        Ok(Self::new(world, name, summary, load, Some(cache)))
    }

    /// Opens a scene with hand-written code in place of the layer.
    pub(crate) fn open_mutex(world: &'a World, name: &'static str, summary: &str) -> Self {
        let stack = mutex::stack(Arc::clone(&world.tokens.url), local_client());
        Self::new(world, name, summary, Load::echo(stack, world.api.uri(), name), None)
    }

    fn new(
        world: &'a World,
        name: &'static str,
        summary: &str,
        load: Load,
        cache: Option<TokenCache>,
    ) -> Self {
        let story = Story::begin(name, summary);
        let (issued, replayed, since) = (0, 0, Instant::now());
        let mut scene = Self { world, name, story, cache, load, issued, replayed, since };
        scene.count_from_here();
        scene
    }

    /// Makes one call to get a token. The phase begins after it.
    pub(crate) async fn warm_up(&mut self) -> Result<(), BoxError> {
        let outcomes = self.load.at_once(1).await?.outcomes().await;
        if let Some(failure) = outcomes.into_iter().find_map(|outcome| outcome.failure) {
            return Err(format!("{}: the first call failed: {failure}", self.name).into());
        }
        self.count_from_here();
        Ok(())
    }

    pub(crate) fn tell(&self, event: &str) {
        self.story.tell(event);
    }

    /// Waits until no fetch is in flight, so that the next phase counts only its own.
    pub(crate) async fn settle(&self) {
        if let Some(cache) = &self.cache {
            let mut status = cache.subscribe();
            while status.next().await.is_some_and(|status| status.is_fetching()) {}
        }
    }

    /// Ends the phase. Call `settle` first.
    pub(crate) fn close(self, outcomes: Vec<Outcome>) -> Phase {
        let fetches = self.world.tokens.counts().issued - self.issued;
        let replays = self.world.api.counts().replayed - self.replayed;
        let marks = self.world.timeline.since(self.since);
        Phase::new(self.name, self.story, outcomes, fetches, replays).with_marks(marks)
    }

    fn count_from_here(&mut self) {
        self.issued = self.world.tokens.counts().issued;
        self.replayed = self.world.api.counts().replayed;
        self.since = Instant::now();
    }
}
