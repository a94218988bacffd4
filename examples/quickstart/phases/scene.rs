//! What every phase of the demonstration has: the two services, a client stack of its own, and
//! the counts from before.

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

/// The two services, which all phases share.
pub(crate) struct World {
    pub(crate) tokens: TokenService,
    pub(crate) api: Api,
    timeline: Timeline,
}

pub(crate) struct Scene<'a> {
    world: &'a World,
    name: &'static str,
    story: Story,
    /// Nothing where a hand-written client makes the calls.
    cache: Option<TokenCache>,
    pub(crate) load: Load,
    /// The counts when the phase began, and the time.
    issued: u64,
    replayed: u64,
    since: Instant,
}

impl World {
    /// The API gets each call after that time.
    pub(crate) async fn start(distance: Duration) -> Result<Self, BoxError> {
        let timeline = Timeline::default();
        let tokens = TokenService::start(timeline.clone()).await?;
        let api = Api::start(tokens.clone(), distance, timeline.clone()).await?;
        Ok(Self { tokens, api, timeline })
    }
}

impl<'a> Scene<'a> {
    /// A client stack without a token.
    pub(crate) fn open(
        world: &'a World,
        name: &'static str,
        plot: &str,
        policy: RefreshPolicy,
    ) -> Result<Self, BoxError> {
        let cache = local_cache(&world.tokens.url, policy)?;
        let stack = stack(cache.clone(), &world.api.origin, local_client())?;
        let load = Load::echo(stack, world.api.uri(), name);
        Ok(Self::new(world, name, plot, load, Some(cache)))
    }

    /// The same with a hand-written client in place of the layer.
    pub(crate) fn open_mutex(world: &'a World, name: &'static str, plot: &str) -> Self {
        let stack = mutex::stack(Arc::clone(&world.tokens.url), local_client());
        Self::new(world, name, plot, Load::echo(stack, world.api.uri(), name), None)
    }

    fn new(
        world: &'a World,
        name: &'static str,
        plot: &str,
        load: Load,
        cache: Option<TokenCache>,
    ) -> Self {
        let story = Story::begin(name, plot);
        let (issued, replayed, since) = (0, 0, Instant::now());
        let mut scene = Self { world, name, story, cache, load, issued, replayed, since };
        scene.count_from_here();
        scene
    }

    /// Makes one call, so that there is a token; the phase begins after it.
    pub(crate) async fn warm_up(&mut self) -> Result<(), BoxError> {
        let outcomes = self.load.at_once(1).await?.outcomes().await;
        if let Some(failure) = outcomes.into_iter().find_map(|outcome| outcome.failure) {
            return Err(format!("{}: the call before it failed: {failure}", self.name).into());
        }
        self.count_from_here();
        Ok(())
    }

    pub(crate) fn tell(&self, event: &str) {
        self.story.tell(event);
    }

    /// Waits until no flight is under way: the next phase is to count its own only.
    pub(crate) async fn settle(&self) {
        if let Some(cache) = &self.cache {
            let mut status = cache.subscribe();
            while status.next().await.is_some_and(|status| status.is_fetching()) {}
        }
    }

    /// The phase is over, and has settled.
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
