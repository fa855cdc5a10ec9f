//! The report for people.

use std::fmt::Write as _;

use super::{Finding, Report, State};

impl Report {
    /// By group, with a mark for each finding and a remedy for each that is not good. `terminal`: with signs, else with words.
    #[must_use]
    pub fn text(&self, terminal: bool) -> String {
        let mut text = String::new();
        let mut group = None;
        for finding in &self.findings {
            if group.replace(finding.group) != Some(finding.group) {
                let gap = if text.is_empty() { "" } else { "\n" };
                let _ = writeln!(text, "{gap}{}", finding.group.title());
            }
            text.push_str(&line(finding, terminal));
        }
        let _ = writeln!(text, "\n{}", self.summary());
        text
    }

    fn summary(&self) -> String {
        let [ok, unknown, warnings, failed] =
            [State::Ok, State::Unknown, State::Warning, State::Failed]
                .map(|state| self.count(state));
        format!("{ok} ok, {warnings} warnings, {failed} failed, {unknown} unknown")
    }
}

fn line(finding: &Finding, terminal: bool) -> String {
    let mark = mark(finding.state, terminal);
    let of = finding
        .subject
        .as_ref()
        .map(|subject| format!(", {subject}"));
    let (title, of) = (finding.title, of.unwrap_or_default());
    let mut text = format!("  {mark} {title}{of}: {}\n", finding.found);
    if let Some(remedy) = &finding.remedy {
        let _ = writeln!(text, "    → {remedy} ({})", finding.doc);
    }
    text
}

fn mark(state: State, terminal: bool) -> &'static str {
    match (state, terminal) {
        (State::Ok, true) => "✓",
        (State::Warning, true) => "!",
        (State::Failed, true) => "✗",
        (State::Unknown, true) => "?",
        (State::Ok, false) => "[ok]",
        (State::Warning, false) => "[warning]",
        (State::Failed, false) => "[failed]",
        (State::Unknown, false) => "[unknown]",
    }
}
