//! A chart of latency over time, as self-contained SVG: a dot for each call on a logarithmic scale
//! up to a second, and marks for the events of the tokens.

use std::{fmt::Write as _, time::Duration};

use crate::{
    load::Outcome,
    markup::escape,
    phase::Phase,
    timeline::Event::{self, Down, Fetched, Refused, Rejected, Revoked, Up},
};

// All sizes are in user units of the SVG.
const WIDTH: f64 = 880.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
/// The lanes above the plot, for fetches and for 401s.
const LANES: [f64; 2] = [40.0, 57.0];
const TOP: f64 = 80.0;
const PLOT: f64 = 160.0;
/// The plot, the lanes above it and the axis labels below it.
const PANEL: f64 = TOP + PLOT + 32.0;
const LEGEND: f64 = 34.0;

/// The lines of the scale, in milliseconds. The scale begins at the highest of the first three
/// lines that no call is below. A call that took longer than a second is drawn at the top.
const SCALE: [(f64, &str); 5] =
    [(0.1, "0.1 ms"), (1.0, "1 ms"), (10.0, "10 ms"), (100.0, "100 ms"), (1000.0, "1 s")];

/// Colours for a light and for a dark page. Each chart draws its own background.
const STYLE: &str = "\
.chart{font:12px system-ui,sans-serif}\
.chart .ground{fill:#fff}.chart text{fill:#24292f}.chart .soft{fill:#57606a}\
.chart .title{font-weight:600;font-size:13px}.chart .rule{stroke:#d8dee4}\
.chart .dots{fill:none;stroke-width:3.4;stroke-linecap:round}\
.chart .plain{stroke:#0969da}.chart .waited{stroke:#bf8700}.chart .again{stroke:#8250df}\
.chart .failed{stroke:#cf222e}.chart .fetched{stroke:#1a7f37}.chart .rejected{stroke:#8250df}\
.chart .refused,.chart .revoked{stroke:#cf222e}.chart .mark{stroke-width:1.6;fill:none}\
.chart .line{stroke-dasharray:3 4;opacity:.7}\
.chart .over{paint-order:stroke;stroke:#fff;stroke-width:5px;stroke-linejoin:round}.chart .down{fill:#cf222e;opacity:.09}\
@media(prefers-color-scheme:dark){\
.chart .ground{fill:#0d1117}.chart text{fill:#e6edf3}.chart .soft{fill:#9198a1}\
.chart .rule{stroke:#2b3138}.chart .plain{stroke:#58a6ff}.chart .waited{stroke:#e3b341}\
.chart .again,.chart .rejected{stroke:#c297ff}.chart .fetched{stroke:#3fb950}\
.chart .failed,.chart .refused,.chart .revoked{stroke:#ff7b72}\
.chart .over{stroke:#0d1117}.chart .down{fill:#ff7b72;opacity:.14}}";

/// The kinds of dots: the CSS class and the text of the legend.
const KINDS: [(&str, &str); 4] = [
    ("plain", "a call"),
    ("waited", "a call that waited for a token"),
    ("again", "a call that was sent again after a 401"),
    ("failed", "a call that failed"),
];

/// A panel for each phase, one below the other, with the same time axis and scale.
pub(crate) fn chart(id: &str, phases: &[Phase]) -> String {
    let panels = phases.iter().map(|_| PANEL).sum::<f64>();
    let height = panels + LEGEND;
    let end = phases.iter().map(end).max().unwrap_or_default().max(Duration::from_millis(10));
    let scale = scale(phases);
    let names: Vec<_> = phases.iter().map(|phase| escape(phase.name)).collect();
    let mut svg = format!(
        "<svg id=\"{}\" class=\"chart\" xmlns=\"http://www.w3.org/2000/svg\" \
         viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n<title>Latency over time: {}</title>\n\
         <style>{STYLE}</style>\n<rect class=\"ground\" width=\"{WIDTH}\" height=\"{height}\"/>\n",
        escape(id),
        names.join("; "),
    );
    let mut y = 0.0;
    for phase in phases {
        let _ = writeln!(svg, "<g transform=\"translate(0 {y})\">");
        Panel { phase, end, scale, svg: &mut svg }.draw();
        svg.push_str("</g>\n");
        y += PANEL;
    }
    legend(&mut svg, phases, panels + LEGEND / 2.0);
    svg.push_str("</svg>\n");
    svg
}

