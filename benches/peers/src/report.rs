//! `BENCHMARKS.md`: what was measured, on what, and how.

use std::{fmt::Write, fs, process::Command};

use tower_bearer_benches::rounds::Spread;

use crate::{chart::floor_of, expiry, peers::Peer, stampede, storm, warm};

pub(crate) struct Measured {
    pub(crate) warm: Vec<warm::Row>,
    pub(crate) stampede: Vec<stampede::Row>,
    pub(crate) expiry: Vec<expiry::Row>,
    pub(crate) storm: Vec<storm::Row>,
}

/// The crates whose versions are told.
const VERSIONS: [&str; 8] = [
    "tower-bearer",
    "tower-http",
    "aliri_tokens",
    "oauth2",
    "google-cloud-auth",
    "azure_core",
    "http",
    "tokio",
];

pub(crate) fn page(measured: &Measured) -> String {
    let text = include_str!("report.md");
    // The comment of the template is for whoever edits that.
    let text = text.split_once("-->\n").map_or(text, |(_, text)| text.trim_start());
    text.replace("{warm}", &warm_table(&measured.warm))
        .replace("{stampede}", &stampede_table(&measured.stampede))
        .replace("{expiry}", &expiry_table(&measured.expiry))
        .replace("{storm}", &storm_table(&measured.storm))
        .replace("{machine}", &machine())
        .replace("{versions}", &versions())
}

fn warm_table(rows: &[warm::Row]) -> String {
    let mut table = String::new();
    for row in rows {
        let floor = floor_of(row, rows);
        let above = row.allocations.saturating_sub(floor.allocations);
        let (nanos, ratio) = (spread(row.nanos, 0), spread(row.ratio, 2));
        line(&mut table, &[row.peer.name(), &nanos, &ratio, &above.to_string()]);
    }
    table
}

fn stampede_table(rows: &[stampede::Row]) -> String {
    let mut table = String::new();
    for row in rows {
        let (fetches, millis) = (row.fetches.to_string(), spread(row.millis, 0));
        // Nobody can ask it before it has its first token.
        let millis = if row.peer == Peer::Aliri { "none waits".to_owned() } else { millis };
        line(&mut table, &[row.peer.name(), &fetches, &millis, &row.bytes.to_string()]);
    }
    table
}

fn expiry_table(rows: &[expiry::Row]) -> String {
    let mut table = String::new();
    for row in rows {
        let fetches =
            if row.peer.fetches() { (row.fetches - 1).to_string() } else { "-".to_owned() };
        let (p999, longest) = (spread(row.p999, 2), spread(row.longest, 2));
        line(&mut table, &[row.peer.name(), &fetches, &p999, &longest, &row.held_up.to_string()]);
    }
    table
}

fn storm_table(rows: &[storm::Row]) -> String {
    let mut table = String::new();
    for row in rows {
        let cell = |outcome: &storm::Outcome| {
            format!("{} / {} / {}", outcome.succeeded, outcome.fetches, outcome.calls)
        };
        line(&mut table, &[row.peer.name(), &cell(&row.together), &cell(&row.spread)]);
    }
    table
}

fn line(table: &mut String, cells: &[&str]) {
    writeln!(table, "| {} |", cells.join(" | ")).expect("a text has room");
}

/// The median, and the middle half.
fn spread(Spread { low, median, high }: Spread, digits: usize) -> String {
    format!("{median:.digits$} ({low:.digits$} to {high:.digits$})")
}

fn machine() -> String {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor.lines().find_map(|line| line.strip_prefix("model name\t: "));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let (system, rust) = (output("uname", &["-sr"]), output("rustc", &["--version"]));
    format!("{}, {cores} cores, {system}, {rust}", model.unwrap_or("an unknown processor"))
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    output.unwrap_or_else(|_| format!("an unknown {program}"))
}

fn versions() -> String {
    let lock = include_str!("../Cargo.lock");
    let version = |name: &str| {
        let package = format!("name = \"{name}\"\nversion = \"");
        // Of two versions the newer one stands last.
        let (_, rest) = lock.rsplit_once(&package)?;
        rest.split_once('"').map(|(version, _)| format!("{name} {version}"))
    };
    let versions: Vec<_> = VERSIONS.into_iter().filter_map(version).collect();
    versions.join(", ")
}
