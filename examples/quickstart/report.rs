//! The printed report.

use tower_bearer::BoxError;

use crate::phase::Phase;

/// All completed phases.
pub(crate) struct Report {
    pub(crate) title: &'static str,
    /// The parts: a name, and what it is.
    pub(crate) cast: Vec<(&'static str, String)>,
    pub(crate) phases: Vec<Phase>,
    /// How many phases one chart shows.
    pub(crate) abreast: usize,
    /// What the numbers of fetches and replays count.
    pub(crate) fetches: &'static str,
    pub(crate) replays: &'static str,
}

pub(crate) const HEAD: [&str; 9] =
    ["phase", "calls", "fetches", "replays", "waited", "failures", "p50", "p99", "max"];

impl Report {
    /// Prints the title, and returns a report without phases.
    pub(crate) fn begin(title: &'static str, cast: Vec<(&'static str, String)>) -> Self {
        println!("{title}");
        for (name, what) in &cast {
            println!("  {name:<13}  {what}");
        }
        Self {
            title,
            cast,
            phases: Vec::new(),
            abreast: 1,
            fetches: "tokens that the token service issued",
            replays: "calls that the API answered with 401 and then got again",
        }
    }

    /// Explains the columns of the table.
    pub(crate) fn legend(&self) -> [(&'static str, &'static str); 3] {
        let waited = "calls that had to wait because there was no token";
        [("fetches", self.fetches), ("replays", self.replays), ("waited", waited)]
    }

    /// Whether all checks passed.
    pub(crate) fn is_good(&self) -> bool {
        self.phases.iter().all(Phase::is_good)
    }

    /// Prints a row for each phase.
    pub(crate) fn print_table(&self) {
        let names = self.phases.iter().map(|phase| phase.name.len());
        let width = names.max().unwrap_or_default().max(12);
        println!();
        print_line(width, &HEAD.map(str::to_owned));
        println!("{}", "─".repeat(width + 74));
        for phase in &self.phases {
            print_line(width, &phase.row());
        }
        println!();
        for (word, meaning) in self.legend() {
            println!("  {word:<7}  {meaning}");
        }
    }

    /// Prints the failed checks, or that all passed.
    pub(crate) fn print_verdict(&self) {
        for what in self.phases.iter().flat_map(Phase::failed_checks) {
            eprintln!("quickstart: check failed: {what}");
        }
        if self.is_good() {
            println!("\nAll checks passed.");
        }
    }
}

fn print_line(width: usize, row: &[String; 9]) {
    let [name, calls, fetches, replays, waited, failures, p50, p99, max] = row;
    println!(
        "{name:<width$} {calls:>7} {fetches:>9} {replays:>8} {waited:>7} {failures:>9} {p50:>8} \
         {p99:>8} {max:>9}"
    );
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

/// Formats a number with separators: 1,000.
pub(crate) fn grouped(number: u64) -> String {
    match number {
        0..1000 => number.to_string(),
        _ => format!("{},{:03}", grouped(number / 1000), number % 1000),
    }
}
