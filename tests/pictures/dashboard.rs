//! The dashboard's panels where they are, with what each says of itself and the series that it
//! reads: from the file that Grafana imports.

use serde_json::Value;

use crate::canvas::{Canvas, width_of, width_of_strong};

const DASHBOARD: &str = include_str!("../../examples/sidecar/dashboard.json");

/// A column and a row of Grafana's grid, and the room around a panel.
const COLUMN: f64 = 41.0;
const ROW: f64 = 15.5;
const GAP: f64 = 8.0;

pub(crate) fn picture() -> String {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("the dashboard is JSON");
    let mut canvas = Canvas::new(24.0 * COLUMN + 2.0 * GAP);
    let mut bottom: f64 = 0.0;
    for panel in dashboard["panels"].as_array().expect("it has panels") {
        bottom = bottom.max(draw(&mut canvas, panel));
    }
    canvas.finish("The panels of the Grafana dashboard", bottom + GAP)
}

/// Draws a panel; where it ends.
fn draw(canvas: &mut Canvas, panel: &Value) -> f64 {
    let place = |side: &str| panel["gridPos"][side].as_f64().expect("a panel has a place");
    let (x, y) = (GAP * 1.5 + place("x") * COLUMN, GAP + place("y") * ROW);
    let (width, height) = (place("w") * COLUMN - GAP, place("h") * ROW - GAP);
    canvas.rect("box", (x, y), (width, height));
    let mut line = y + 20.0;
    for words in wrapped(text(&panel["title"]), width, width_of_strong) {
        canvas.text("strong", "start", (x + 12.0, line), &words);
        line += 17.0;
    }
    for words in wrapped(text(&panel["description"]), width, width_of) {
        canvas.text("soft", "start", (x + 12.0, line), &words);
        line += 16.0;
    }
    let targets = panel["targets"].as_array().expect("a panel has queries");
    let mut line = y + height + 7.0 - targets.iter().map(|_| 15.0).sum::<f64>();
    for (target, colour) in targets.iter().zip(["c0", "c1", "c2"]) {
        canvas.line(colour, &[(x + 12.0, line - 4.0), (x + 26.0, line - 4.0)]);
        let series = series(text(&target["expr"]));
        let legend = text(&target["legendFormat"]).replace(['{', '}'], "");
        let shown = format!("{series}: {legend}");
        canvas.text("mono", "start", (x + 32.0, line), &shown);
        line += 15.0;
    }
    y + height
}

/// The series that a query reads.
fn series(query: &str) -> &str {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut words = query.split(|c| !is_name(c));
    let ours = |word: &&str| word.starts_with("tower_bearer_") || word.starts_with("sidecar_");
    let series = words.find(ours).expect("a query reads one of our series");
    series.strip_suffix("_bucket").unwrap_or(series)
}

/// The text in lines that fit.
fn wrapped(text: &str, width: f64, width_of: fn(&str) -> f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if width_of(line) + width_of(word) < width - 24.0 => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
