//! Changes of Flink's configuration: what one asks for, which one is tried, and when the last good one comes back.
//!
//! A configuration is named by a digest of what it says, so that a touch, a comment or another order of keys is no change.
//! The [`Record`] is stored before anything is done, and [`next`] is level-triggered: a supervisor that died anywhere goes
//! on from what is stored. One digest is tried once. After it was rolled back it is not tried again before the
//! configuration says something else.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use serde::Serialize;

use super::rescale::{NewDefault, Scheduling};

mod difference;
mod memory;
mod record;

pub use difference::{Difference, KeyChange, shown, shown_arguments};
pub use memory::implausible;
pub use record::{Failed, Pending, Record, Trial, Version};

/// The files of a configuration directory: name and text.
pub type Files = BTreeMap<String, String>;

/// Among [`Files`]: the file with the job's arguments. No file of a directory and no key of a ConfigMap has such a name.
pub const ARGUMENTS: &str = "drey.io/arguments-file";

/// Among [`Files`], instead of [`ARGUMENTS`]: why that file cannot be read.
pub const NO_ARGUMENTS: &str = "drey.io/arguments-file-error";

/// A JobManager that has ended this often with a configuration that never worked is not started with it again.
const DEATHS: u32 = 2;

/// What a configuration directory says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Content {
    /// Flink's configuration, flat.
    pub keys: BTreeMap<String, String>,
    /// The other files, such as the configuration of the logs.
    pub others: Files,
    /// The job's arguments, of those that stand in a file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
}

impl Content {
    /// Names what the configuration says; 16 hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> String {
        hex(self)
    }

    /// Names what of it concerns TaskManagers.
    #[must_use]
    pub fn of_task_managers(&self) -> String {
        let keys = self.keys.iter();
        let keys: BTreeMap<_, _> = keys
            .filter(|(key, _)| difference::of_task_managers(key))
            .collect();
        hex(&(keys, &self.others))
    }
}

fn hex(value: &impl Serialize) -> String {
    let text = serde_json::to_vec(value).expect("only string keys");
    let sum = digest(&SHA256, &text);
    sum.as_ref()
        .iter()
        .take(8)
        .fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// What is done about changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum OnChange {
    /// The job goes on as it is; the change takes effect with the next start.
    #[default]
    Ignore,
    /// The job is stopped with a savepoint and started again.
    Restart,
    /// As [`Restart`](Self::Restart), for changes of the parallelism alone: where the scheduler can, without a restart.
    RescaleOnly,
}

/// What a change asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Nothing: it says the same.
    None,
    /// The policy leaves it for the next start.
    Ignored(Difference),
    /// A restart.
    Restart(Difference),
    /// It would not work: why.
    Refused(Vec<String>),
}

impl Change {
    /// What waits for a person or for the next start.
    #[must_use]
    pub fn pending(&self) -> Option<String> {
        match self {
            Self::None | Self::Restart(_) => None,
            Self::Ignored(difference) => {
                Some(format!("left for the next start: {}", difference.names()))
            }
            Self::Refused(reasons) => Some(format!("refused: {}", reasons.join("; "))),
        }
    }
}

/// What the change from `running` to `wanted` asks for; `flaws` are what else was found against it.
#[must_use]
pub fn judge(
    policy: OnChange,
    running: &Content,
    wanted: &Result<Content, String>,
    flaws: Vec<String>,
) -> Change {
    let wanted = match wanted {
        Ok(wanted) => wanted,
        Err(why) => return Change::Refused(vec![why.clone()]),
    };
    let difference = Difference::between(running, wanted);
    if difference.is_empty() {
        return Change::None;
    }
    let mut reasons = difference.refused();
    reasons.extend(implausible(&wanted.keys));
    reasons.extend(flaws);
    match policy {
        _ if !reasons.is_empty() => Change::Refused(reasons),
        // Which is read by nobody there.
        _ if difference.only_parallelism() && is_reactive(running) => Change::Ignored(difference),
        OnChange::Restart => Change::Restart(difference),
        OnChange::RescaleOnly if difference.only_parallelism() => Change::Restart(difference),
        OnChange::RescaleOnly | OnChange::Ignore => Change::Ignored(difference),
    }
}

/// A job uses all slots that there are, whatever its parallelism is said to be.
#[must_use]
pub fn is_reactive(running: &Content) -> bool {
    Scheduling::of(&running.keys, true) == Scheduling::Reactive
}

/// With which configuration Flink is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// With what stands there.
    Wanted,
    /// With the last good one; why, when that was decided just now.
    Good(Version, Option<String>),
}

