//! Settings that a running supervisor takes without a restart.

use super::{Settings, TABLE};

macro_rules! live {
    ($($field:ident),+ $(,)?) => {
        /// The fields of those that are looked at anew each time that they matter. All others are part of what was made at
        /// the start: addresses, files, connections, and what the launcher has as well.
        const LIVE: &[&str] = &[$(stringify!($field)),+];

        fn copy(from: &Settings, to: &mut Settings) {
            $( to.$field.clone_from(&from.$field); )+
        }
    };
}

live! {
    on_config_change, config_change_timeout, savepoint_format, restore_strategy, claim_mode, allow_non_restored_state,
    allow_unverified, history, retention, retention_age, savepoint_interval, savepoint_schedule, savepoint_min_age,
    savepoint_timeout, restart_loop, health_window, stuck_after, restart_unhealthy, restart_failed,
}

/// What became of changed settings, by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// In effect now.
    pub live: Vec<&'static str>,
    /// In effect after a restart.
    pub later: Vec<&'static str>,
}

impl Settings {
    /// Takes from `new` what can change while Flink runs.
    pub fn take_live(&mut self, new: &Self) -> Taken {
        let mut taken = Taken::default();
        for ((spec, before), after) in TABLE.iter().zip(self.values()).zip(new.values()) {
            if before == after {
                continue;
            }
            match LIVE.contains(&spec.field) {
                true => taken.live.push(spec.key),
                false => taken.later.push(spec.key),
            }
        }
        copy(new, self);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::super::{SettingsArgs, load};

    fn settings(variables: &[(&str, &str)]) -> super::Settings {
        let variables = variables.iter();
        let env = variables.map(|(name, value)| (name.into(), value.into()));
        let loaded = load(&SettingsArgs::default(), env).expect("good settings");
        loaded.settings
    }

    #[test]
    fn what_is_made_at_the_start_stays_and_is_named() {
        let mut present = settings(&[]);
        let new = settings(&[
            ("DREY_SAVEPOINT_TIMEOUT", "5s"),
            ("DREY_SHUTDOWN_TIMEOUT", "20s"),
            ("DREY_ON_CONFIG_CHANGE", "restart"),
        ]);
        let before = present.shutdown_timeout;
        let taken = present.take_live(&new);
        assert_eq!(taken.live, ["on-config-change", "savepoint-timeout"]);
        assert_eq!(taken.later, ["shutdown-timeout"]);
        assert_eq!(present.savepoint_timeout, new.savepoint_timeout);
        assert_eq!(present.shutdown_timeout, before);
        let again = present.take_live(&new);
        assert_eq!((again.live.len(), again.later.len()), (0, 1));
    }
}
