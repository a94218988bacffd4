//! The charts, as SVG that is readable on light and on dark backgrounds: it has none of its own, and
//! its colours stand between the two.

use std::fmt::Write;

use crate::{expiry, expiry::BEFORE, peers::Peer, warm};

const GREY: &str = "#7d8590";
const OURS: &str = "#2da44e";
const WIDTH: f64 = 760.0;

/// What a request costs that finds a token: a bar for each peer, with the middle half of its rounds.
pub(crate) fn cost(rows: &[warm::Row]) -> String {
    const LEFT: f64 = 180.0;
    const BAR: f64 = 28.0;
    const TOP: f64 = 52.0;
    let most = rows.iter().map(|row| row.nanos.high).fold(0.0, f64::max);
    let scale = |nanos: f64| LEFT + nanos / most * (WIDTH - LEFT - 220.0);
    let height = TOP + BAR * rows.len() as f64 + 12.0;
    let mut svg =
        open(height, "A request that finds a token: nanoseconds, and allocations above the floor");
    for (nth, row) in rows.iter().enumerate() {
        let (top, middle) = (TOP + BAR * nth as f64, TOP + BAR * (nth as f64 + 0.5));
        let colour = if is_ours(row.peer) { OURS } else { GREY };
        let end = scale(row.nanos.median);
        text(&mut svg, LEFT - 8.0, middle + 4.0, "end", row.peer.name());
        add(
            &mut svg,
            &format!(
                r#"<rect x="{LEFT}" y="{:.1}" width="{:.1}" height="{:.1}" fill="{colour}" rx="2"/>"#,
                top + 5.0,
                end - LEFT,
                BAR - 10.0
            ),
        );
        let (low, high) = (scale(row.nanos.low), scale(row.nanos.high));
        line(&mut svg, &[(low, middle), (high, middle)], "#bf8700", 3.0, "");
        let floor = floor_of(row, rows);
        let above = row.allocations.saturating_sub(floor.allocations);
        let allocations = match above {
            0 if row.peer == row.peer.floor() => String::new(),
            0 => ", no allocation".to_owned(),
            1 => ", 1 allocation".to_owned(),
            above => format!(", {above} allocations"),
        };
        let label = format!("{:.0} ns, x {:.2}{allocations}", row.nanos.median, row.ratio.median);
        text(&mut svg, high + 8.0, middle + 4.0, "start", &label);
    }
    close(svg)
}

/// The longest wait at each moment around the fetch of the next token.
pub(crate) fn expiry(rows: &[expiry::Row]) -> String {
    const HEIGHT: f64 = 420.0;
    const LEFT: f64 = 64.0;
    const RIGHT: f64 = WIDTH - 170.0;
    const TOP: f64 = 52.0;
    const BOTTOM: f64 = HEIGHT - 44.0;
    // Milliseconds: a microsecond to a second.
    const DECADES: [(f64, &str); 7] = [
        (1e-3, "1 µs"),
        (1e-2, "10 µs"),
        (0.1, "100 µs"),
        (1.0, "1 ms"),
        (10.0, "10 ms"),
        (100.0, "100 ms"),
        (1000.0, "1 s"),
    ];
    // Those that lie on one another are dashed, so that all are seen.
    const LINES: [(&str, &str); 5] = [
        ("#bf8700", ""),
        ("#cf222e", ""),
        ("#8250df", r#" stroke-dasharray="8 6""#),
        ("#0969da", ""),
        ("#bc4c00", r#" stroke-dasharray="2 5""#),
    ];
    let x = |at: f64| LEFT + (at + BEFORE) / (BEFORE + expiry::AFTER) * (RIGHT - LEFT);
    let y = |millis: f64| BOTTOM - (millis.max(1e-3).log10() + 3.0) / 6.0 * (BOTTOM - TOP);
    let mut svg =
        open(HEIGHT, "Latency through an expiry: longest wait in each 10 ms, 10,000 requests/s");
    for (millis, label) in DECADES {
        add(
            &mut svg,
            &format!(
                r#"<path d="M{LEFT} {0:.1}H{RIGHT}" stroke="{GREY}" stroke-opacity=".3"/>"#,
                y(millis)
            ),
        );
        text(&mut svg, LEFT - 8.0, y(millis) + 4.0, "end", label);
    }
    for tenths in [-2, 0, 2, 4, 6] {
        let at = f64::from(tenths) / 10.0;
        text(&mut svg, x(at), BOTTOM + 18.0, "middle", &format!("{} ms", tenths * 100));
    }
    text(
        &mut svg,
        x(0.2),
        BOTTOM + 36.0,
        "middle",
        "since the fetch of the next token began; it takes 200 ms",
    );
    let shown = rows.iter().filter(|row| row.peer.fetches() && row.peer != Peer::NoReplay);
    // Ours last, so that it is on top.
    let (ours, others): (Vec<_>, Vec<_>) = shown.partition(|row| is_ours(row.peer));
    let lines = LINES.into_iter().map(|(colour, dashes)| (colour, 1.5, dashes));
    let lines = lines.chain([(OURS, 2.5, "")]);
    for (nth, (row, (colour, width, dashes))) in
        others.into_iter().chain(ours).zip(lines).enumerate()
    {
        let points: Vec<_> = row.course.iter().map(|(at, millis)| (x(*at), y(*millis))).collect();
        line(&mut svg, &points, colour, width, dashes);
        let at = TOP + 20.0 * nth as f64;
        line(&mut svg, &[(RIGHT + 10.0, at), (RIGHT + 36.0, at)], colour, width + 1.0, dashes);
        text(&mut svg, RIGHT + 42.0, at + 4.0, "start", row.peer.name());
    }
    close(svg)
}

fn is_ours(peer: Peer) -> bool {
    matches!(peer, Peer::NoReplay | Peer::CloneBody)
}

pub(crate) fn floor_of<'a>(row: &warm::Row, rows: &'a [warm::Row]) -> &'a warm::Row {
    rows.iter().find(|other| other.peer == row.peer.floor()).expect("every floor is a row")
}

fn open(height: f64, title: &str) -> String {
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" font-family="system-ui, sans-serif" font-size="13" fill="{GREY}" role="img" aria-label="{title}">"#
    );
    svg.push('\n');
    add(
        &mut svg,
        &format!(r#"<text x="12" y="26" font-size="15" font-weight="600">{title}</text>"#),
    );
    svg
}

fn close(svg: String) -> String {
    svg + "</svg>\n"
}

fn add(svg: &mut String, element: &str) {
    svg.push_str(element);
    svg.push('\n');
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    add(svg, &format!(r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#));
}

fn line(svg: &mut String, points: &[(f64, f64)], colour: &str, width: f64, dashes: &str) {
    let mut path = String::new();
    for (x, y) in points {
        let command = if path.is_empty() { 'M' } else { 'L' };
        write!(path, "{command}{x:.1} {y:.1}").expect("a text has room");
    }
    add(
        svg,
        &format!(
            r#"<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}"{dashes} stroke-linejoin="round"/>"#
        ),
    );
}
