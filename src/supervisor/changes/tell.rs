//! What people are told of changes: once for each.

use tracing::{info, warn};

use super::Running;
use crate::domain::changes::{Difference, OnChange, is_reactive};
use crate::kubernetes::events::Event;
use crate::metrics::own;
use crate::supervisor::Supervisor;

impl Supervisor {
    pub(super) fn told_already(&mut self, digest: &str) -> bool {
        let told = self.changes.told.as_deref() == Some(digest);
        self.changes.told = Some(digest.to_owned());
        told
    }

    pub(super) fn tell_ignored(
        &mut self,
        digest: &str,
        difference: &Difference,
        running: &Running,
    ) {
        if self.told_already(digest) {
            return;
        }
        let names = difference.names();
        own().config_changed("ignored");
        info!(
            changed = names,
            "Configuration has changed, and is left for the next start"
        );
        let why = if difference.only_parallelism() && is_reactive(&running.content) {
            "in reactive mode a job uses all slots, so start or end TaskManagers instead"
        } else if self.policy_of_changes(None) != self.settings.on_config_change {
            "changes are applied only where the directory is a ConfigMap that is mounted as a whole"
        } else if self.policy_of_changes(None) == OnChange::RescaleOnly {
            "on-config-change: rescale-only applies changes of the parallelism alone"
        } else {
            "on-config-change: restart applies such changes"
        };
        let text = format!(
            "Flink's configuration has changed ({names}) and is not in effect: the next start takes it. `drey diff` shows it; {why}"
        );
        self.tell(Event::normal("ConfigChanged", &text));
    }

    pub(super) fn tell_refused(&mut self, digest: &str, reasons: &[String]) {
        let why = reasons.join("; ");
        if self.told_already(&format!("{digest} {why}")) {
            return;
        }
        own().config_changed("refused");
        warn!(
            why,
            "Changed configuration is refused: the job goes on as it was"
        );
        let text = format!(
            "Flink's configuration has changed and is refused, the job goes on as it was: {why}"
        );
        self.tell(Event::warning("ConfigRefused", &text));
    }

    pub(in crate::supervisor) fn tell_rolled_back(&self, why: &str) {
        own().config_changed("rolled-back");
        warn!(why, "Changed configuration is rolled back");
        let text = format!(
            "The changed configuration is rolled back, since {why}: the job is started with the last good one until the configuration changes again"
        );
        self.tell(Event::warning("ConfigRolledBack", &text));
    }
}
