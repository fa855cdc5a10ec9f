//! The job's own arguments in the command of a standalone JobManager: they come last.
//!
//! Flink reads options of its own up to the first word that it does not know (`CommandLineParser`, which stops at
//! non-options). In a command without arguments of the job it would take `--host` for its own, so `--` goes before them, as
//! its parser (commons-cli) has it.

use std::ffi::{OsStr, OsString};

/// What Flink's parser takes for the end of its options.
const END: &str = "--";

/// Options of Flink's standalone JobManagers that have a value, in all versions.
const WITH_VALUE: [&str; 16] = [
    "D",
    "c",
    "configDir",
    "j",
    "job-classname",
    "jid",
    "job-id",
    "s",
    "fromSavepoint",
    "rm",
    "restoreMode",
    "claimMode",
    "r",
    "webui-port",
    "h",
    "host",
];

/// Those that have none.
const WITHOUT: [&str; 2] = ["n", "allowNonRestoredState"];

/// The one with any number of them.
const LIST: &str = "jars";

/// What is to be put behind `args`, where the words after `begin` are read by Flink.
pub(super) fn appended<'a>(
    args: impl Iterator<Item = &'a OsStr>,
    begin: impl Fn(&OsStr) -> bool,
    job_args: &[String],
) -> Vec<OsString> {
    let mut args = args.skip_while(|arg| !begin(arg));
    let standalone = args.next().is_some();
    let words: Vec<&str> = args.filter_map(OsStr::to_str).collect();
    let separator = standalone && !job_args.is_empty() && !ends_options(&words);
    let separator = separator.then_some(END);
    let job_args = job_args.iter().map(String::as_str);
    separator
        .into_iter()
        .chain(job_args)
        .map(OsString::from)
        .collect()
}

/// `line` without what was put behind it.
pub(in crate::launcher) fn without(mut line: Vec<OsString>, job_args: &[String]) -> Vec<OsString> {
    let job: Vec<&OsStr> = job_args.iter().map(OsStr::new).collect();
    if !job.is_empty() && line.ends_with(&job.iter().map(OsString::from).collect::<Vec<_>>()) {
        line.truncate(line.len() - job.len());
        if line.last().is_some_and(|last| last == END) {
            line.pop();
        }
    }
    line
}

/// Whether Flink's options end somewhere in these words: what follows is the job's.
fn ends_options(words: &[&str]) -> bool {
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        let name = word.trim_start_matches('-');
        let (name, joined) = match name.split_once('=') {
            Some((name, _)) => (name, true),
            None => (name, false),
        };
        if *word == END || !word.starts_with('-') {
            return true;
        } else if name == LIST {
            while words.next_if(|word| !word.starts_with('-')).is_some() {}
        } else if WITH_VALUE.contains(&name) {
            if !joined {
                words.next();
            }
        } else if !(WITHOUT.contains(&name) || word.starts_with("-D")) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(line: &str, job_args: &[&str]) -> String {
        let job_args: Vec<String> = job_args.iter().map(|arg| (*arg).to_owned()).collect();
        let mut words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let before = words.clone();
        let more = appended(
            words.iter().map(OsString::as_os_str),
            |word| word == "standalone-job",
            &job_args,
        );
        words.extend(more);
        assert_eq!(without(words.clone(), &job_args), before);
        words.join(OsStr::new(" ")).into_string().expect("text")
    }

    #[test]
    fn the_jobs_arguments_come_last_and_flink_takes_none_of_them_for_its_own() {
        for (line, separated) in [
            ("standalone-job", true),
            ("standalone-job --job-classname x.Job -n -D a=b -Dc=d", true),
            ("standalone-job --job-id=0 --jars a.jar b.jar", true),
            ("standalone-job --host 0.0.0.0 -r 8081", true),
            ("standalone-job -j x.Job --input a", false),
            ("standalone-job -j x.Job input", false),
            ("standalone-job -j x.Job -- --host a", false),
            ("my-script --host a", false),
        ] {
            let end = if separated {
                " -- --host b"
            } else {
                " --host b"
            };
            assert_eq!(with(line, &["--host", "b"]), format!("{line}{end}"));
            assert_eq!(with(line, &[]), line);
        }
    }
}
