//! What the program prints.

use std::time::{Duration, Instant};

use tower_bearer::BoxError;

use crate::load::Outcome;

/// Tells what happens in a phase, while it does.
pub(crate) struct Story {
    start: Instant,
}

/// One phase, when it is over.
pub(crate) struct Phase {
    name: &'static str,
    calls: u64,
    fetches: u64,
    replays: u64,
    waited: u64,
    failures: u64,
    first_failure: Option<String>,
    /// Sorted.
    latencies: Vec<Duration>,
    /// What should have happened, and whether it did.
    checks: Vec<(String, bool)>,
}

// ===== impl Story =====

impl Story {
    pub(crate) fn begin(name: &str, plot: &str) -> Self {
        println!("\n{name}: {plot}");
        Self { start: Instant::now() }
    }

    pub(crate) fn tell(&self, event: &str) {
        println!("  {:>5.2} s  {event}", self.start.elapsed().as_secs_f64());
    }
}

// ===== impl Phase =====

impl Phase {
    pub(crate) fn new(
        name: &'static str,
        outcomes: &[Outcome],
        fetches: u64,
        replays: u64,
    ) -> Self {
        let mut latencies: Vec<_> = outcomes.iter().map(|outcome| outcome.latency).collect();
        latencies.sort_unstable();
        let phase = Self {
            name,
            calls: count(outcomes, |_| true),
            fetches,
            replays,
            waited: count(outcomes, |outcome| outcome.waited),
            failures: count(outcomes, |outcome| outcome.failure.is_some()),
            first_failure: outcomes.iter().find_map(|outcome| outcome.failure.clone()),
            latencies,
            checks: Vec::new(),
        };
        let succeeded = phase.calls > 0 && phase.failures == 0;
        phase.check("every call succeeded".to_owned(), succeeded)
    }

    pub(crate) fn exactly_fetched(self, expected: u64) -> Self {
        let happened = self.fetches == expected;
        self.check(format!("{expected} fetch, and no more"), happened)
    }

    pub(crate) fn at_least_fetched(self, expected: u64) -> Self {
        let happened = self.fetches >= expected;
        self.check(format!("{expected} fetches or more"), happened)
    }

    pub(crate) fn exactly_replayed(self, expected: u64) -> Self {
        let happened = self.replays == expected;
        let what = match expected {
            0 => "no call was answered with 401".to_owned(),
            _ => format!("{} calls were answered with 401 and sent again", grouped(expected)),
        };
        self.check(what, happened)
    }

    pub(crate) fn exactly_waited(self, expected: u64) -> Self {
        let happened = self.waited == expected;
        let what = match expected {
            0 => "no call waited for a token".to_owned(),
            _ => format!("{} calls waited for the same token", grouped(expected)),
        };
        self.check(what, happened)
    }

    pub(crate) fn print_checks(&self) {
        for (what, happened) in &self.checks {
            let mark = if *happened { "✓" } else { "✗ did not happen:" };
            println!("       {mark} {what}");
        }
        if let Some(failure) = &self.first_failure {
            println!("         the first failure: {failure}");
        }
    }

    fn check(mut self, what: String, happened: bool) -> Self {
        self.checks.push((what, happened));
        self
    }

    /// Whether everything happened that should have.
    pub(crate) fn is_good(&self) -> bool {
        self.missed().next().is_none()
    }

    fn missed(&self) -> impl Iterator<Item = String> {
        let missed = self.checks.iter().filter(|(_, happened)| !happened);
        missed.map(|(what, _)| format!("{}: {what}", self.name))
    }

    fn row(&self) -> [String; 9] {
        [
            self.name.to_owned(),
            grouped(self.calls),
            grouped(self.fetches),
            grouped(self.replays),
            grouped(self.waited),
            grouped(self.failures),
            millis(self.percentile(50)),
            millis(self.percentile(99)),
            millis(self.percentile(100)),
        ]
    }

    /// The latency that so many of a hundred calls did not exceed.
    fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.latencies.len() * percent).div_ceil(100);
        self.latencies.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

/// All phases side by side, with who counted the fetches and the replays.
pub(crate) fn print_table(phases: &[Phase], fetches: &str, replays: &str) {
    let head = ["phase", "calls", "fetches", "replays", "waited", "failures", "p50", "p99", "max"];
    println!();
    print_line(&head.map(str::to_owned));
    println!("{}", "─".repeat(86));
    for phase in phases {
        print_line(&phase.row());
    }
    println!();
    println!("  fetches  {fetches}");
    println!("  replays  {replays}");
    println!("  waited   calls that were not sent at once: there was no token for them");
}

fn print_line([name, calls, fetches, replays, waited, failures, p50, p99, max]: &[String; 9]) {
    println!(
        "{name:<12} {calls:>7} {fetches:>9} {replays:>8} {waited:>7} {failures:>9} {p50:>8} \
         {p99:>8} {max:>9}"
    );
}

/// Says what did not happen; whether everything did.
pub(crate) fn print_verdict(phases: &[Phase]) -> bool {
    for what in phases.iter().flat_map(Phase::missed) {
        eprintln!("quickstart: did not happen: {what}");
    }
    let all_good = phases.iter().all(Phase::is_good);
    if all_good {
        println!("\nEverything happened as it should.");
    }
    all_good
}

/// An error with its causes, in one line.
pub(crate) fn explain(error: &BoxError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// A number as people read it: 1,000.
pub(crate) fn grouped(number: u64) -> String {
    match number {
        0..1000 => number.to_string(),
        _ => format!("{},{:03}", grouped(number / 1000), number % 1000),
    }
}

fn count(outcomes: &[Outcome], which: impl Fn(&Outcome) -> bool) -> u64 {
    outcomes.iter().map(|outcome| u64::from(which(outcome))).sum()
}

fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}