/// What a start uses when the configuration says `wanted`, and what to store before; `by` is when a configuration that
/// was not seen to work has to.
#[must_use]
pub fn at_start(
    record: &Record,
    wanted: Result<&Version, &str>,
    now: Timestamp,
    by: Timestamp,
) -> (Start, Record) {
    let record = &Record {
        rescaled_from: None,
        pending: None,
        ..record.clone()
    };
    let Some(good) = record.good.clone() else {
        return (Start::Wanted, record.clone());
    };
    let wanted = match wanted {
        Ok(wanted) => wanted,
        Err(_) => return (Start::Good(good, None), record.clone()),
    };
    if wanted.digest == good.digest {
        let trial = None;
        let record = record.clone();
        return (Start::Wanted, Record { trial, ..record });
    }
    if record.has_failed(&wanted.digest) {
        return (Start::Good(good, None), record.clone());
    }
    let mut next = if record.tries(&wanted.digest) {
        record.clone()
    } else {
        record.tried(wanted.clone())
    };
    let Some(trial) = &mut next.trial else {
        return (Start::Wanted, next);
    };
    let deadline = *trial.deadline.get_or_insert(by);
    let why = if trial.deaths >= DEATHS {
        format!("its JobManager has ended {} times", trial.deaths)
    } else if deadline <= now {
        "the job did not work in time".to_owned()
    } else {
        return (Start::Wanted, next);
    };
    let record = next.rolled_back(why.clone());
    (Start::Good(good, Some(why)), record)
}

/// What is known while Flink runs.
#[derive(Debug, Clone)]
pub struct View<'a> {
    /// The time.
    pub now: Timestamp,
    /// The digest of what Flink was started with.
    pub running: &'a str,
    /// The digest of what stands there now, and what the change asks for; `None`: nobody can say.
    pub wanted: Option<(&'a str, &'a Change)>,
    /// All tasks run, and a checkpoint was completed since the start.
    pub works: bool,
    /// A savepoint is under way, or all tasks do not run: nothing can be applied now.
    pub busy: bool,
    /// The change can be made without a restart.
    pub in_place: Option<NewDefault>,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Nothing,
    /// What runs works: [`Record::confirmed`].
    Confirm,
    /// What is tried does not work: [`Record::rolled_back`], and an end of Flink.
    RollBack(String),
    /// [`Record::tried`], and a stop-with-savepoint.
    Apply,
    /// Another parallelism while the job runs on, and [`Record::rescaled`].
    Rescale(NewDefault),
    /// [`Record::settled`]: what stands there is what runs.
    Forget,
    /// The change is left for the next start.
    Ignore,
    /// The change would not work: why.
    Refuse(Vec<String>),
}

/// What to do next.
#[must_use]
pub fn next(record: &Record, view: &View<'_>) -> Step {
    let tried = record.trial.as_ref();
    let tried = tried.filter(|trial| trial.version.digest == view.running);
    let known = record
        .good
        .as_ref()
        .is_some_and(|it| it.digest == view.running);
    let news = tried.is_some() || !known || record.has_stumbled();
    if view.works && !record.has_failed(view.running) && news {
        return Step::Confirm;
    }
    let step = match view.wanted {
        None | Some((_, Change::None)) => Step::Nothing,
        Some((digest, _)) if record.has_failed(digest) => Step::Nothing,
        Some((_, Change::Ignored(_))) => Step::Ignore,
        Some((_, Change::Refused(reasons))) => Step::Refuse(reasons.clone()),
        // What is tried and does not come up need not stop with a savepoint.
        Some((_, Change::Restart(_))) if view.busy && tried.is_none() => Step::Nothing,
        Some((_, Change::Restart(_))) => match view.in_place {
            Some(wanted) if tried.is_none() => Step::Rescale(wanted),
            _ => Step::Apply,
        },
    };
    // Who had decided so died before the end of Flink.
    let condemned = record.failed.as_ref();
    let condemned = condemned.filter(|failed| failed.digest == view.running);
    if let (Some(failed), Some(_)) = (condemned, &record.good)
        && step != Step::Apply
    {
        return Step::RollBack(failed.why.clone());
    }
    let overdue = tried
        .and_then(|trial| trial.deadline)
        .is_some_and(|by| by <= view.now);
    if overdue && step != Step::Apply && record.good.is_some() {
        return Step::RollBack("the job did not work in time".to_owned());
    }
    // Another trial than the running one was begun and taken back before the job was stopped.
    let moot = record.trial.is_some() && tried.is_none();
    if matches!(view.wanted, Some((_, Change::None))) && (moot || record.failed.is_some()) {
        return Step::Forget;
    }
    step
}

#[cfg(test)]
mod tests;
