//! Mistakes on purpose, laid around the real functions: the proof that the search finds such.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A holder is gone as soon as its object is, whoever answers at its IP.
    BreaksWhenObjectGone,
    /// A container that is restarted in place passes for ended.
    RestartingIsEnded,
    /// A pod of the same template takes a living holder's job.
    TakesSameTemplate,
    /// Writes go through whatever was written since the read.
    NoPrecondition,
    /// The lock is released when the stop is asked for, not in the write that records it.
    ReleasesBeforeRecord,
    /// The lock is released without the restore point.
    ReleasesWithoutPoint,
    /// The pod's own note that it holds the lock outlives the release.
    KeepsNote,
    /// A start with the API server away is not stored beside the savepoints.
    ForgetsCopy,
    /// The JobManager starts before its run is stored.
    StartsWithoutStoring,
    /// `lock-break-after never` is taken for its default.
    IgnoresNever,
    /// The deadline alone breaks the lock, although the IP answers.
    BreaksWithoutSilence,
    /// A pod that has handed over never takes the job back.
    HandsOverForEver,
    /// What has ended or is deleted passes for something that nobody can look at.
    SeesNobodyGo,
    /// A holder does not look for pods that wait.
    IgnoresWaiters,
    /// The TaskManager passes SIGTERM on at once.
    TaskManagerRuns,
    /// The TaskManager stays for whoever holds the lock.
    TaskManagerLingers,
    /// Who has just taken the lock gives it up to a pod that waits, as if its own JobManager had failed with it.
    GivesBackAtOnce,
    /// Who has given the lock up records its stop once more when its JobManager ends, for whichever run is the last one then.
    RecordsAgain,
}
