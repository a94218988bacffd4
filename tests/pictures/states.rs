//! The states of a token, a flight, a source and an origin, and what leads from one to the next:
//! read from the module pages of `cache/state.rs` and `cache/origins.rs`.

use crate::canvas::{Canvas, width_of};

const STATE: &str = include_str!("../../src/cache/state.rs");
const ORIGINS: &str = include_str!("../../src/cache/origins.rs");

const WIDTH: f64 = 720.0;
const LEFT: f64 = 110.0;
const BOX: f64 = 30.0;

/// A line of a module page: a thing, its states, and what leads from each to the next.
struct Row<'a> {
    thing: &'a str,
    states: Vec<&'a str>,
    /// One fewer than states. Empty where time alone leads on.
    steps: Vec<&'a str>,
    notes: Vec<&'a str>,
    /// What leads back to the first state, and from how many of the last ones.
    back: Option<(&'a str, usize)>,
}

pub(crate) fn picture() -> String {
    let mut rows = rows(STATE);
    // `state.rs` says of an origin where to look.
    rows.retain(|row| row.states.len() > 1);
    rows.extend(self::rows(ORIGINS));
    let mut canvas = Canvas::new(WIDTH);
    let mut y = 24.0;
    for row in &rows {
        y = row.draw(&mut canvas, y);
    }
    canvas.finish("The states of a token, its flight, its source and its origins", y)
}

/// The rows of a module page's first block.
fn rows(page: &str) -> Vec<Row<'_>> {
    let (_, block) = page.split_once("//! ```text\n").expect("the page has a block");
    let (block, _) = block.split_once("//! ```").expect("the block ends");
    let mut rows: Vec<Row<'_>> = Vec::new();
    for line in block.lines() {
        let line = line.strip_prefix("//! ").expect("the block is of the page");
        if line.starts_with(' ') {
            rows.last_mut().expect("a row goes on").go_on(line.trim());
        } else {
            rows.push(Row::of(line));
        }
    }
    rows
}

impl<'a> Row<'a> {
    fn of(line: &'a str) -> Self {
        let (thing, chain) = line.split_once("  ").expect("a thing, and its states");
        let chain = chain.trim();
        let (chain, note) = chain.split_once("  ").unwrap_or((chain, ""));
        let notes = [note.trim()].into_iter().filter(|note| !note.is_empty()).collect();
        let parts: Vec<_> = chain.split('▶').collect();
        let (mut states, mut steps) = (Vec::new(), Vec::new());
        for part in parts {
            let (state, step) = part.split_once("──").unwrap_or((part, ""));
            states.push(state.trim().trim_end_matches(';'));
            steps.push(step.trim_matches(['─', ' ']));
        }
        steps.pop();
        Self { thing, states, steps, notes, back: None }
    }

    /// A line below: a way back, or a note.
    fn go_on(&mut self, line: &'a str) {
        match line.strip_prefix('▲') {
            Some(way) => {
                let from = way.matches(['┴', '┘']).count();
                self.back = Some((way.trim_matches(['─', ' ', '┴', '┘']), from));
            }
            None => self.notes.push(line),
        }
    }

    /// Draws it below `y`; where it ends.
    fn draw(&self, canvas: &mut Canvas, y: f64) -> f64 {
        let middle = y + BOX / 2.0;
        canvas.text("strong", "start", (20.0, middle + 4.0), self.thing);
        let mut x = LEFT;
        let mut centres = Vec::new();
        for (nth, state) in self.states.iter().enumerate() {
            let width = width_of(state) + 24.0;
            canvas.rect("box", (x, y), (width, BOX));
            canvas.text("", "middle", (x + width / 2.0, middle + 4.0), state);
            centres.push(x + width / 2.0);
            x += width;
            if let Some(step) = self.steps.get(nth) {
                let length = (width_of(step) + 20.0).max(46.0);
                canvas.arrow("", &[(x, middle), (x + length, middle)]);
                canvas.text("soft", "middle", (x + length / 2.0 - 3.0, middle - 6.0), step);
                x += length;
            }
        }
        let mut end = y + BOX;
        if let Some((way, from)) = self.back {
            let below = end + 24.0;
            let last = &centres[centres.len() - from..];
            for centre in last {
                canvas.line("", &[(*centre, end), (*centre, below)]);
            }
            let (first, right) = (centres[0], last[from - 1]);
            canvas.arrow("", &[(right, below), (first, below), (first, end)]);
            canvas.text("soft", "middle", (f64::midpoint(first, last[0]), below - 6.0), way);
            end = below;
        }
        for note in &self.notes {
            end += 20.0;
            canvas.text("soft", "start", (LEFT, end), note);
        }
        end + 28.0
    }
}
