//! Drey's own settings, when their file changes while Flink runs.

use tracing::{info, warn};

use super::{Supervisor, schedule};
use crate::config::{Settings, Taken};
use crate::kubernetes::events::Event;
use crate::metrics::own;

impl Supervisor {
    /// What the settings say now, or why they cannot be used.
    pub(super) fn take_settings(&mut self, new: Result<Settings, String>) {
        let new = match new {
            Ok(new) => new,
            Err(why) => return self.refuse_settings(&why),
        };
        let Taken { live, later } = self.settings.take_live(&new);
        if live.is_empty() && later.is_empty() {
            return;
        }
        self.policy.allow_unverified = self.settings.allow_unverified;
        self.schedule = schedule::schedule(&self.settings);
        self.look_after();
        if live.contains(&"on-config-change") {
            self.policy_of_changes_is_new();
        }
        let (live, later) = (live.join(", "), later.join(", "));
        let mut text = "Drey's settings have changed.".to_owned();
        if !live.is_empty() {
            own().settings_changed("applied");
            text.push_str(&format!(" In effect now: {live}."));
        }
        if !later.is_empty() {
            own().settings_changed("needs-restart");
            text.push_str(&format!(" In effect with the next start of Drey: {later}."));
        }
        info!(live, needs_restart = later, "Settings have changed");
        self.tell(Event::normal("SettingsChanged", &text));
    }

    fn refuse_settings(&self, why: &str) {
        own().settings_changed("refused");
        warn!(why, "Changed settings are refused: the present ones stay");
        let text = format!("Drey's changed settings are refused, the present ones stay: {why}");
        self.tell(Event::warning("SettingsRefused", &text));
    }
}
