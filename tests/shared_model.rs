//! Fleets of any size over a store that does anything but what it should, with processes that end
//! at any moment: what must hold of every history.
//!
//! A process that has ended is one whose calls of the store and of the token service never return.
//! Time is paused, and each call waits before and after it takes effect, so that a process can end
//! at each of its awaits.
#![allow(missing_docs)]

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use futures_util::future::join_all;
use proptest::{prelude::*, test_runner::RngSeed};
use tokio::time::{Instant, sleep, timeout};
use tower_bearer::{
    AccessToken, Reason, TokenError, TokenRequest, TokenSource,
    shared::{Loaded, Seal, Shared, SharedError, StoreError, Swapped, TokenStore, Version},
};

const LEASE: Duration = Duration::from_secs(30);
/// Of an access token, in seconds.
const LIFE: u64 = 60;
/// How long a history takes.
const END: Duration = Duration::from_secs(300);
/// No caller waits longer: three leases and an attempt.
const BOUND: Duration = Duration::from_secs(3 * 30 + 60);

// ===== What is generated =====

/// What becomes of one call of the store.
#[derive(Clone, Copy, Debug)]
struct Call {
    before: u64,
    after: u64,
    fault: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// It fails, and nothing has happened.
    Refused,
    /// It has happened, and nobody is told.
    Lost,
    /// It happens seconds later, when nobody waits for it.
    Late,
    /// It happens twice.
    Twice,
}

#[derive(Clone, Debug)]
struct History {
    rotates: bool,
    /// Seconds at which each process ends and another begins in its place.
    ends: Vec<Option<u64>>,
    calls: Vec<Call>,
    /// Milliseconds that the token service takes before and after it does something.
    exchanges: Vec<(u64, u64)>,
    /// Pauses in seconds, and what is asked for then.
    asks: Vec<(u64, u8)>,
    /// From when until when the store is away, in seconds.
    away: Option<(u64, u64)>,
    /// When it forgets everything, in seconds.
    emptied: Option<u64>,
    /// By how many seconds the store's clock is off.
    clock: i64,
    /// Of everything that processes draw lots for.
    seed: u64,
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        16 => Just(Fault::None),
        1 => Just(Fault::Refused),
        1 => Just(Fault::Lost),
        1 => Just(Fault::Late),
        1 => Just(Fault::Twice),
    ]
}

fn history(
    faults: impl Strategy<Value = Fault>,
    away: impl Strategy<Value = Option<(u64, u64)>>,
    emptied: impl Strategy<Value = Option<u64>>,
) -> impl Strategy<Value = History> {
    let call = (0..120_u64, 0..120_u64, faults);
    let call = call.prop_map(|(before, after, fault)| Call { before, after, fault });
    let end = proptest::option::weighted(0.4, 0..200_u64);
    (
        any::<bool>(),
        proptest::collection::vec(end, 1..7),
        proptest::collection::vec(call, 1..60),
        proptest::collection::vec((0..1500_u64, 0..1500_u64), 1..20),
        proptest::collection::vec((0..40_u64, any::<u8>()), 1..40),
        away,
        emptied,
        (-3600..3600_i64, any::<u64>()),
    )
        .prop_map(|(rotates, ends, calls, exchanges, asks, away, emptied, (clock, seed))| {
            History { rotates, ends, calls, exchanges, asks, away, emptied, clock, seed }
        })
}

// ===== The world =====

struct World {
    history: History,
    began: Instant,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    records: HashMap<String, (u64, Vec<u8>)>,
    versions: u64,
    calls: usize,
    exchanges: usize,
    ended: HashSet<usize>,
    /// Of each name, the refresh token that the service takes.
    newest: HashMap<String, String>,
    /// Who sent a refresh token first.
    sent: HashMap<String, usize>,
    revoked: HashSet<String>,
    /// What must not happen and did.
    broken: Vec<String>,
}

