//! What must hold in every state. The numbers are those of the invariants.

pub(crate) const LOST: &str =
    "1: nothing lost: no start goes back behind a recorded restore point or to an aborted one";
pub(crate) const TWICE: &str =
    "2: nothing twice: no start goes back behind what the sinks have committed";
pub(crate) const ONE_STOP: &str = "2: never two stops in flight in one JobManager";
pub(crate) const NO_WORSE: &str =
    "3: a restore point is recorded only after it was read back, and never replaces a newer one";
pub(crate) const NOT_EARLY: &str =
    "4: no shutdown settles before its time while a stop is under way";
pub(crate) const NOT_FRESH: &str =
    "5: no start from empty state where there has been a restore point";
pub(crate) const NO_NEEDLESS_REFUSAL: &str = "5: no start is refused while everything is intact";
pub(crate) const STAYS_ENDED: &str = "6: what has ended is not started again by the same owner";
pub(crate) const AS_CHOSEN: &str = "5: the next start is from what a person chose";
pub(crate) const SETTLES: &str = "7: at its deadline a shutdown settles";
