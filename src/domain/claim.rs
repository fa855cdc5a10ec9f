//! Who owns a restore point once a job has started from it.
use serde::{Deserialize, Serialize};

/// Flink's claim mode (`execution.state-recovery.claim-mode`; `execution.savepoint-restore-mode` before 1.20), since 1.15.
///
/// Flink's LEGACY is not offered: the job would go on using files that nobody knows to be still in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClaimMode {
    /// Flink takes the restore point over, and deletes it once no checkpoint needs it any more.
    Claim,
    /// The restore point stays its owner's: the first checkpoint of the new job is a full one.
    NoClaim,
}

impl ClaimMode {
    /// The name in Flink's configuration.
    #[must_use]
    pub const fn to_flink(self) -> &'static str {
        match self {
            Self::Claim => "CLAIM",
            Self::NoClaim => "NO_CLAIM",
        }
    }
}