impl World {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    fn now(&self) -> SystemTime {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let offset = Duration::from_secs(self.history.clock.unsigned_abs());
        let now = if self.history.clock < 0 { now - offset } else { now + offset };
        now + self.began.elapsed()
    }

    fn is_away(&self) -> bool {
        let now = self.began.elapsed().as_secs();
        self.history.away.is_some_and(|(from, until)| (from..until).contains(&now))
    }

    /// Never returns to a process that has ended.
    async fn alive(&self, process: usize) {
        if self.inner().ended.contains(&process) {
            std::future::pending::<()>().await;
        }
    }
}

#[derive(Clone)]
struct Store {
    world: Arc<World>,
    process: usize,
}

impl Store {
    async fn call<T: Send + 'static>(
        &self,
        act: impl Fn(&World, &mut Inner) -> T + Send + Sync + 'static,
    ) -> Result<T, StoreError> {
        let call = {
            let mut inner = self.world.inner();
            inner.calls += 1;
            self.world.history.calls[inner.calls % self.world.history.calls.len()]
        };
        sleep(Duration::from_millis(call.before)).await;
        self.world.alive(self.process).await;
        if call.fault == Fault::Refused || self.world.is_away() {
            return Err(StoreError::new("refused"));
        }
        if call.fault == Fault::Late {
            let world = Arc::clone(&self.world);
            tokio::spawn(async move {
                sleep(Duration::from_secs(2)).await;
                act(&world, &mut world.inner());
            });
            return std::future::pending().await;
        }
        let answer = act(&self.world, &mut self.world.inner());
        if call.fault == Fault::Twice {
            act(&self.world, &mut self.world.inner());
        }
        sleep(Duration::from_millis(call.after)).await;
        self.world.alive(self.process).await;
        if call.fault == Fault::Lost { Err(StoreError::new("lost")) } else { Ok(answer) }
    }
}

impl TokenStore for Store {
    async fn load(&self, name: &str) -> Result<Loaded, StoreError> {
        let name = name.to_owned();
        self.call(move |world, inner| match inner.records.get(&name) {
            Some((version, sealed)) => {
                Loaded::record(sealed.clone(), Version::new(version.to_le_bytes()), world.now())
            }
            None => Loaded::nothing(world.now()),
        })
        .await
    }

    async fn swap(&self, name: &str, seen: &Version, sealed: &[u8]) -> Result<Swapped, StoreError> {
        let (name, seen, sealed) = (name.to_owned(), seen.clone(), sealed.to_vec());
        self.call(move |_, inner| {
            let current = inner.records.get(&name).map(|(version, _)| version.to_le_bytes());
            if current.as_ref().map(<[u8; 8]>::as_slice) != seen.as_bytes() {
                return Swapped::Conflict;
            }
            inner.versions += 1;
            let version = inner.versions;
            inner.records.insert(name.clone(), (version, sealed.clone()));
            Swapped::Done(Version::new(version.to_le_bytes()))
        })
        .await
    }
}

/// A token service that revokes everything as soon as a refresh token is sent twice.
struct Source {
    world: Arc<World>,
    process: usize,
    name: &'static str,
}

impl Source {
    fn exchange(&self, sent: Option<&str>) -> Result<AccessToken, TokenError> {
        let mut inner = self.world.inner();
        let nth = inner.exchanges;
        let token = AccessToken::new(format!("{}-t-{nth}", self.name)).unwrap();
        let token = token.with_lifetime(Duration::from_secs(LIFE));
        if !self.world.history.rotates {
            return Ok(token);
        }
        let sent = sent.map_or_else(|| format!("{}-configured", self.name), str::to_owned);
        if !sent.starts_with(self.name) {
            inner.broken.push(format!("{sent} was sent for {}", self.name));
        }
        if let Some(first) = inner.sent.insert(sent.clone(), self.process) {
            if !inner.ended.contains(&first) && !inner.revoked.contains(self.name) {
                let process = self.process;
                inner
                    .broken
                    .push(format!("{process} sent {sent} again, and {first} has not ended"));
            }
        }
        let newest = inner.newest.get(self.name);
        if newest.is_some_and(|newest| *newest != sent) || inner.revoked.contains(self.name) {
            inner.revoked.insert(self.name.to_owned());
            return Err(TokenError::permanent("invalid_grant"));
        }
        let new = format!("{}-r-{nth}", self.name);
        inner.newest.insert(self.name.to_owned(), new.clone());
        Ok(token.with_refresh_token(new))
    }
}

