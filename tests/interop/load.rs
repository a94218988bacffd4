//! Many calls at once, and what they were like together.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    time::Duration,
};

use http::StatusCode;
use tokio::{sync::watch, task::JoinSet, time::interval};

use crate::{
    servers::setting,
    stack::{Call, Caller},
};

/// `wait` is the longest time until a call was first sent: its wait for a token.
const COLUMNS: [&str; 8] =
    ["calls", "failed", "fetches", "replays", "p50 ms", "p99 ms", "max ms", "wait ms"];

/// How a number of calls went.
#[derive(Default)]
pub(crate) struct Figures {
    calls: Vec<Call>,
    failed: usize,
}

/// A number of callers, each of which calls again and again.
pub(crate) struct Load {
    callers: JoinSet<Figures>,
    /// How many calls each of them has ended.
    ended: Vec<watch::Receiver<u64>>,
    over: watch::Sender<bool>,
}

// ===== impl Load =====

impl Load {
    /// Each caller makes a call per period, or as soon as the one before has ended.
    pub(crate) fn start(caller: &Caller, callers: usize, period: Duration) -> Self {
        let (over, is_over) = watch::channel(false);
        let mut load = Self { callers: JoinSet::new(), ended: Vec::new(), over };
        for _ in 0..callers {
            let (tell, ended) = watch::channel(0);
            load.ended.push(ended);
            load.callers.spawn(keep_calling(caller.clone(), period, tell, is_over.clone()));
        }
        load
    }

    /// Waits until every caller has ended this many more calls.
    pub(crate) async fn progress(&mut self, calls: u64) {
        let goals: Vec<_> = self.ended.iter().map(|ended| *ended.borrow() + calls).collect();
        for (ended, goal) in self.ended.iter_mut().zip(goals) {
            ended.wait_for(|ended| *ended >= goal).await.expect("the caller goes on");
        }
    }

    /// Lets every call that is under way end.
    pub(crate) async fn stop(self) -> Figures {
        self.over.send(true).expect("the callers go on");
        let mut figures = Figures::default();
        for caller in self.callers.join_all().await {
            figures.calls.extend(caller.calls);
            figures.failed += caller.failed;
        }
        figures
    }
}

async fn keep_calling(
    caller: Caller,
    period: Duration,
    ended: watch::Sender<u64>,
    is_over: watch::Receiver<bool>,
) -> Figures {
    let mut figures = Figures::default();
    let mut pace = interval(period);
    while !*is_over.borrow() {
        pace.tick().await;
        figures.add(caller.call().await.ok());
        ended.send_modify(|ended| *ended += 1);
    }
    figures
}

/// That many calls, under way.
pub(crate) fn in_flight(caller: &Caller, calls: usize) -> InFlight {
    let mut flights = JoinSet::new();
    for _ in 0..calls {
        let caller = caller.clone();
        flights.spawn(async move { caller.call().await.ok() });
    }
    InFlight(flights)
}

/// Calls that are under way.
pub(crate) struct InFlight(JoinSet<Option<Call>>);

impl InFlight {
    pub(crate) async fn ended(self) -> Figures {
        let mut figures = Figures::default();
        for call in self.0.join_all().await {
            figures.add(call);
        }
        figures
    }
}

// ===== impl Figures =====

impl Figures {
    pub(crate) fn add(&mut self, call: Option<Call>) {
        match call {
            Some(call) if call.head.status == StatusCode::OK => self.calls.push(call),
            _ => self.failed += 1,
        }
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.calls.extend(other.calls);
        self.failed += other.failed;
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.len()
    }

    pub(crate) fn replays(&self) -> usize {
        self.calls.iter().filter(|call| call.sent == 2).count()
    }

    pub(crate) fn longest_wait(&self) -> Duration {
        self.calls.iter().map(|call| call.waited).max().expect("there were calls")
    }

    #[track_caller]
    pub(crate) fn assert_none_failed(&self) {
        assert_eq!(self.failed, 0, "of {} calls", self.calls.len() + self.failed);
    }

    /// Adds a line to the table that `run` shows at its end.
    pub(crate) fn report(&self, what: &str, fetches: u64) {
        let mut took: Vec<_> = self.calls.iter().map(|call| call.took).collect();
        took.sort_unstable();
        let percentile = |share: usize| ms(took[(took.len() - 1) * share / 100]);
        let mut table = OpenOptions::new().append(true).open(setting("FIGURES")).unwrap();
        if table.metadata().unwrap().len() == 0 {
            write_row(&mut table, "", COLUMNS.map(str::to_owned));
        }
        let cells = [
            self.calls.len().to_string(),
            self.failed.to_string(),
            fetches.to_string(),
            self.replays().to_string(),
            percentile(50),
            percentile(99),
            percentile(100),
            ms(self.longest_wait()),
        ];
        write_row(&mut table, what, cells);
    }
}

fn ms(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64() * 1000.0)
}

fn write_row(table: &mut File, what: &str, cells: [String; 8]) {
    let cells = cells.map(|cell| format!("{cell:>8}")).concat();
    writeln!(table, "{what:<44}{cells}").unwrap();
}