struct Panel<'a> {
    phase: &'a Phase,
    /// The end of the time axis.
    end: Duration,
    scale: &'static [(f64, &'static str)],
    svg: &'a mut String,
}

impl Panel<'_> {
    fn draw(mut self) {
        self.title();
        self.scale();
        self.outages();
        self.marks();
        for (kind, _) in KINDS {
            self.dots(kind);
        }
        self.labels();
    }

    fn put(&mut self, element: std::fmt::Arguments<'_>) {
        let _ = self.svg.write_fmt(element);
        self.svg.push('\n');
    }

    fn title(&mut self) {
        let (name, summary) = (escape(self.phase.name), escape(self.phase.story.summary()));
        self.put(format_args!(
            "<text x=\"{LEFT}\" y=\"20\"><tspan class=\"title\">{name}</tspan>\
             <tspan class=\"soft\" dx=\"10\">{summary}</tspan></text>"
        ));
        for (lane, y) in ["fetches", "401s"].iter().zip(LANES) {
            let (x, y) = (LEFT - 8.0, y + 4.0);
            self.put(format_args!(
                "<text class=\"soft\" text-anchor=\"end\" x=\"{x}\" y=\"{y}\">{lane}</text>"
            ));
        }
    }

    fn scale(&mut self) {
        let right = WIDTH - RIGHT;
        for (millis, name) in self.scale {
            let y = self.y(*millis);
            let (x, below) = (LEFT - 8.0, y + 4.0);
            self.put(format_args!(
                "<path class=\"rule\" d=\"M{LEFT} {y:.1}H{right}\"/>\
                 <text class=\"soft\" text-anchor=\"end\" x=\"{x}\" y=\"{below:.1}\">{name}</text>"
            ));
        }
        let step = step(self.end);
        let mut at = Duration::ZERO;
        while at <= self.end {
            let (x, y) = (self.x(at), TOP + PLOT + 18.0);
            let seconds = at.as_secs_f64();
            self.put(format_args!(
                "<text class=\"soft\" text-anchor=\"middle\" x=\"{x:.1}\" y=\"{y}\">{seconds} s\
                 </text>"
            ));
            at += step;
        }
    }

    fn outages(&mut self) {
        for (down, up) in self.phase.outages() {
            let (from, to) = (self.x(down), self.x(up.unwrap_or(self.end)));
            let (width, height) = (to - from, TOP + PLOT - 28.0);
            self.put(format_args!(
                "<rect class=\"down\" x=\"{from:.1}\" y=\"28\" width=\"{width:.1}\" \
                 height=\"{height}\"/>"
            ));
        }
    }

    fn marks(&mut self) {
        let (mut fetched, mut refused, mut rejected) = <(String, String, String)>::default();
        let [upper, lower] = LANES;
        for mark in &self.phase.marks {
            let x = self.x(self.phase.since_start(mark.at));
            let _ = match mark.event {
                Fetched => write!(fetched, "M{:.1} {}h8l-4 8z", x - 4.0, upper - 4.0),
                Refused => write!(refused, "M{:.1} {}l8 8m-8 0l8 -8", x - 4.0, upper - 4.0),
                Rejected => write!(rejected, "M{x:.1} {}v8", lower - 4.0),
                Revoked | Down | Up => Ok(()),
            };
        }
        for (kind, path) in [("fetched", fetched), ("refused", refused), ("rejected", rejected)] {
            if !path.is_empty() {
                self.put(format_args!("<path class=\"mark {kind}\" d=\"{path}\"/>"));
            }
        }
        self.lines(Fetched, "fetched");
        self.lines(Revoked, "revoked");
    }

    /// Draws a vertical line through the plot for each of these events.
    fn lines(&mut self, event: Event, kind: &str) {
        let bottom = TOP + PLOT;
        for mark in self.phase.marks.iter().filter(|mark| mark.event == event) {
            let x = self.x(self.phase.since_start(mark.at));
            self.put(format_args!(
                "<path class=\"mark line {kind}\" d=\"M{x:.1} {TOP}V{bottom}\"/>"
            ));
        }
    }

    /// Labels the lines and bands, above the dots.
    fn labels(&mut self) {
        for (event, anchor, aside, labels) in [
            (Revoked, "end", -7.0, "the token is revoked"),
            (Down, "start", 7.0, "the token service is down"),
        ] {
            for mark in self.phase.marks.iter().filter(|mark| mark.event == event) {
                let x = self.x(self.phase.since_start(mark.at)) + aside;
                let y = TOP + PLOT - 8.0;
                self.put(format_args!(
                    "<text class=\"soft over\" text-anchor=\"{anchor}\" x=\"{x:.1}\" \
                     y=\"{y}\">{labels}</text>"
                ));
            }
        }
    }

    fn dots(&mut self, kind: &str) {
        let mut path = String::new();
        for outcome in self.phase.outcomes.iter().filter(|outcome| kind_of(outcome) == kind) {
            let x = self.x(self.phase.since_start(outcome.start));
            let y = self.y(millis(outcome));
            let _ = write!(path, "M{x:.1} {y:.1}h0");
        }
        if !path.is_empty() {
            self.put(format_args!("<path class=\"dots {kind}\" d=\"{path}\"/>"));
        }
    }

    fn x(&self, at: Duration) -> f64 {
        LEFT + at.div_duration_f64(self.end) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, millis: f64) -> f64 {
        let (fastest, slowest) = (self.scale[0].0, self.scale[self.scale.len() - 1].0);
        let share = (millis.clamp(fastest, slowest) / fastest).log10();
        TOP + PLOT * (1.0 - share / (slowest / fastest).log10())
    }
}

