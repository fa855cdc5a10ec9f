//! Whether a job can have another parallelism without a restart of its JobManager, and what to ask Flink for.
//!
//! With the adaptive scheduler a job has *requirements*: the least and the most parallelism of each vertex. Flink 1.18 and
//! newer take new ones while the job runs; it then restores the tasks from the newest checkpoint with as much parallelism as
//! there are slots for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::changes::Difference;

/// How a job gets its parallelism, as far as configuration and version tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheduling {
    /// From requirements that can be changed while it runs.
    Adaptive,
    /// From the slots that there are: nobody else decides on it.
    Reactive,
    /// It is fixed for as long as the job runs.
    Fixed,
    /// This Flink has the adaptive scheduler, but takes no new requirements.
    TooOld,
}

impl Scheduling {
    /// What Flink's configuration says. `able`: Flink 1.18 or newer. Values are taken in any case, as Flink does.
    #[must_use]
    pub fn of(configuration: &BTreeMap<String, String>, able: bool) -> Self {
        let is = |key: &str, wanted: &str| {
            let value = configuration.get(key);
            value.is_some_and(|value| value.eq_ignore_ascii_case(wanted))
        };
        if is("scheduler-mode", "reactive") {
            Self::Reactive
        } else if !is("jobmanager.scheduler", "adaptive") {
            Self::Fixed
        } else if able {
            Self::Adaptive
        } else {
            Self::TooOld
        }
    }

    /// Why the parallelism cannot be changed in place; `None` when it can.
    #[must_use]
    pub fn obstacle(self) -> Option<Obstacle> {
        match self {
            Self::Adaptive => None,
            Self::Reactive => Some(Obstacle::Refused(
                "the cluster is in reactive mode, in which a job always uses all slots; start or end TaskManagers instead"
                    .to_owned(),
            )),
            Self::Fixed => Some(Obstacle::Scheduler(
                "the job's scheduler is not the adaptive one (`jobmanager.scheduler: adaptive`)",
            )),
            Self::TooOld => Some(Obstacle::Scheduler(
                "Flink before 1.18 cannot change the parallelism of a running job",
            )),
        }
    }
}

/// Why a job is not rescaled in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// Not with this scheduler: a stop with a savepoint and a start from it can do it.
    Scheduler(&'static str),
    /// There are too few slots now.
    Slots(String),
    /// As it is wanted it can be done by no means; why, and what to do.
    Refused(String),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheduler(why) => write!(
                f,
                "not in place: {why}; stop the job with a savepoint and start it with the other parallelism: \
                 `drey job upgrade --parallelism N`"
            ),
            Self::Slots(why) | Self::Refused(why) => f.write_str(why),
        }
    }
}

/// Another `parallelism.default`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewDefault {
    /// What it was.
    pub before: u32,
    /// What it is to be.
    pub after: u32,
}

/// The new `parallelism.default`, if nothing else differs and a job can have it in place. `running` is the configuration that
/// Flink was started with; `able`: Flink 1.18 or newer.
#[must_use]
pub fn parallelism_alone(
    running: &BTreeMap<String, String>,
    able: bool,
    difference: &Difference,
) -> Option<NewDefault> {
    // Which vertices these name, and what they had before, is decided when a job is submitted.
    let overridden = running.contains_key("pipeline.jobvertex-parallelism-overrides");
    let [change] = difference.keys.as_slice() else {
        return None;
    };
    let alone = change.key == "parallelism.default" && difference.only_parallelism();
    if !alone || overridden || Scheduling::of(running, able).obstacle().is_some() {
        return None;
    }
    // Without a value it is 1 (`CoreOptions.DEFAULT_PARALLELISM`).
    let number = |text: &Option<String>| -> Option<u32> {
        let number = text.as_deref().unwrap_or("1").trim().parse().ok();
        number.filter(|wanted| *wanted > 0)
    };
    Some(NewDefault {
        before: number(&change.before)?,
        after: number(&change.after)?,
    })
}

/// The parallelism that somebody wants; at least one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Of all vertices that are not named below.
    pub all: Option<u32>,
    /// Of single vertices, by id or name.
    pub vertices: BTreeMap<String, u32>,
    /// Of those alone that have the default, for the job's code may say what others have.
    pub default: Option<NewDefault>,
}

/// One vertex of a job: operators that are chained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vertex {
    /// 32 hex digits.
    pub id: String,
    /// The names of its operators.
    pub name: String,
    /// Its parallelism now.
    pub parallelism: u32,
    /// The most that its state can be divided into; `None` when it is not known.
    pub max_parallelism: Option<u32>,
    /// How many of its tasks run or are done.
    pub running: u32,
    /// Its slot sharing group, where Flink tells: vertices of one group share slots.
    pub group: Option<String>,
}

/// The least and the most parallelism of one vertex.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The job waits for resources when it cannot have this.
    pub lower: u32,
    /// It uses no more than this.
    pub upper: u32,
}

/// Requirements by vertex id.
pub type Requirements = BTreeMap<String, Bounds>;

/// Parallelism by vertex id.
pub type Targets = BTreeMap<String, u32>;

/// What there is to be rescaled.
#[derive(Debug, Clone)]
pub struct Situation<'a> {
    /// The job's vertices.
    pub vertices: &'a [Vertex],
    /// What is asked of Flink now.
    pub requirements: &'a Requirements,
    /// Slots that no task uses; `None` where Flink itself starts TaskManagers for what it lacks.
    pub free_slots: Option<u32>,
}