impl TokenSource for Source {
    async fn fetch(&self, request: TokenRequest) -> Result<AccessToken, TokenError> {
        let (before, after) = {
            let mut inner = self.world.inner();
            inner.exchanges += 1;
            self.world.history.exchanges[inner.exchanges % self.world.history.exchanges.len()]
        };
        sleep(Duration::from_millis(before)).await;
        self.world.alive(self.process).await;
        let answer = self.exchange(request.previous().and_then(AccessToken::refresh_token));
        sleep(Duration::from_millis(after)).await;
        self.world.alive(self.process).await;
        answer
    }

    fn is_repeatable(&self) -> bool {
        !self.world.history.rotates
    }
}

// ===== A process =====

/// Asks as a cache does, until it ends.
async fn live(world: Arc<World>, process: usize, name: &'static str) {
    let store = Store { world: Arc::clone(&world), process };
    let source = Source { world: Arc::clone(&world), process, name };
    let shared =
        Shared::new(source, store).name(name).seal(Seal::new("01".repeat(32))).lease(LEASE);
    let mut current: Option<AccessToken> = None;
    let mut asks = world.history.asks.iter().cycle().skip(process);
    while world.began.elapsed() < END && !world.inner().ended.contains(&process) {
        let (pause, kind) = asks.next().expect("there is at least one");
        sleep(Duration::from_secs(*pause) + Duration::from_millis(10)).await;
        let request = match (&current, kind % 4) {
            (None, _) => TokenRequest::new(Reason::First),
            (Some(token), 0) => TokenRequest::new(Reason::Rejected)
                .with_previous(token.clone())
                .with_rejected(token.clone()),
            (Some(token), 1) => TokenRequest::new(Reason::Expired).with_previous(token.clone()),
            (Some(token), _) => TokenRequest::new(Reason::Due).with_previous(token.clone()),
        };
        // Some callers do not wait for long.
        let patience =
            if kind / 4 % 4 == 0 { Duration::from_millis(u64::from(*kind)) } else { BOUND };
        let asked = Instant::now();
        let Ok(outcome) = timeout(patience, shared.fetch(request)).await else {
            let mut inner = world.inner();
            if patience == BOUND && !inner.ended.contains(&process) {
                inner.broken.push(format!("{process} has waited for too long"));
            }
            continue;
        };
        match outcome {
            Ok(token) if !token.secret().starts_with(name) => {
                world.inner().broken.push(format!("{name} got {}", token.secret()));
            }
            Ok(token) => {
                // It counts from the call.
                if token.lifetime() > Some(Duration::from_secs(LIFE) + asked.elapsed()) {
                    world.inner().broken.push("a token lives for longer than it did".into());
                }
                current = Some(token);
            }
            Err(error) => {
                let mut inner = world.inner();
                let is_lost =
                    matches!(error.downcast_ref(), Some(SharedError::RefreshTokenLost(_)));
                if is_lost && inner.ended.is_empty() {
                    inner.broken.push("a refresh token is lost, and nobody has ended".into());
                }
            }
        }
    }
}

/// Each process, and another one in the place of each that ends.
async fn fleet(world: Arc<World>) {
    let processes = world.history.ends.clone().into_iter().enumerate().map(|(process, end)| {
        let world = Arc::clone(&world);
        async move {
            let name = if process % 5 == 4 { "invoices" } else { "orders" };
            let first = live(Arc::clone(&world), process, name);
            let second = async {
                let Some(end) = end else { return };
                sleep(Duration::from_secs(end) + Duration::from_millis(137 * process as u64)).await;
                world.inner().ended.insert(process);
                live(Arc::clone(&world), process + 100, name).await;
            };
            // What has ended never returns.
            let first = timeout(2 * END, first);
            drop(futures_util::future::join(first, second).await);
        }
    });
    let empties = async {
        if let Some(at) = world.history.emptied {
            sleep(Duration::from_secs(at)).await;
            world.inner().records.clear();
        }
    };
    futures_util::future::join(join_all(processes), empties).await;
}

