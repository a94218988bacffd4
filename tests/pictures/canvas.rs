//! Shapes and words of a picture (SVG) that is readable on a light and on a dark page: it has a
//! ground of its own.

use std::fmt::Write as _;

const STYLE: &str = "\
svg{font:13px system-ui,sans-serif}\
.ground{fill:#fff}text{fill:#24292f}.soft{fill:#57606a;font-size:12px}.strong{font-weight:600}\
.mono{font-family:ui-monospace,monospace;font-size:10px;fill:#57606a}\
.box{fill:#f6f8fa;stroke:#8c959f}.line{stroke:#57606a;fill:none}.head{fill:#57606a}\
.rail{stroke:#d0d7de}.over{paint-order:stroke;stroke:#fff;stroke-width:4px;stroke-linejoin:round}.dashed{stroke-dasharray:5 4}\
.c0{stroke:#0969da}.c1{stroke:#bf8700}.c2{stroke:#8250df}\
@media(prefers-color-scheme:dark){\
.ground{fill:#0d1117}text{fill:#e6edf3}.soft,.mono{fill:#9198a1}\
.box{fill:#161b22;stroke:#6e7681}.line{stroke:#9198a1}.head{fill:#9198a1}.rail{stroke:#30363d}.over{stroke:#0d1117}\
.c0{stroke:#58a6ff}.c1{stroke:#e3b341}.c2{stroke:#c297ff}}";

pub(crate) struct Canvas {
    width: f64,
    shapes: String,
}

impl Canvas {
    pub(crate) fn new(width: f64) -> Self {
        Self { width, shapes: String::new() }
    }

    /// Words that begin, are centred or end at a place: `start`, `middle`, `end`.
    pub(crate) fn text(&mut self, class: &str, anchor: &str, (x, y): (f64, f64), text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let _ = writeln!(
            self.shapes,
            "<text class=\"{class}\" text-anchor=\"{anchor}\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>"
        );
    }

    pub(crate) fn rect(&mut self, class: &str, (x, y): (f64, f64), (width, height): (f64, f64)) {
        let _ = writeln!(
            self.shapes,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
             height=\"{height:.1}\" rx=\"6\"/>"
        );
    }

    /// A line through these places.
    pub(crate) fn line(&mut self, class: &str, places: &[(f64, f64)]) {
        let places = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect::<Vec<_>>();
        let _ = writeln!(
            self.shapes,
            "<polyline class=\"line {class}\" points=\"{}\"/>",
            places.join(" ")
        );
    }

    /// The same with a head at its end.
    pub(crate) fn arrow(&mut self, class: &str, places: &[(f64, f64)]) {
        self.line(class, places);
        let [.., (from_x, from_y), (x, y)] = *places else { return };
        let (dx, dy) = ((x - from_x).signum(), (y - from_y).signum());
        let (dx, dy) = if (x - from_x).abs() > (y - from_y).abs() { (dx, 0.0) } else { (0.0, dy) };
        let _ = writeln!(
            self.shapes,
            "<path class=\"head\" d=\"M{x:.1} {y:.1}L{:.1} {:.1}L{:.1} {:.1}Z\"/>",
            x - 8.0 * dx - 4.0 * dy,
            y - 8.0 * dy - 4.0 * dx,
            x - 8.0 * dx + 4.0 * dy,
            y - 8.0 * dy + 4.0 * dx,
        );
    }

    /// The picture, that high.
    pub(crate) fn finish(self, title: &str, height: f64) -> String {
        let Self { width, shapes } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             role=\"img\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
             <rect class=\"ground\" width=\"{width}\" height=\"{height}\"/>\n{shapes}</svg>\n"
        )
    }
}

/// About as wide is that text.
pub(crate) fn width_of(text: &str) -> f64 {
    text.chars().map(|_| 6.9).sum()
}

/// The same for bold letters.
pub(crate) fn width_of_strong(text: &str) -> f64 {
    width_of(text) * 1.16
}
