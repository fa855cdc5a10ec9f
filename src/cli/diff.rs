//! `drey diff`: what would change if Flink were started now.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::json;

use super::config::Output;
use super::{demand, print, settings, unexpected};
use crate::config::SettingsArgs;
use crate::control::{Call, DiffReport, Reply};

/// Something would change.
const DIFFERS: u8 = 2;

/// What `drey diff --help` ends with.
pub(super) const HELP: &str = "\
Compares the configuration that stands there with the one that Flink runs with. Values of keys that hold secrets are \
masked.

Exit codes: 0 nothing would change; 2 something would; 75 there is nothing to compare.";

/// What would change.
#[derive(Debug, clap::Args)]
pub(super) struct DiffArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// How it is shown
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(args: &DiffArgs, env: Vec<(OsString, OsString)>) -> anyhow::Result<ExitCode> {
    let settings = settings(&args.settings, env)?;
    let reply = demand(&settings, &Call::Diff)?;
    let Reply::Diff(report) = reply else {
        return Err(unexpected(&reply));
    };
    print(args.output, &text(&report), &json!(report))?;
    let same = report.wanted.as_deref() == Some(report.running.as_str());
    Ok(ExitCode::from(if same { 0 } else { DIFFERS }))
}

fn text(report: &DiffReport) -> String {
    let mut text = String::new();
    for (key, (before, after)) in &report.keys {
        for (sign, value) in [('-', before), ('+', after)] {
            if let Some(value) = value {
                let _ = writeln!(text, "{sign} {key}: {value}");
            }
        }
    }
    if let Some([before, after]) = &report.arguments {
        for (sign, arguments) in [('-', before), ('+', after)] {
            let _ = writeln!(text, "{sign} the job's arguments: {arguments:?}");
        }
    }
    for file in &report.files {
        let _ = writeln!(text, "~ {file}");
    }
    for reason in &report.refused {
        let _ = writeln!(text, "Refused: {reason}");
    }
    if let Some(why) = &report.rolled_back {
        let _ = writeln!(text, "Rolled back: {why}");
    }
    if report.on_trial {
        let _ = writeln!(
            text,
            "On trial: the running configuration has not been seen to work yet"
        );
    }
    if text.is_empty() {
        text.push_str("Nothing would change.\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_shown_line_by_line() {
        let value = |text: &str| Some(text.to_owned());
        let report = DiffReport {
            keys: [
                ("a".to_owned(), (value("1"), value("2"))),
                ("b".to_owned(), (None, value("******"))),
            ]
            .into(),
            files: vec!["log4j.properties".to_owned()],
            arguments: Some([vec![], vec!["--rate".to_owned(), "5".to_owned()]]),
            rolled_back: value("it died"),
            ..DiffReport::default()
        };
        let expected = "- a: 1\n+ a: 2\n+ b: ******\n- the job's arguments: []\n+ the job's arguments: [\"--rate\", \"5\"]\n~ log4j.properties\nRolled back: it died\n";
        assert_eq!(text(&report), expected);
        assert_eq!(text(&DiffReport::default()), "Nothing would change.\n");
    }
}