/// What Flink is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The parallelism that the vertices are to have.
    pub targets: Targets,
    /// The new requirements, of every vertex: Flink takes no others.
    pub requirements: Requirements,
}

/// What to ask Flink for so that the job has the wanted parallelism. An order that is what the job has already changes
/// nothing.
///
/// # Errors
/// When no such job can run.
pub fn plan(wanted: &Wanted, seen: &Situation<'_>) -> Result<Order, Obstacle> {
    let targets = match wanted.default {
        Some(default) => targets_of_default(default, seen)?,
        None => targets(wanted, seen.vertices)?,
    };
    for vertex in seen.vertices {
        let (Some(target), Some(most)) = (targets.get(&vertex.id), vertex.max_parallelism) else {
            continue;
        };
        if *target > most {
            return Err(Obstacle::Refused(format!(
                "parallelism {target} is more than the maximum of {most} that {} ({}) has, which is part of its state; ask \
                 for at most {most}",
                short(&vertex.name),
                vertex.id
            )));
        }
    }
    if let Some(free) = seen.free_slots {
        check_slots(free, &targets, seen.vertices)?;
    }
    let bounds = |vertex: &Vertex| {
        let known = seen.requirements.get(&vertex.id);
        let target = targets.get(&vertex.id).copied();
        let as_before = known.map_or(vertex.parallelism, |known| known.upper);
        let upper = target.unwrap_or(as_before);
        let bounds = Bounds {
            // Else the loss of one TaskManager would stop a job that was never meant to wait for all of its slots.
            lower: known.map_or(1, |known| known.lower).min(upper),
            upper,
        };
        (vertex.id.clone(), bounds)
    };
    let requirements = seen.vertices.iter().map(bounds).collect();
    Ok(Order {
        targets,
        requirements,
    })
}

/// Those that have it already are among them: who asked for it may have died meanwhile.
fn targets_of_default(default: NewDefault, seen: &Situation<'_>) -> Result<Targets, Obstacle> {
    let meant = seen
        .requirements
        .iter()
        .filter(|(_, known)| known.upper == default.before || known.upper == default.after);
    let targets: Targets = meant.map(|(id, _)| (id.clone(), default.after)).collect();
    match targets.is_empty() {
        true => Err(Obstacle::Scheduler(
            "no vertex of the job has the parallelism of `parallelism.default`",
        )),
        false => Ok(targets),
    }
}

fn targets(wanted: &Wanted, vertices: &[Vertex]) -> Result<Targets, Obstacle> {
    let now = vertices.iter().map(|vertex| {
        let target = wanted.all.unwrap_or(vertex.parallelism);
        (vertex.id.clone(), target)
    });
    let mut targets: Targets = now.collect();
    for (named, target) in &wanted.vertices {
        let meant: Vec<&Vertex> = vertices
            .iter()
            .filter(|vertex| vertex.id == *named || vertex.name == *named)
            .collect();
        let [vertex] = meant.as_slice() else {
            let known: Vec<String> = vertices
                .iter()
                .map(|vertex| format!("{} ({})", vertex.id, short(&vertex.name)))
                .collect();
            let many = if meant.is_empty() {
                "no"
            } else {
                "more than one"
            };
            return Err(Obstacle::Refused(format!(
                "there is {many} vertex {named:?}; name one of: {}",
                known.join(", ")
            )));
        };
        targets.insert(vertex.id.clone(), *target);
    }
    Ok(targets)
}

fn check_slots(free: u32, targets: &Targets, vertices: &[Vertex]) -> Result<(), Obstacle> {
    let used = slots(vertices, |vertex| vertex.parallelism);
    let needed = slots(vertices, |vertex| {
        let target = targets.get(&vertex.id).copied();
        target.unwrap_or(vertex.parallelism)
    });
    let there = free.saturating_add(used);
    if needed <= there {
        return Ok(());
    }
    Err(Obstacle::Slots(format!(
        "too few slots: {needed} are needed, and there are {there} for this job; start more TaskManagers first"
    )))
}

/// A group needs as many slots as its widest vertex has tasks. Where groups are not known there is but one.
fn slots(vertices: &[Vertex], parallelism: impl Fn(&Vertex) -> u32) -> u32 {
    let groups: BTreeSet<&Option<String>> = vertices.iter().map(|vertex| &vertex.group).collect();
    let of = |group: &Option<String>| {
        let inside = vertices.iter().filter(|vertex| vertex.group == *group);
        inside.map(&parallelism).max().unwrap_or_default()
    };
    groups.into_iter().map(of).fold(0, u32::saturating_add)
}

/// How far a job is on its way to `targets`: all tasks run with the wanted parallelism, or what it has instead.
///
/// # Errors
/// What it has, in words.
pub fn reached(targets: &Targets, vertices: &[Vertex]) -> Result<(), String> {
    let missing: Vec<String> = vertices
        .iter()
        .filter_map(|vertex| {
            let target = *targets.get(&vertex.id)?;
            let there = vertex.parallelism == target && vertex.running == target;
            let (name, running) = (short(&vertex.name), vertex.running);
            (!there).then(|| format!("{name} has {running} of {target} tasks running"))
        })
        .collect();
    match missing.is_empty() && !vertices.is_empty() {
        true => Ok(()),
        false => Err(missing.join(", ")),
    }
}

/// Names of chained operators can be as long as a query.
fn short(name: &str) -> String {
    const MOST: usize = 40;
    match name.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?}…", &name[..end]),
        None => format!("{name:?}"),
    }
}

#[cfg(test)]
mod tests;
