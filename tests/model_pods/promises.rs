//! What must hold in every state. The numbers are those of the invariants.

pub(crate) const ONE: &str = "2: never two JobManagers run the job, except across a partition after lock-break-after or a forced deletion";
pub(crate) const ALIVE: &str = "2: the lock is never taken from a pod that may still run";
pub(crate) const TWICE: &str =
    "1, 2: no start goes back behind what was released or what the sinks have committed";
pub(crate) const OWN: &str = "3: what is recorded for a run was made by that run";
pub(crate) const PASSED_ON: &str =
    "7: the lock is not passed on and on without a JobManager that has failed";
pub(crate) const NEVER: &str =
    "2: with lock-break-after never, nobody takes the lock from a holder that is only silent";
pub(crate) const NOT_REFUSED: &str = "5: no start is refused while everything is intact";
pub(crate) const SAME: &str =
    "2: a running job is stopped only for a pod of another template, or when its own pod goes";
pub(crate) const HELD: &str =
    "1: a TaskManager does not leave a JobManager that is at its savepoint and has time";
pub(crate) const LINGERS: &str = "7: a TaskManager does not stay into the next JobManager's life";
pub(crate) const PROGRESS: &str = "7: when nothing more happens a pod that lives runs the job";
pub(crate) const ROLLS_OUT: &str = "7: when nothing more happens no pod waits for one of another template, unless it has had its turn";
