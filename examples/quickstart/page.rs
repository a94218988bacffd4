//! The report as one self-contained page, for `--html`.

use std::fmt::Write as _;

use crate::{
    chart::chart,
    markup::escape,
    phase::Phase,
    report::{HEAD, Report},
};

const STYLE: &str = "\
:root{color-scheme:light dark;--text:#24292f;--soft:#57606a;--ground:#fff;--rule:#d8dee4;\
--good:#1a7f37;--bad:#cf222e}\
@media(prefers-color-scheme:dark){:root{--text:#e6edf3;--soft:#9198a1;--ground:#0d1117;\
--rule:#2b3138;--good:#3fb950;--bad:#ff7b72}}\
body{max-width:60rem;margin:2rem auto;padding:0 1rem;font:16px/1.5 system-ui,sans-serif;\
color:var(--text);background:var(--ground)}\
h1{font-size:1.5rem;margin-bottom:.3rem}h2{font-size:1.15rem;margin:2.2rem 0 .4rem}h3{font-size:1rem;margin:.8rem 0 0}\
dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem 1rem;color:var(--soft);margin:.6rem 0}\
dd{margin:0;overflow-wrap:anywhere}.table{overflow-x:auto}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums;width:100%}\
th,td{padding:.3rem .7rem;text-align:right;border-bottom:1px solid var(--rule);white-space:nowrap}\
th:first-child,td:first-child{text-align:left;padding-left:0}th{font-weight:600}\
figure{margin:.6rem 0}svg{display:block;width:100%;height:auto}\
ul{list-style:none;padding:0;margin:.4rem 0}.good::before{content:\"✓ \";color:var(--good)}\
.bad::before{content:\"✗ failed: \";color:var(--bad)}.verdict{font-weight:600}\
ol{list-style:none;padding:0;margin:.4rem 0;color:var(--soft)}\
time{display:inline-block;min-width:4.2rem;font-variant-numeric:tabular-nums}";

pub(crate) fn page(report: &Report) -> String {
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n<h1>{title}</h1>\n",
        title = escape(report.title),
    );
    definitions(&mut html, report.cast.iter().map(|(name, what)| (*name, what.as_str())));
    let verdict = if report.is_good() {
        "All checks passed."
    } else {
        "Some checks failed: they are marked below."
    };
    let _ = writeln!(html, "<p class=\"verdict\">{verdict}</p>");
    table(&mut html, report);
    definitions(&mut html, report.legend().into_iter());
    for phases in report.phases.chunks(report.abreast) {
        figure(&mut html, phases);
    }
    html.push_str("</html>\n");
    html
}

fn definitions<'a>(html: &mut String, pairs: impl Iterator<Item = (&'a str, &'a str)>) {
    html.push_str("<dl>\n");
    for (word, meaning) in pairs {
        let _ = writeln!(html, "<dt>{}</dt><dd>{}</dd>", escape(word), escape(meaning));
    }
    html.push_str("</dl>\n");
}

fn table(html: &mut String, report: &Report) {
    html.push_str("<div class=\"table\"><table>\n");
    row(html, "th", &HEAD);
    for phase in &report.phases {
        row(html, "td", &phase.row());
    }
    html.push_str("</table></div>\n");
}

fn row(html: &mut String, cell: &str, texts: &[impl AsRef<str>]) {
    html.push_str("<tr>");
    for text in texts {
        let _ = write!(html, "<{cell}>{}</{cell}>", escape(text.as_ref()));
    }
    html.push_str("</tr>\n");
}

fn figure(html: &mut String, phases: &[Phase]) {
    let Some(first) = phases.first() else { return };
    let _ = writeln!(html, "<h2>{}</h2>", escape(first.name));
    let id = first.name.replace(' ', "-");
    let _ = writeln!(html, "<figure>\n{}</figure>", chart(&id, phases));
    for phase in phases {
        if phases.len() > 1 {
            let _ = writeln!(html, "<h3>{}</h3>", escape(phase.name));
        }
        details(html, phase);
    }
}

/// The events and the checks of a phase.
fn details(html: &mut String, phase: &Phase) {
    html.push_str("<ol>\n");
    for (at, event) in phase.story.events() {
        let (at, event) = (at.as_secs_f64(), escape(&event));
        let _ = writeln!(html, "<li><time>{at:.2} s</time>{event}</li>");
    }
    html.push_str("</ol>\n<ul>\n");
    for (what, happened) in &phase.checks {
        let class = if *happened { "good" } else { "bad" };
        let _ = writeln!(html, "<li class=\"{class}\">{}</li>", escape(what));
    }
    html.push_str("</ul>\n");
    if let Some(failure) = phase.first_failure() {
        let _ = writeln!(html, "<p>The first failure: {}</p>", escape(failure));
    }
}
