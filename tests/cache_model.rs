//! Any sequence of callers, answers, rejections, acceptances, time, and runtimes that come and go,
//! against what is promised of a whole cache.
//!
//! `PROPTEST_CASES=1000000 cargo test --release --all-features --test cache_model` runs more of them; a
//! failing sequence is printed as the smallest one that fails.
//!
//! Time is paused, on every runtime, and they are set by one clock. On one that nobody drives it
//! stands still.
#![allow(missing_docs)]

use std::{
    future::pending,
    panic::{resume_unwind, set_hook, take_hook},
    sync::{Arc, Mutex, MutexGuard, Once},
    time::Duration,
};

use futures_util::FutureExt;
use proptest::{collection::vec, option, prelude::*, sample::Index, test_runner::RngSeed};
use tokio::{
    runtime::{Builder, Runtime},
    sync::oneshot,
    task::{JoinHandle, yield_now},
    time::{Instant, advance, sleep},
};
use tower_bearer::{
    AccessToken, Origin, Reason, RefreshPolicy, Rejection, Status, TokenCache, TokenError,
    TokenRequest, from_fn,
};

const S: Duration = Duration::from_secs(1);
/// How long a flight may take, and a caller may wait.
const LOST: Duration = Duration::from_secs(31);

// ===== What is generated =====

#[derive(Clone, Debug)]
struct History {
    attempts: u32,
    keep_warm: bool,
    /// Of everything that the cache draws lots for.
    seed: u64,
    steps: Vec<Step>,
}

#[derive(Clone, Debug)]
enum Step {
    Ask,
    Refresh,
    Renew {
        token: Index,
        place: usize,
    },
    Reject {
        token: Index,
        place: usize,
    },
    Accept {
        token: Index,
        place: usize,
    },
    Drop {
        caller: Index,
    },
    Answer {
        call: Option<Index>,
        answer: Answer,
    },
    KeepWarm,
    WarmUp,
    Status,
    /// From one timer to the next, or in one jump.
    Pass {
        millis: u64,
        jumps: bool,
    },
    /// Another runtime is driven from now on, and this one no longer.
    Switch,
    /// The runtime that nobody drives goes, or else the one that is driven.
    Shutdown,
    /// Something is asked where there is no timer.
    Bare {
        what: u8,
        token: Index,
    },
}

#[derive(Clone, Debug)]
enum Answer {
    Token { lifetime: Option<u64> },
    Again { token: Index },
    Transient { retry_after: Option<u64> },
    Permanent,
    Panic,
}

fn history() -> impl Strategy<Value = History> {
    let steps = vec(step(), 1..20);
    (prop_oneof![Just(1_u32), Just(3)], proptest::bool::weighted(0.25), any::<u64>(), steps)
        .prop_map(|(attempts, keep_warm, seed, steps)| History { attempts, keep_warm, seed, steps })
}

