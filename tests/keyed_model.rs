//! Any interleaving of requests, answers, rejections, evictions, forgets and time, against a plain
//! model of the promises: no token answers for another key, nothing of a forgotten key is
//! published, and nobody waits for ever.
//!
//! `PROPTEST_CASES=100000 cargo test --all-features --test keyed_model` runs more of them; a failing
//! case is printed as the smallest one that fails.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use proptest::{collection::vec, prelude::*, sample::Index, test_runner::RngSeed};
use tokio::{
    sync::oneshot,
    task::{JoinHandle, yield_now},
    time::advance,
};
use tower_bearer::{
    AccessToken, KeyedTokenCache, RefreshPolicy, Rejection, Subject, TokenCache, TokenError,
    TokenKey, TokenRequest, from_fn,
};

const KEYS: usize = 6;

/// Two scopes of each of two users, and the program's own of two scopes.
fn key(nth: usize) -> TokenKey {
    let scoped = TokenKey::new().scope(["a", "b"][nth % 2]);
    match subject(nth) {
        Some(subject) => scoped.on_behalf_of(subject),
        None => scoped,
    }
}

fn subject(nth: usize) -> Option<Subject> {
    let user = *["ann", "bob"].get(nth / 2)?;
    Some(Subject::new(AccessToken::new(user).unwrap()))
}

fn number(key: &TokenKey) -> usize {
    (0..KEYS).find(|nth| self::key(*nth) == *key).expect("one of the keys")
}

#[derive(Clone, Debug)]
enum Step {
    Ask { key: usize },
    Refresh { key: usize },
    Reject { key: usize, token: Index },
    Keep { key: usize },
    Drop { caller: Index },
    Answer { fetch: Index, answer: Answer },
    Forget { key: usize },
    ForgetSubject { key: usize },
    Pass { millis: u64 },
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Token {
        lifetime: Option<u64>,
    },
    Transient,
    Permanent,
    /// The same token as the last one of that key.
    Same,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..KEYS;
    prop_oneof![
        8 => key.clone().prop_map(|key| Step::Ask { key }),
        1 => key.clone().prop_map(|key| Step::Refresh { key }),
        3 => (key.clone(), any::<Index>()).prop_map(|(key, token)| Step::Reject { key, token }),
        1 => key.clone().prop_map(|key| Step::Keep { key }),
        2 => any::<Index>().prop_map(|caller| Step::Drop { caller }),
        8 => (any::<Index>(), answer()).prop_map(|(fetch, answer)| Step::Answer { fetch, answer }),
        2 => key.clone().prop_map(|key| Step::Forget { key }),
        1 => key.prop_map(|key| Step::ForgetSubject { key }),
        4 => prop_oneof![0..2_000_u64, 0..100_000_u64].prop_map(|millis| Step::Pass { millis }),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        6 => proptest::option::of(0..200_u64).prop_map(|lifetime| Answer::Token { lifetime }),
        1 => Just(Answer::Transient),
        1 => Just(Answer::Permanent),
        1 => Just(Answer::Same),
    ]
}

// ===== The world =====

/// A fetch that waits for its answer.
struct Fetch {
    key: usize,
    nth: u64,
    reply: oneshot::Sender<Result<AccessToken, TokenError>>,
}

/// A caller that waits for a token.
struct Caller {
    key: usize,
    /// How many fetches there were when it asked, and how many when its key was last forgotten.
    forgotten_at: u64,
    task: JoinHandle<Result<AccessToken, TokenError>>,
}

#[derive(Default)]
struct Fetches {
    pending: Vec<Fetch>,
    started: u64,
}

struct World {
    tokens: KeyedTokenCache,
    fetches: Arc<Mutex<Fetches>>,
    capacity: usize,
    callers: Vec<Caller>,
    /// The tokens that were seen, by key.
    seen: HashMap<usize, Vec<AccessToken>>,
    /// How many fetches had started when a key was last forgotten: their tokens are gone.
    forgotten_at: [u64; KEYS],
    /// Handles that were taken.
    handles: Vec<(usize, TokenCache)>,
}

/// A token says for which key and by which fetch it was made.
fn token(key: usize, nth: u64) -> AccessToken {
    AccessToken::new(format!("{key}/{nth}")).unwrap()
}

fn made_for(token: &AccessToken) -> (usize, u64) {
    let (key, nth) = token.secret().split_once('/').unwrap();
    (key.parse().unwrap(), nth.parse().unwrap())
}

async fn settle() {
    for _ in 0..30 {
        yield_now().await;
    }
}

impl World {
    fn new(capacity: usize) -> Self {
        let fetches = Arc::<Mutex<Fetches>>::default();
        let log = Arc::clone(&fetches);
        let source = from_fn(move |request: TokenRequest| {
            let (reply, answer) = oneshot::channel();
            let mut fetches = log.lock().unwrap();
            fetches.started += 1;
            let (key, nth) = (number(request.key().unwrap()), fetches.started);
            fetches.pending.push(Fetch { key, nth, reply });
            async { answer.await.map_err(|_| TokenError::transient("no answer"))? }
        });
        let policy = RefreshPolicy::builder().build().unwrap();
        let tokens = KeyedTokenCache::builder(source).capacity(capacity).policy(policy);
        Self {
            tokens: tokens.build().unwrap(),
            fetches,
            capacity,
            callers: Vec::new(),
            seen: HashMap::new(),
            forgotten_at: [0; KEYS],
            handles: Vec::new(),
        }
    }

