//! One phase: the events that it prints while it runs, and its results.

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use crate::{
    load::Outcome,
    report::grouped,
    timeline::{Event, Mark},
};

/// Prints and records the events of a phase while it runs.
pub(crate) struct Story {
    summary: String,
    start: Instant,
    events: RefCell<Vec<(Duration, String)>>,
}

/// A completed phase.
pub(crate) struct Phase {
    pub(crate) name: &'static str,
    pub(crate) story: Story,
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) marks: Vec<Mark>,
    fetches: u64,
    replays: u64,
    waited: u64,
    failures: u64,
    /// Sorted.
    latencies: Vec<Duration>,
    /// What should happen, and whether it did.
    pub(crate) checks: Vec<(String, bool)>,
}

// ===== impl Story =====

impl Story {
    pub(crate) fn begin(name: &str, summary: &str) -> Self {
        println!("\n{name}: {summary}");
        Self { summary: summary.to_owned(), start: Instant::now(), events: RefCell::default() }
    }

    pub(crate) fn tell(&self, event: &str) {
        let at = self.start.elapsed();
        println!("  {:>5.2} s  {event}", at.as_secs_f64());
        self.events.borrow_mut().push((at, event.to_owned()));
    }

    pub(crate) fn summary(&self) -> &str {
        &self.summary
    }

    /// The recorded events and their times.
    pub(crate) fn events(&self) -> Vec<(Duration, String)> {
        self.events.borrow().clone()
    }
}

// ===== impl Phase =====

impl Phase {
    pub(crate) fn new(
        name: &'static str,
        story: Story,
        outcomes: Vec<Outcome>,
        fetches: u64,
        replays: u64,
    ) -> Self {
        let mut latencies: Vec<_> = outcomes.iter().map(|outcome| outcome.latency).collect();
        latencies.sort_unstable();
        Self {
            name,
            story,
            fetches,
            replays,
            waited: count(&outcomes, |outcome| outcome.waited),
            failures: count(&outcomes, |outcome| outcome.failure.is_some()),
            outcomes,
            marks: Vec::new(),
            latencies,
            checks: Vec::new(),
        }
    }

    /// Adds the events of the tokens during the phase.
    pub(crate) fn with_marks(self, marks: Vec<Mark>) -> Self {
        Self { marks, ..self }
    }

    pub(crate) fn all_succeeded(self) -> Self {
        let succeeded = self.calls() > 0 && self.failures == 0;
        self.check("every call succeeded".to_owned(), succeeded)
    }

    pub(crate) fn exactly_fetched(self, expected: u64) -> Self {
        let happened = self.fetches == expected;
        self.check(format!("exactly {expected} fetch"), happened)
    }

    pub(crate) fn at_least_fetched(self, expected: u64) -> Self {
        let happened = self.fetches >= expected;
        self.check(format!("at least {expected} fetches"), happened)
    }

    pub(crate) fn exactly_replayed(self, expected: u64) -> Self {
        let happened = self.replays == expected;
        let what = match expected {
            0 => "no call got a 401".to_owned(),
            _ => format!("{} calls got a 401 and were sent again", grouped(expected)),
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

    fn check(mut self, what: String, happened: bool) -> Self {
        self.checks.push((what, happened));
        self
    }

    pub(crate) fn print_checks(&self) {
        for (what, happened) in &self.checks {
            let mark = if *happened { "✓" } else { "✗ failed:" };
            println!("       {mark} {what}");
        }
        if let Some(failure) = self.first_failure() {
            println!("         the first failure: {failure}");
        }
    }

    /// Whether all checks passed.
    pub(crate) fn is_good(&self) -> bool {
        self.failed_checks().next().is_none()
    }

    pub(crate) fn failed_checks(&self) -> impl Iterator<Item = String> {
        let failed_checks = self.checks.iter().filter(|(_, happened)| !happened);
        failed_checks.map(|(what, _)| format!("{}: {what}", self.name))
    }

    pub(crate) fn first_failure(&self) -> Option<&str> {
        self.outcomes.iter().find_map(|outcome| outcome.failure.as_deref())
    }

    /// The time from the start of the phase to `at`.
    pub(crate) fn since_start(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.story.start)
    }

    /// The periods in which the token service was down.
    pub(crate) fn outages(&self) -> Vec<(Duration, Option<Duration>)> {
        let at = |mark: &Mark| self.since_start(mark.at);
        let end = |down: &Mark| {
            let up = |mark: &&Mark| mark.event == Event::Up && mark.at >= down.at;
            self.marks.iter().find(up).map(at)
        };
        let downs = self.marks.iter().filter(|mark| mark.event == Event::Down);
        downs.map(|down| (at(down), end(down))).collect()
    }

    pub(crate) fn row(&self) -> [String; 9] {
        [
            self.name.to_owned(),
            grouped(self.calls()),
            grouped(self.fetches),
            grouped(self.replays),
            grouped(self.waited),
            grouped(self.failures),
            millis(self.percentile(50)),
            millis(self.percentile(99)),
            millis(self.percentile(100)),
        ]
    }

    fn calls(&self) -> u64 {
        count(&self.outcomes, |_| true)
    }

    /// The latency that `percent` of the calls did not exceed.
    fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.latencies.len() * percent).div_ceil(100);
        self.latencies.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

fn count(outcomes: &[Outcome], which: impl Fn(&Outcome) -> bool) -> u64 {
    outcomes.iter().map(|outcome| u64::from(which(outcome))).sum()
}

fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}
