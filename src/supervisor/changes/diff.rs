//! What `drey diff` shows.

use super::Running;
use crate::changes::content;
use crate::control::{DiffReport, Reply};
use crate::domain::changes::{Change, Difference, Files, shown, shown_arguments};
use crate::supervisor::Supervisor;

impl Supervisor {
    /// What would change if Flink were started now.
    pub(in crate::supervisor) fn diff(&mut self) -> Reply {
        let record = self.configurations();
        let Some(running) = self.running_now() else {
            return later(
                "Flink does not run here, or a session cluster does: there is nothing to compare with",
            );
        };
        let Some(files) = self.wanted_files() else {
            return later("the configuration has not been seen yet; try again");
        };
        let mut report = self.report_of(running, &files);
        let wanted = report.wanted.as_deref();
        let failed = record
            .failed
            .filter(|failed| wanted == Some(failed.digest.as_str()));
        report.rolled_back = failed.map(|failed| failed.why);
        report.on_trial = record.trial.is_some();
        Reply::Diff(Box::new(report))
    }

    fn report_of(&self, running: &Running, files: &Files) -> DiffReport {
        let wanted = content(files, running.flink);
        let change = self.wanted_change(running).map(|(_, change, _)| change);
        let refused = match change {
            Some(Change::Refused(reasons)) => reasons,
            _ => Vec::new(),
        };
        let mut report = DiffReport {
            running: running.version.digest.clone(),
            refused,
            ..DiffReport::default()
        };
        if let Ok(wanted) = wanted {
            let difference = Difference::between(&running.content, &wanted);
            report.wanted = Some(wanted.digest());
            report.only_parallelism = difference.only_parallelism() && !difference.is_empty();
            report.concerns_task_managers = difference.concerns_task_managers();
            for change in difference.keys {
                let mask = |value: Option<String>| {
                    value.map(|value| shown(&change.key, &value).to_owned())
                };
                let both = (mask(change.before.clone()), mask(change.after.clone()));
                report.keys.insert(change.key, both);
            }
            report.files = difference.files;
            if difference.arguments {
                let all = [&running.content, &wanted];
                report.arguments = Some(all.map(|it| shown_arguments(&it.arguments)));
            }
        }
        report
    }
}

fn later(error: &str) -> Reply {
    Reply::Failed {
        error: error.to_owned(),
        code: 75,
    }
}