    async fn take(&mut self, step: &Step) {
        match step {
            Step::Ask { key } => {
                let (tokens, asked) = (self.tokens.clone(), self::key(*key));
                self.asks(*key, async move { tokens.get(&asked).await });
            }
            Step::Refresh { key } => {
                let cache = self.tokens.cache(&self::key(*key));
                self.asks(*key, async move { cache.refresh().await });
            }
            Step::Reject { key, token } => {
                let Some(seen) = self.seen.get(key) else { return };
                let rejection = Rejection::new(token.get(seen).clone());
                let cache = self.tokens.cache(&self::key(*key));
                self.asks(*key, async move { cache.renew(rejection).await });
            }
            Step::Keep { key } => {
                let cache = self.tokens.cache(&self::key(*key));
                self.handles.push((*key, cache));
            }
            Step::Drop { caller } if !self.callers.is_empty() => {
                let caller = caller.index(self.callers.len());
                self.callers.swap_remove(caller).task.abort();
            }
            Step::Drop { .. } => {}
            Step::Answer { fetch, answer } => {
                let pending = &mut self.fetches.lock().unwrap().pending;
                if !pending.is_empty() {
                    let fetch = pending.swap_remove(fetch.index(pending.len()));
                    let last = self.seen.get(&fetch.key).and_then(|seen| seen.last());
                    answer_with(fetch, *answer, last);
                }
            }
            Step::Forget { key } => {
                self.tokens.forget(&self::key(*key));
                self.forgot(|nth| nth == *key);
            }
            Step::ForgetSubject { key } => {
                if let Some(gone) = subject(*key) {
                    self.tokens.forget_subject(&gone);
                    self.forgot(|nth| subject(nth).as_ref() == Some(&gone));
                }
            }
            Step::Pass { millis } => advance(Duration::from_millis(*millis)).await,
        }
        settle().await;
        self.check().await;
    }

    fn asks(
        &mut self,
        key: usize,
        asks: impl Future<Output = Result<AccessToken, TokenError>> + Send + 'static,
    ) {
        let task = tokio::spawn(asks);
        self.callers.push(Caller { key, forgotten_at: self.forgotten_at[key], task });
    }

    fn forgot(&mut self, is_meant: impl Fn(usize) -> bool) {
        let started = self.fetches.lock().unwrap().started;
        for nth in (0..KEYS).filter(|nth| is_meant(*nth)) {
            self.forgotten_at[nth] = started;
            self.seen.remove(&nth);
        }
    }

    /// What must hold at any time.
    async fn check(&mut self) {
        let mut waiting = Vec::new();
        for caller in self.callers.drain(..) {
            if !caller.task.is_finished() {
                waiting.push(caller);
                continue;
            }
            let Ok(token) = caller.task.await.unwrap() else { continue };
            let (key, nth) = made_for(&token);
            assert_eq!(key, caller.key, "a token answers for another key");
            assert!(nth > caller.forgotten_at, "a token was forgotten before it was asked for");
            if nth > self.forgotten_at[key] {
                self.seen.entry(key).or_default().push(token);
            }
        }
        self.callers = waiting;

        for (key, handle) in &self.handles {
            let Some(token) = handle.current() else { continue };
            let (made_for, nth) = made_for(&token);
            assert_eq!(made_for, *key);
            assert!(nth > self.forgotten_at[*key], "what is forgotten is published");
        }
    }

    /// No caller waits for ever, even if an answer never comes.
    async fn end(mut self) {
        for _ in 0..20 {
            advance(Duration::from_secs(10)).await;
            settle().await;
            self.check().await;
        }
        assert!(self.callers.is_empty(), "{} still wait", self.callers.len());
        self.fetches.lock().unwrap().pending.clear();
        settle().await;
        drop(self.tokens.cache(&TokenKey::new().scope("another")));
        assert!(self.tokens.len() <= self.capacity, "{} keys are kept", self.tokens.len());
    }
}

fn answer_with(fetch: Fetch, answer: Answer, last: Option<&AccessToken>) {
    let new = token(fetch.key, fetch.nth);
    let answer = match answer {
        Answer::Token { lifetime: None } => Ok(new),
        Answer::Token { lifetime: Some(lifetime) } => {
            Ok(new.with_lifetime(Duration::from_secs(lifetime)))
        }
        Answer::Transient => Err(TokenError::transient("busy")),
        Answer::Permanent => Err(TokenError::permanent("no")),
        Answer::Same => Ok(last.cloned().unwrap_or(new)),
    };
    // It may have been given up.
    drop(fetch.reply.send(answer));
}

proptest! {
    // The same histories each time; `PROPTEST_CASES` and `PROPTEST_RNG_SEED` make others.
    #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    #[test]
    fn no_token_answers_for_another_key_and_nobody_waits_for_ever(
        capacity in 1..4_usize,
        steps in vec(step(), 1..80),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut world = World::new(capacity);
            for step in &steps {
                world.take(step).await;
            }
            world.end().await;
        });
    }
}
