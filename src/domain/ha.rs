//! A start with Flink's own high availability, whose metadata win over the start path.

use super::pointer::JobEntry;

/// What high availability keeps of the jobs of a cluster id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Metadata {
    /// A job graph, which a JobManager takes instead of what its configuration says.
    pub graph: bool,
    /// The highest checkpoint id, from which a JobManager resumes instead of its start path.
    pub checkpoint: Option<i64>,
}

/// What a start with high availability does about the metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Another JobManager of the same run is there: this one stands by, with the same configuration.
    Join,
    /// Flink resumes the job from its own metadata, which are newer than the pointer: the run goes on.
    Resume,
    /// The pointer is newer, or a person has chosen: the metadata are taken away first.
    Choose,
    /// There are none: a start as without high availability.
    Plain,
}

/// How a JobManager starts.
///
/// `others` is whether JobManagers of other pods may run the job now.
#[must_use]
pub fn start(entry: &JobEntry, metadata: Metadata, others: bool) -> Start {
    let stopped = is_stopped(entry);
    if others && entry.run.is_some() && !stopped {
        return Start::Join;
    }
    if metadata == Metadata::default() {
        return Start::Plain;
    }
    let chosen = entry.cleared || entry.person_decided();
    let newest = entry.newest().map(|point| point.rank());
    // With equal ids they are the same checkpoint, and Flink's own way to it keeps the job's id.
    if chosen || stopped || newest > metadata.checkpoint || entry.run.is_none() {
        Start::Choose
    } else {
        Start::Resume
    }
}

/// The present run ended with a stop-with-savepoint: no JobManager may run it again.
#[must_use]
pub fn is_stopped(entry: &JobEntry) -> bool {
    use super::pointer::PointKind;
    let run = entry.run.as_ref().map(|run| &run.id);
    run.is_some()
        && entry
            .newest()
            .is_some_and(|point| point.kind == PointKind::Stop && point.run.as_ref() == run)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::pointer::{PointKind, RestorePoint, Run, RunId, TriggerReason};
    use jiff::Timestamp;

    fn entry(points: &[(i64, PointKind)]) -> JobEntry {
        let run = RunId::from_bytes([1; 6]);
        let point = |(id, kind): &(i64, PointKind)| RestorePoint {
            path: format!("/s/{id}"),
            kind: *kind,
            checkpoint_id: Some(*id),
            job_id: None,
            lineage: 0,
            run: Some(run.clone()),
            reason: TriggerReason::Manual,
            started: None,
            completed: Timestamp::UNIX_EPOCH,
            size: None,
            flink_version: None,
            superseded: false,
            claimed: false,
        };
        JobEntry {
            run: Some(Run {
                id: run.clone(),
                job_id: None,
                parent: None,
                checkpoint_dir: None,
                savepoint_dir: None,
                stored: Timestamp::UNIX_EPOCH,
                owner: "o".to_owned(),
                flink_version: "2.3.0".to_owned(),
            }),
            history: points.iter().map(point).collect(),
            ..JobEntry::default()
        }
    }

    fn at(checkpoint: i64) -> Metadata {
        Metadata {
            graph: true,
            checkpoint: Some(checkpoint),
        }
    }

    #[test]
    fn a_second_job_manager_joins_the_run_of_the_first() {
        assert_eq!(start(&entry(&[]), at(7), true), Start::Join);
        assert_eq!(start(&entry(&[]), Metadata::default(), true), Start::Join);
    }

    #[test]
    fn metadata_newer_than_the_pointer_win() {
        let known = entry(&[(5, PointKind::Checkpoint)]);
        assert_eq!(start(&known, at(7), false), Start::Resume);
        assert_eq!(start(&known, at(5), false), Start::Resume);
        assert_eq!(start(&entry(&[]), at(7), false), Start::Resume);
    }

    #[test]
    fn after_a_stop_its_savepoint_wins_also_for_a_standby() {
        let stopped = entry(&[(9, PointKind::Stop)]);
        assert_eq!(start(&stopped, at(8), false), Start::Choose);
        assert_eq!(start(&stopped, at(8), true), Start::Choose);
        assert_eq!(start(&stopped, Metadata::default(), true), Start::Plain);
    }

    #[test]
    fn what_a_person_chose_wins_over_newer_metadata() {
        let mut chosen = entry(&[(3, PointKind::Set)]);
        chosen.run = None;
        assert_eq!(start(&chosen, at(7), false), Start::Choose);
        let cleared = JobEntry {
            cleared: true,
            ..JobEntry::default()
        };
        assert_eq!(start(&cleared, at(7), false), Start::Choose);
    }

    #[test]
    fn without_metadata_it_is_a_start_like_any_other() {
        assert_eq!(start(&entry(&[]), Metadata::default(), false), Start::Plain);
    }
}