fn step() -> impl Strategy<Value = Step> {
    let token = any::<Index>();
    let at = (token.clone(), 0..4_usize);
    let time = prop_oneof![0..2_000_u64, 0..40_000_u64, 0..100_000_u64];
    prop_oneof![
        7 => Just(Step::Ask),
        1 => Just(Step::Refresh),
        4 => at.clone().prop_map(|(token, place)| Step::Renew { token, place }),
        2 => at.clone().prop_map(|(token, place)| Step::Reject { token, place }),
        2 => at.prop_map(|(token, place)| Step::Accept { token, place }),
        2 => any::<Index>().prop_map(|caller| Step::Drop { caller }),
        8 => (option::weighted(0.2, any::<Index>()), answer())
            .prop_map(|(call, answer)| Step::Answer { call, answer }),
        1 => Just(Step::KeepWarm),
        1 => Just(Step::WarmUp),
        1 => Just(Step::Status),
        5 => (time, any::<bool>()).prop_map(|(millis, jumps)| Step::Pass { millis, jumps }),
        1 => Just(Step::Switch),
        1 => Just(Step::Shutdown),
        1 => (0..4_u8, token).prop_map(|(what, token)| Step::Bare { what, token }),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    let lifetime = prop_oneof![
        4 => (2..200_u64).prop_map(|seconds| Some(seconds * 1000)),
        1 => (0..3000_u64).prop_map(Some),
        1 => Just(None),
    ];
    prop_oneof![
        8 => lifetime.prop_map(|lifetime| Answer::Token { lifetime }),
        2 => any::<Index>().prop_map(|token| Answer::Again { token }),
        2 => option::of(0..10_u64).prop_map(|retry_after| Answer::Transient { retry_after }),
        1 => Just(Answer::Permanent),
        1 => Just(Answer::Panic),
    ]
}

// ===== The source =====

/// What the source was asked, and what it answered.
#[derive(Default)]
struct Desk {
    calls: Vec<Call>,
    tokens: Vec<Minted>,
    /// It answers at once, with good tokens.
    is_open: bool,
    /// The runtime that is driven.
    driven: usize,
}

struct Call {
    called: Instant,
    /// On which runtime.
    runtime: usize,
    reason: Reason,
    rejected: Option<AccessToken>,
    reply: Option<oneshot::Sender<Reply>>,
}

enum Reply {
    Outcome(Result<AccessToken, TokenError>),
    Panic,
}

/// A token, and until when each answer with it may have been used.
struct Minted {
    token: AccessToken,
    expiries: Vec<Option<Instant>>,
    arrived: Instant,
    /// Whether a flight that was not given up may have brought it.
    may_be_current: bool,
}

impl Minted {
    fn may_be_usable(&self, now: Instant) -> bool {
        self.expiries.iter().any(|expiry| expiry.is_none_or(|expiry| now < expiry))
    }

    fn may_be_over(&self, now: Instant) -> bool {
        self.expiries.iter().any(|expiry| expiry.is_some_and(|expiry| expiry <= now))
    }
}

impl Call {
    /// Whether the cache waits for it.
    fn is_awaited(&self) -> bool {
        self.reply.as_ref().is_some_and(|reply| !reply.is_closed())
    }
}

impl Desk {
    /// A new token; it counts from the call, in whole seconds as one less, and ends a little early.
    fn mint(&mut self, called: Instant, lifetime: Option<Duration>) -> AccessToken {
        let token = AccessToken::new(format!("t{}", self.tokens.len())).unwrap();
        let token = lifetime.into_iter().fold(token, AccessToken::with_lifetime);
        let expiries = vec![expiry(called, lifetime)];
        let minted =
            Minted { token: token.clone(), expiries, arrived: called, may_be_current: true };
        self.tokens.push(minted);
        token
    }

    fn minted_mut(&mut self, token: &AccessToken) -> &mut Minted {
        self.tokens.iter_mut().find(|it| is_same(&it.token, token)).expect("the source made it")
    }

    fn minted(&self, token: &AccessToken) -> &Minted {
        self.tokens.iter().find(|it| is_same(&it.token, token)).expect("the source made it")
    }
}

fn expiry(called: Instant, lifetime: Option<Duration>) -> Option<Instant> {
    let lifetime = lifetime?;
    let is_whole = lifetime.subsec_nanos() == 0;
    let life = if is_whole { lifetime.saturating_sub(S).max(lifetime / 2) } else { lifetime };
    Some(called + life.saturating_sub(life.mul_f64(0.1).min(10 * S)))
}

async fn fetch(desk: Arc<Mutex<Desk>>, request: TokenRequest) -> Result<AccessToken, TokenError> {
    let answer = {
        let mut desk = desk.lock().unwrap();
        let called = Instant::now();
        if desk.is_open {
            return Ok(desk.mint(called, Some(60 * S)));
        }
        let (reply, answer) = oneshot::channel();
        let runtime = desk.driven;
        desk.calls.push(Call {
            called,
            runtime,
            reason: request.reason(),
            rejected: request.rejected().cloned(),
            reply: Some(reply),
        });
        answer
    };
    match answer.await {
        Ok(Reply::Outcome(outcome)) => {
            let token = outcome?;
            desk.lock().unwrap().minted_mut(&token).arrived = Instant::now();
            Ok(token)
        }
        // Without the message of a panic, of which there are many.
        Ok(Reply::Panic) => resume_unwind(Box::new("the source panics")),
        Err(_) => pending().await,
    }
}

// ===== The world =====

struct Caller {
    asks: Asks,
    asked: Instant,
    /// Whether it has not waited yet.
    is_new: bool,
    /// Where it waits.
    runtime: usize,
    task: JoinHandle<(Instant, Result<AccessToken, TokenError>)>,
}

enum Asks {
    Get,
    Refresh,
    Renew(AccessToken),
}

struct World {
    cache: TokenCache,
    desk: Arc<Mutex<Desk>>,
    attempts: u32,
    is_kept_warm: bool,
    /// Whether a first token was asked for.
    is_warmed_up: bool,
    now: Instant,
    /// By when they were made. `None`: it is gone.
    runtimes: Vec<Option<Runtime>>,
    /// One that is not driven.
    other: Option<usize>,
    callers: Vec<Caller>,
    current: Option<AccessToken>,
    /// Until then nothing is fetched, at least.
    cools_until: Instant,
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

fn is_same(one: &AccessToken, other: &AccessToken) -> bool {
    one.secret() == other.secret()
}

/// Lets everything that can run do so, without time passing.
async fn settle() {
    for _ in 0..8 {
        yield_now().await;
    }
}

fn origin(place: usize) -> Option<Origin> {
    (place < 3).then(|| format!("https://{place}.example").parse().unwrap())
}

fn rejection(token: &AccessToken, place: usize) -> Rejection {
    let rejection = Rejection::new(token.clone());
    origin(place).into_iter().fold(rejection, Rejection::with_origin)
}

impl World {
    fn new(history: &History) -> Self {
        fastrand::seed(history.seed);
        let desk = Arc::<Mutex<Desk>>::default();
        let source = Arc::clone(&desk);
        let policy = RefreshPolicy::builder()
            .attempts(history.attempts)
            .keep_warm(history.keep_warm)
            .build()
            .unwrap();
        let first = runtime();
        let (cache, now) = first.block_on(async {
            // Any other runtime is behind at first, and can be set.
            advance(100_000 * S).await;
            let source = from_fn(move |request| fetch(Arc::clone(&source), request));
            (TokenCache::with_policy(source, policy), Instant::now())
        });
        Self {
            cache,
            desk,
            attempts: history.attempts,
            is_kept_warm: history.keep_warm,
            is_warmed_up: false,
            now,
            runtimes: vec![Some(first)],
            other: None,
            callers: Vec::new(),
            current: None,
            cools_until: now,
        }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap()
    }

    /// Does it on the runtime that is driven, and then all that comes of it.
    fn drive<T>(&mut self, work: impl AsyncFnOnce() -> T) -> T {
        let before = self.now;
        let (done, now) = self.driven().block_on(async move {
            let behind = before - Instant::now();
            if !behind.is_zero() {
                advance(behind).await;
                settle().await;
            }
            let done = work().await;
            settle().await;
            (done, Instant::now())
        });
        self.now = now;
        done
    }

    fn asks(
        &mut self,
        asks: Asks,
        future: impl Future<Output = Result<AccessToken, TokenError>> + Send + 'static,
    ) {
        let (asked, runtime) = (self.now, self.desk().driven);
        let answered = async {
            let outcome = future.await;
            (Instant::now(), outcome)
        };
        let task = self.drive(async || tokio::spawn(answered));
        self.callers.push(Caller { asks, asked, is_new: true, runtime, task });
    }

    fn token(&self, token: Index) -> Option<AccessToken> {
        let desk = self.desk();
        (!desk.tokens.is_empty()).then(|| token.get(&desk.tokens).token.clone())
    }

    fn take(&mut self, step: &Step) {
        let (before, calls, from) = (self.status(), self.desk().calls.len(), self.now);
        match step {
            Step::Ask => {
                let cache = self.cache.clone();
                self.asks(Asks::Get, async move { cache.get().await });
            }
            Step::Refresh => {
                let cache = self.cache.clone();
                self.asks(Asks::Refresh, async move { cache.refresh().await });
            }
            Step::Renew { token, place } => {
                let Some(token) = self.token(*token) else { return };
                let (cache, rejection) = (self.cache.clone(), rejection(&token, *place));
                self.asks(Asks::Renew(token), async move { cache.renew(rejection).await });
            }
            Step::Reject { token, place } => {
                let Some(token) = self.token(*token) else { return };
                let cache = self.cache.clone();
                self.drive(async || cache.reject(rejection(&token, *place)));
            }
            Step::Accept { token, place } => {
                let Some(token) = self.token(*token) else { return };
                self.cache.accepted(&token, origin(*place).as_ref());
            }
            Step::Drop { caller } => {
                if !self.callers.is_empty() {
                    let caller = caller.index(self.callers.len());
                    self.callers.swap_remove(caller).task.abort();
                }
            }
            Step::Answer { call, answer } => self.answer(*call, answer, before.is_fetching()),
            Step::KeepWarm => {
                let cache = self.cache.clone();
                self.is_kept_warm = true;
                self.drive(async || cache.keep_warm());
            }
            Step::WarmUp => {
                let cache = self.cache.clone();
                self.is_warmed_up = true;
                self.drive(async || cache.warm_up());
            }
            Step::Status => {
                let cache = self.cache.clone();
                self.drive(async || drop(cache.status()));
            }
            Step::Pass { millis, jumps } => {
                let time = Duration::from_millis(*millis);
                self.drive(async || if *jumps { advance(time).await } else { sleep(time).await });
            }
            Step::Switch => self.switch(),
            Step::Shutdown => self.shutdown(),
            Step::Bare { what, token } => self.bare(*what, self.token(*token)),
        }
        let flights = self.status().flights() - before.flights();
        self.check_budget(step, &before, flights, from);
        self.check_calls(calls);
        self.check_current();
        self.check_callers();
    }

    fn answer(&mut self, call: Option<Index>, answer: &Answer, is_fetching: bool) {
        let mut guard = self.desk();
        let desk = &mut *guard;
        let Some(newest) = desk.calls.len().checked_sub(1) else { return };
        let nth = call.map_or(newest, |call| call.index(newest + 1));
        let call = &mut desk.calls[nth];
        let (called, is_awaited) = (call.called, call.is_awaited());
        let is_under_way = is_awaited && nth == newest;
        let arrives = is_under_way && is_fetching && call.runtime == desk.driven;
        let Some(reply) = call.reply.take() else { return };
        let mut brought = None;
        let mut pause = Duration::ZERO;
        let outcome = match answer {
            Answer::Token { lifetime } => {
                let token = desk.mint(called, lifetime.map(Duration::from_millis));
                desk.tokens.last_mut().unwrap().may_be_current = is_under_way;
                brought = Some(token.clone());
                Ok(token)
            }
            Answer::Again { token } if !desk.tokens.is_empty() => {
                let nth = token.index(desk.tokens.len());
                let minted = &mut desk.tokens[nth];
                minted.expiries.push(expiry(called, Some(50 * S)));
                minted.may_be_current |= is_under_way;
                let token = minted.token.clone().with_lifetime(50 * S);
                brought = Some(token.clone());
                Ok(token)
            }
            Answer::Again { .. } | Answer::Transient { retry_after: None } => {
                pause = if self.attempts == 1 { S.mul_f64(0.8) } else { Duration::ZERO };
                Err(TokenError::transient("busy"))
            }
            Answer::Transient { retry_after: Some(seconds) } => {
                let asked = Duration::from_secs(*seconds);
                pause = if *seconds > 2 { asked } else { Duration::ZERO };
                Err(TokenError::transient("busy").with_retry_after(asked))
            }
            Answer::Permanent => {
                pause = 24 * S;
                Err(TokenError::permanent("no"))
            }
            Answer::Panic => {
                drop(reply.send(Reply::Panic));
                drop(guard);
                return self.drive(async || ());
            }
        };
        let _sent = reply.send(Reply::Outcome(outcome));
        drop(guard);
        self.drive(async || ());
        if arrives {
            self.cools_until = self.now + pause;
        }
        let Some(token) = brought.filter(|_| arrives) else { return };
        let is_usable = expiry(called, token.lifetime()).is_none_or(|expiry| self.now < expiry);
        let current = self.current();
        let is_current = current.is_some_and(|current| is_same(&current, &token));
        assert!(is_current || !is_usable, "a valid token is lost");
    }

    fn switch(&mut self) {
        let other = self.other.unwrap_or_else(|| self.add_runtime());
        let driven = std::mem::replace(&mut self.desk().driven, other);
        self.other = Some(driven);
        self.drive(async || ());
    }

    fn shutdown(&mut self) {
        if self.other.is_none() {
            self.switch();
        }
        let gone = self.other.take().and_then(|other| self.runtimes[other].take());
        self.on_its_clock(|_| drop(gone));
        self.drive(async || ());
    }

    fn bare(&mut self, what: u8, token: Option<AccessToken>) {
        let bare = Builder::new_current_thread().start_paused(true).build().unwrap();
        let (cache, now) = (self.cache.clone(), self.now);
        bare.block_on(async move {
            advance(now - Instant::now()).await;
            match (what, token) {
                (0, Some(token)) => {
                    let renewed = cache.renew(rejection(&token, 0)).now_or_never();
                    let renewed = renewed.expect("there is nothing to wait with");
                    assert!(renewed.is_err() || renewed.is_ok_and(|it| !is_same(&it, &token)));
                }
                (1, Some(token)) => cache.reject(rejection(&token, 0)),
                (2, _) => cache.warm_up(),
                _ => {
                    let token = cache.get().now_or_never().expect("there is nothing to wait with");
                    let has_none = cache.current().is_none();
                    assert!(token.is_ok() || has_none, "an error where there is a token");
                }
            }
        });
        self.is_warmed_up |= what == 2;
        self.drive(async || ());
    }

    fn add_runtime(&mut self) -> usize {
        self.runtimes.push(Some(runtime()));
        self.runtimes.len() - 1
    }

    // ===== What must hold after each step =====

    /// Each flight has a cause.
    fn check_budget(&self, step: &Step, before: &Status, flights: u64, from: Instant) {
        let is_due = before.due().is_some_and(|due| due <= self.now);
        let is_good = before.has_token() && !before.is_suspect() && !is_due;
        let caused = match step {
            Step::Ask => u64::from(!is_good),
            Step::Accept { .. }
            | Step::Drop { .. }
            | Step::KeepWarm
            | Step::WarmUp
            | Step::Status
            | Step::Pass { .. } => 0,
            // A caller gets a token, or a caller of the rejected token renews it.
            _ => 1,
        };
        let is_warm = self.is_kept_warm || self.is_warmed_up;
        let background = if is_warm { (self.now - from).as_secs() + 1 } else { 0 };
        assert!(flights <= caused + background, "{flights} flights");
    }

    /// One flight at a time, and none in a cooldown.
    fn check_calls(&self, before: usize) {
        let desk = self.desk();
        let given_up_after = if self.attempts == 1 { LOST } else { S };
        for (nth, call) in desk.calls.iter().enumerate().skip(before) {
            for earlier in desk.calls[..nth].iter().filter(|call| call.is_awaited()) {
                assert!(call.called - earlier.called >= given_up_after, "two at a time");
            }
            assert!(call.called >= self.cools_until, "a fetch in a cooldown");
        }
    }

    /// No valid token is lost, and none that has expired is used, or that a flight brought which was
    /// given up.
    fn check_current(&mut self) {
        let current = self.current();
        let desk = self.desk.lock().unwrap();
        match (&self.current, &current) {
            (_, Some(current)) => {
                let minted = desk.minted(current);
                assert!(minted.may_be_usable(self.now), "it has expired");
                assert!(minted.may_be_current, "it came from a flight that was given up");
            }
            (Some(before), None) => {
                assert!(desk.minted(before).may_be_over(self.now), "a valid token is lost");
            }
            (None, None) => {}
        }
        drop(desk);
        self.current = current;
    }

    /// No caller waits for ever, and each answer is what is promised.
    fn check_callers(&mut self) {
        let driven = self.desk().driven;
        for caller in std::mem::take(&mut self.callers) {
            if caller.task.is_finished() {
                match caller.task.now_or_never().expect("it is finished") {
                    Ok((at, outcome)) => {
                        self.check_outcome(
                            &caller.asks,
                            caller.is_new,
                            [caller.asked, at],
                            outcome,
                        );
                    }
                    // Its runtime is gone.
                    Err(error) => assert!(error.is_cancelled(), "a caller panics: {error}"),
                }
            } else {
                let has_waited = self.now - caller.asked;
                assert!(caller.runtime != driven || has_waited <= LOST, "it waits for ever");
                self.callers.push(Caller { is_new: false, ..caller });
            }
        }
    }

    fn check_outcome(
        &self,
        asks: &Asks,
        is_new: bool,
        [asked, at]: [Instant; 2],
        outcome: Result<AccessToken, TokenError>,
    ) {
        let Ok(token) = outcome else {
            let is_get = matches!(asks, Asks::Get) && at == self.now;
            assert!(!is_get || self.current.is_none(), "an error where there is a token");
            return;
        };
        let is_fetching = self.status().is_fetching();
        let desk = self.desk();
        let minted = desk.minted(&token);
        // A token that is expired on arrival is for the callers that waited for it.
        assert!(minted.may_be_usable(at) || minted.arrived >= asked, "it has expired");
        match asks {
            Asks::Renew(rejected) => assert!(!is_same(&token, rejected), "it was rejected"),
            Asks::Get if is_new => {
                let is_being_replaced = desk.calls.last().is_some_and(|call| {
                    let rejected = call.rejected.as_ref().is_some_and(|it| is_same(it, &token));
                    call.reason == Reason::Rejected && call.is_awaited() && rejected
                });
                assert!(!is_fetching || !is_being_replaced, "a suspect token is used");
            }
            Asks::Get | Asks::Refresh => {}
        }
    }

    /// Every failure ends, a cache that is kept warm has a token, and no task is left.
    fn end(mut self) {
        // A keeper on a runtime that nobody drives keeps its place until that one goes.
        self.shutdown();
        self.desk().is_open = true;
        drop(self.status());
        self.drive(async || sleep(400 * S).await);
        // There may have been others since.
        self.current = None;
        self.check_current();
        self.check_callers();
        let driven = self.desk().driven;
        assert!(self.callers.iter().all(|caller| caller.runtime != driven), "it waits for ever");
        if self.is_kept_warm {
            assert!(self.current.is_some(), "it is cold");
        }
        let cache = self.cache.clone();
        self.drive(async || cache.get().await).expect("no failure is for ever");
        let before = self.status().flights();
        self.drive(async || sleep(300 * S).await);
        let flights = self.status().flights() - before;
        let expires = self.status().expiry().is_some();
        if self.is_kept_warm && expires {
            assert!((3..=300).contains(&flights), "{flights} flights keep it warm");
            assert!(self.current().is_some(), "it is cold");
        } else {
            assert_eq!(flights, 0, "an idle cache fetches nothing");
        }
        self.callers.clear();
        drop(cache);
        let Self { cache, runtimes, .. } = self;
        let on = runtimes.into_iter().nth(driven).flatten().expect("it is there");
        drop(cache);
        on.block_on(settle());
        assert_eq!(on.metrics().num_alive_tasks(), 0, "a task is left");
    }

    fn driven(&self) -> &Runtime {
        let driven = self.desk().driven;
        self.runtimes[driven].as_ref().expect("it is there")
    }

    fn status(&self) -> Status {
        self.on_its_clock(TokenCache::status)
    }

    fn current(&self) -> Option<AccessToken> {
        self.on_its_clock(TokenCache::current)
    }

    fn on_its_clock<T>(&self, look: impl FnOnce(&TokenCache) -> T) -> T {
        let _inside = self.driven().enter();
        look(&self.cache)
    }
}

/// The cache finds out by a panic that there is no timer: tokio has no question for that.
fn hide_panics_about_timers() {
    static HIDE: Once = Once::new();
    HIDE.call_once(|| {
        let hook = take_hook();
        set_hook(Box::new(move |panic| {
            let about_timers = panic.to_string().contains("timers are disabled");
            if !about_timers {
                hook(panic);
            }
        }));
    });
}

proptest! {
    // The same sequences each time; `PROPTEST_CASES` and `PROPTEST_RNG_SEED` make others.
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_a_cache_does_what_is_promised(history in history()) {
        hide_panics_about_timers();
        let mut world = World::new(&history);
        for step in &history.steps {
            world.take(step);
        }
        world.end();
    }
}