fn legend(svg: &mut String, phases: &[Phase], y: f64) {
    let mut x = LEFT;
    let outcomes = || phases.iter().flat_map(|phase| &phase.outcomes);
    for (kind, name) in KINDS {
        if outcomes().any(|outcome| kind_of(outcome) == kind) {
            let _ = writeln!(
                svg,
                "<path class=\"dots {kind}\" d=\"M{x:.1} {y:.1}v0\"/>\
                 <text class=\"soft\" x=\"{:.1}\" y=\"{:.1}\">{name}</text>",
                x + 8.0,
                y + 4.0,
            );
            x += 44.0 + width_of(name);
        }
    }
    let marks = [(Fetched, "fetched", "h8l-4 8z", "a token"), (Refused, "refused", CROSS, "a 503")];
    for (event, kind, shape, name) in marks {
        if phases.iter().any(|phase| phase.marks.iter().any(|mark| mark.event == event)) {
            let _ = writeln!(
                svg,
                "<path class=\"mark {kind}\" d=\"M{:.1} {:.1}{shape}\"/>\
                 <text class=\"soft\" x=\"{:.1}\" y=\"{:.1}\">{name}</text>",
                x - 4.0,
                y - 4.0,
                x + 10.0,
                y + 4.0,
            );
            x += 44.0 + width_of(name);
        }
    }
}

const CROSS: &str = "l8 8m-8 0l8 -8";

fn kind_of(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome { failure: Some(_), .. } => "failed",
        Outcome { sends: 2.., .. } => "again",
        Outcome { waited: true, .. } => "waited",
        _ => "plain",
    }
}

/// The time of the last call or mark, from the start of the phase.
fn end(phase: &Phase) -> Duration {
    let calls = phase.outcomes.iter().map(|outcome| outcome.start + outcome.latency);
    let marks = phase.marks.iter().map(|mark| mark.at);
    calls.chain(marks).max().map(|last| phase.since_start(last)).unwrap_or_default()
}

/// The distance between the labels of the time axis.
fn step(end: Duration) -> Duration {
    let steps = [2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000];
    let steps = steps.map(Duration::from_millis);
    *steps.iter().find(|&&step| step * 10 >= end).unwrap_or(&steps[steps.len() - 1])
}

fn millis(outcome: &Outcome) -> f64 {
    outcome.latency.as_secs_f64() * 1000.0
}

fn scale(phases: &[Phase]) -> &'static [(f64, &'static str)] {
    let outcomes = phases.iter().flat_map(|phase| &phase.outcomes);
    let fastest = outcomes.map(millis).fold(f64::INFINITY, f64::min);
    let begins = SCALE[..3].iter().rposition(|(line, _)| *line <= fastest);
    &SCALE[begins.unwrap_or_default()..]
}

/// The approximate width of the text.
fn width_of(text: &str) -> f64 {
    text.chars().map(|_| 6.2).sum()
}