/// What was broken in a history.
fn run(history: History) -> Vec<String> {
    fastrand::seed(history.seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let world = World { history, began: Instant::now(), inner: Mutex::default() };
        let world = Arc::new(world);
        fleet(Arc::clone(&world)).await;
        std::mem::take(&mut world.inner().broken)
    })
}

proptest! {
    // The same histories each time; `PROPTEST_CASES` and `PROPTEST_RNG_SEED` make others.
    #![proptest_config(ProptestConfig { cases: 100, max_shrink_time: 20_000, failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_store_answers_nothing_is_spent_twice_unless_a_process_has_ended(
        history in history(fault(), Just(None), Just(None)),
    ) {
        prop_assert_eq!(run(history), Vec::<String>::new());
    }

    #[test]
    fn a_store_that_is_away_or_emptied_lets_nothing_be_spent_twice(
        history in history(
            Just(Fault::None),
            proptest::option::of((10..100_u64, 20..90_u64).prop_map(|(at, time)| (at, at + time))),
            proptest::option::of(10..200_u64),
        ),
        is_emptied_at_a_start: bool,
        is_slow: bool,
    ) {
        let mut history = History { rotates: true, ..history };
        // Often enough that some exchange is under way whenever something happens.
        history.asks.iter_mut().for_each(|(pause, _)| *pause %= 8);
        if is_slow {
            // Longer than a store settles, and within a lease.
            history.exchanges.iter_mut().for_each(|(before, after)| {
                *before *= 8;
                *after *= 8;
            });
        }
        if is_emptied_at_a_start && history.away.is_none() {
            history.emptied = history.ends.iter().copied().flatten().next();
        }
        prop_assert_eq!(run(history), Vec::<String>::new());
    }
}

/// It forgot everything in the second before, while one fetched: what it settled in, it was away.
#[test]
fn a_store_that_is_away_while_it_settles_lets_nothing_be_spent_twice() {
    let call = |(before, after)| Call { before, after, fault: Fault::None };
    // With each of them a token was spent twice once.
    for seed in [261, 265, 272, 300, 387] {
        let history = History {
            rotates: true,
            ends: vec![None, None, Some(33), None, None],
            calls: [(86, 62), (119, 97), (42, 115), (56, 80)].map(call).to_vec(),
            exchanges: vec![
                (370, 868),
                (606, 691),
                (372, 388),
                (740, 1257),
                (1128, 994),
                (310, 1266),
                (504, 310),
                (663, 1473),
                (1114, 1304),
                (165, 1245),
                (350, 1390),
                (185, 29),
            ],
            asks: vec![
                (7, 231),
                (0, 166),
                (1, 4),
                (4, 106),
                (1, 105),
                (5, 75),
                (6, 196),
                (6, 57),
                (5, 209),
                (1, 50),
                (1, 43),
                (5, 88),
                (5, 21),
                (7, 57),
                (4, 187),
                (6, 173),
                (7, 1),
                (7, 250),
                (5, 199),
                (3, 36),
                (5, 239),
                (1, 21),
                (0, 27),
                (3, 52),
                (4, 166),
                (4, 215),
                (2, 51),
                (1, 231),
                (2, 136),
                (7, 124),
                (2, 21),
                (3, 16),
                (1, 202),
                (4, 6),
                (3, 237),
            ],
            away: Some((98, 178)),
            emptied: Some(97),
            clock: 925,
            seed,
        };
        assert_eq!(run(history), Vec::<String>::new(), "seed {seed}");
    }
}
