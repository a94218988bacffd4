//! A steady load while the token comes to its end.

use std::time::{Duration, Instant};

use tower_bearer_benches::{load, rounds::Spread};

use crate::{Peer, api::Api, token_service::TokenService};

pub(crate) struct Row {
    pub(crate) peer: Peer,
    pub(crate) fetches: usize,
    /// Milliseconds.
    pub(crate) p999: Spread,
    /// Milliseconds.
    pub(crate) longest: Spread,
    /// How many requests took longer than [`LONG`], in the round in the middle.
    pub(crate) held_up: usize,
    /// The median of the rounds.
    pub(crate) course: Vec<Point>,
}

/// The longest wait, in milliseconds, of the requests of a [`STEP`], by when that begins: in seconds
/// since the fetch of the next token began.
pub(crate) type Point = (f64, f64);

struct Round {
    fetches: usize,
    p999: f64,
    longest: f64,
    held_up: usize,
    course: Vec<f64>,
}

const PER_MILLISECOND: usize = 10;
const FETCH: Duration = Duration::from_millis(200);
/// Milliseconds.
pub(crate) const LONG: f64 = 20.0;
/// Seconds.
const STEP: f64 = 0.01;
/// Seconds that are looked at, before and after the fetch of the next token begins.
pub(crate) const BEFORE: f64 = 0.3;
pub(crate) const AFTER: f64 = 0.7;
/// How long a token is good for.
const FRESH: Duration = Duration::from_secs(2);
/// When a fetch must have begun.
const LATEST: Duration = Duration::from_secs(4);
const ROUNDS: usize = 3;

/// All peers in turn, in each round.
pub(crate) async fn measure() -> Vec<Row> {
    let mut rounds = Peer::ALL.map(|peer| (peer, Vec::new()));
    for _ in 0..ROUNDS {
        for (peer, rounds) in &mut rounds {
            rounds.push(round(*peer).await);
        }
    }
    rounds.into_iter().map(|(peer, rounds)| Row::new(peer, rounds)).collect()
}

async fn round(peer: Peer) -> Round {
    let tokens = TokenService::new(FETCH, FRESH);
    let send = peer.with(&tokens, &Api::new()).await.send;
    assert!(send().await.is_success());
    let start = Instant::now();
    // What never fetches again is looked at in the same part of the run.
    let due = |tokens: &TokenService| match tokens.fetches().get(1) {
        Some((begin, _)) => *begin,
        None if peer.fetches() => start + LATEST,
        None => start + FRESH,
    };
    let request = || {
        let answer = send();
        async { assert!(answer.await.is_success()) }
    };
    let goes_on = || Instant::now() < due(&tokens) + Duration::from_secs_f64(AFTER);
    let sent = load::send(PER_MILLISECOND, request, goes_on).await;
    let due = due(&tokens);
    let mut waits = Vec::new();
    for (at, wait) in sent {
        let since = at.saturating_duration_since(due).as_secs_f64()
            - due.saturating_duration_since(at).as_secs_f64();
        if (-BEFORE..AFTER).contains(&since) {
            waits.push((since, wait.as_secs_f64() * 1e3));
        }
    }
    Round::new(tokens.fetches().len(), waits)
}

impl Round {
    fn new(fetches: usize, waits: Vec<(f64, f64)>) -> Self {
        let mut course = vec![0.0_f64; ((BEFORE + AFTER) / STEP).round() as usize];
        for (at, wait) in &waits {
            let step = ((at + BEFORE) / STEP) as usize;
            if let Some(longest) = course.get_mut(step) {
                *longest = longest.max(*wait);
            }
        }
        let mut sorted: Vec<_> = waits.iter().map(|(_, wait)| *wait).collect();
        sorted.sort_by(f64::total_cmp);
        Self {
            fetches,
            p999: sorted[(sorted.len() - 1) * 999 / 1000],
            longest: sorted[sorted.len() - 1],
            held_up: sorted.iter().filter(|wait| **wait > LONG).count(),
            course,
        }
    }
}

impl Row {
    fn new(peer: Peer, mut rounds: Vec<Round>) -> Self {
        let spread = |of: fn(&Round) -> f64| Spread::of(rounds.iter().map(of).collect());
        let (p999, longest) = (spread(|round| round.p999), spread(|round| round.longest));
        let course = (0..rounds[0].course.len()).map(|step| {
            let waits = rounds.iter().map(|round| round.course[step]);
            (-BEFORE + STEP * step as f64, Spread::of(waits.collect()).median)
        });
        let course = course.collect();
        rounds.sort_by(|a, b| a.longest.total_cmp(&b.longest));
        let Round { fetches, held_up, .. } = rounds.swap_remove(ROUNDS / 2);
        Self { peer, fetches, p999, longest, held_up, course }
    }
}
