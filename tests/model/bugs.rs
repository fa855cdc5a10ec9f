//! Mistakes on purpose, laid around the real functions: the proof that the search finds such.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// What a person chose while a job ran is forgotten when that job stops.
    RecordsAbandonedRun,
    /// The request is sent before its intent is stored.
    SendsBeforeStoring,
    /// Whoever resumes an intent sends it with a trigger id of its own.
    NewTriggerOnResume,
    /// What Flink reports is recorded without reading it back.
    RecordsUnverified,
    /// At the deadline the intent is closed, although the stop is still under way.
    ForgetsIntentAtDeadline,
    /// A start takes what is recorded, without a look at what else the last run left.
    TakesThePointersPath,
    /// A plain savepoint counts for ever.
    ForgetsSuperseding,
    /// A restore point that is missing or damaged is a reason to start from empty state.
    FreshOnMissing,
    /// The end of a job is forgotten.
    ResurrectsFinished,
    /// The path in the cause of a stop that failed after its savepoint is passed over.
    IgnoresPathInFailure,
    /// A savepoint that was complete before anyone could hear of it is never looked for.
    NeverLooksForLate,
    /// The JobManager starts before its run is stored.
    StartsBeforeStoring,
    /// The deadline is not seen.
    WaitsForEver,
    /// A shutdown gives up at once when a stop is not complete at the first look.
    Impatient,
    /// A stop that was complete but unreadable is given up like a failed one.
    AbandonsUnreadableStop,
}
