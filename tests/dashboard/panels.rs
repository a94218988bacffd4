//! What the panels of the dashboard ask for, and whether a scrape has it.

use std::collections::BTreeSet;

use serde_json::Value;

const DASHBOARD: &str = include_str!("../../examples/sidecar/dashboard.json");

/// A query of a panel.
pub(crate) struct Query {
    pub(crate) panel: String,
    /// The one series that it reads.
    pub(crate) name: String,
    labels: BTreeSet<String>,
}

/// All queries of series that begin so.
pub(crate) fn queries(prefix: &str) -> Vec<Query> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("the dashboard is JSON");
    let panels = dashboard["panels"].as_array().expect("it has panels");
    let targets = panels.iter().flat_map(|panel| {
        let targets = panel["targets"].as_array().expect("a panel has queries");
        targets.iter().map(|target| Query::of(text(&panel["title"]), target))
    });
    targets.filter(|query| query.name.starts_with(prefix)).collect()
}

impl Query {
    fn of(panel: &str, target: &Value) -> Self {
        let (expression, legend) = (text(&target["expr"]), text(&target["legendFormat"]));
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words = expression.split(|c| !is_name(c));
        let ours =
            words.filter(|word| word.starts_with("tower_bearer_") || word.starts_with("sidecar_"));
        let names: Vec<_> = ours.collect();
        let [name] = names[..] else { panic!("one series, not {names:?}: {expression}") };
        let labels = grouped(expression).chain(selected(expression)).chain(shown(legend));
        let labels = labels.map(str::to_owned).collect();
        Self { panel: panel.to_owned(), name: name.to_owned(), labels }
    }

    /// What a scrape lacks of it.
    pub(crate) fn missing_in(&self, scrape: &str) -> Vec<String> {
        let series: Vec<_> = scrape
            .lines()
            .filter_map(|line| line.strip_prefix(&self.name))
            .filter(|rest| rest.starts_with(['{', ' ']))
            .collect();
        if series.is_empty() {
            return vec![format!("{}: no series `{}`", self.panel, self.name)];
        }
        let has = |label: &str| {
            let (first, other) = (format!("{{{label}=\""), format!(",{label}=\""));
            series.iter().any(|rest| rest.contains(&first) || rest.contains(&other))
        };
        let missing = self.labels.iter().filter(|label| !has(label));
        missing.map(|label| format!("{}: `{}` has no `{label}`", self.panel, self.name)).collect()
    }
}

/// The labels of `by (…)`.
fn grouped(expression: &str) -> impl Iterator<Item = &str> {
    let groups = expression.split("by (").skip(1);
    groups.flat_map(|group| group.split(')').next().unwrap_or_default().split(',').map(str::trim))
}

/// The labels of `{…="…"}`.
fn selected(expression: &str) -> impl Iterator<Item = &str> {
    let selectors = expression.split('{').skip(1);
    let selectors = selectors.map(|selector| selector.split('}').next().unwrap_or_default());
    selectors.flat_map(|selector| {
        selector.split(',').map(|one| one.split(['=', '!']).next().unwrap_or_default().trim())
    })
}

/// The labels of `{{…}}`.
fn shown(legend: &str) -> impl Iterator<Item = &str> {
    legend.split("{{").skip(1).map(|label| label.split("}}").next().unwrap_or_default())
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}
