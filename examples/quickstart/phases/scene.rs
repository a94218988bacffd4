//! What every phase of the demonstration has: the two services, a client stack of its own, and
//! the counts from before.

use futures_util::StreamExt;
use tower_bearer::{BoxError, RefreshPolicy, TokenCache};

use crate::{
    api::Api,
    load::{Load, Outcome},
    report::{Phase, Story},
    stack::{local_cache, local_client, stack},
    token_service::TokenService,
};

/// The two services, which all phases share.
pub(crate) struct World {
    pub(crate) tokens: TokenService,
    pub(crate) api: Api,
}

pub(crate) struct Scene<'a> {
    world: &'a World,
    name: &'static str,
    story: Story,
    cache: TokenCache,
    pub(crate) load: Load,
    /// The counts when the phase began.
    issued: u64,
    replayed: u64,
}

impl World {
    pub(crate) async fn start() -> Result<Self, BoxError> {
        let tokens = TokenService::start().await?;
        let api = Api::start(tokens.clone()).await?;
        Ok(Self { tokens, api })
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
        let mut scene = Self {
            world,
            name,
            story: Story::begin(name, plot),
            cache,
            load: Load::echo(stack, world.api.uri(), name),
            issued: 0,
            replayed: 0,
        };
        scene.count_from_here();
        Ok(scene)
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

    /// The phase is over, as soon as no flight is under way: the next phase is to count its
    /// own only.
    pub(crate) async fn close(&self, outcomes: &[Outcome]) -> Phase {
        let mut status = self.cache.subscribe();
        while status.next().await.is_some_and(|status| status.is_fetching()) {}
        let fetches = self.world.tokens.counts().issued - self.issued;
        let replays = self.world.api.counts().replayed - self.replayed;
        Phase::new(self.name, outcomes, fetches, replays)
    }

    fn count_from_here(&mut self) {
        self.issued = self.world.tokens.counts().issued;
        self.replayed = self.world.api.counts().replayed;
    }
}
