//! The names of the options that Drey reads and writes, by Flink version.
//!
//! Flink 1.20 renamed several of them. It still understands the old names (`StateRecoveryOptions`, `CheckpointingOptions`:
//! `withDeprecatedKeys`, up to 2.3 at least) and looks for the new name first, so an old spelling in the user's file never
//! defeats the new key, and reading must look for both.

use std::collections::BTreeMap;

use super::version::FlinkVersion;

/// A start path that makes a JobManager exit on purpose when nothing has replaced it: put into Flink's configuration, it keeps
/// a pod without Drey from running the job from empty state. It is not a start path of the user's.
pub const TRIPWIRE: &str = "file:///drey/not-injected";

/// One option: the name to write, and the older names that Flink also reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionKey {
    /// The current name, which wins.
    pub name: &'static str,
    /// Older names, in the order in which Flink tries them after the current one.
    pub deprecated: &'static [&'static str],
}

impl OptionKey {
    const fn new(name: &'static str) -> Self {
        Self {
            name,
            deprecated: &[],
        }
    }

    const fn renamed(name: &'static str, deprecated: &'static [&'static str]) -> Self {
        Self { name, deprecated }
    }

    /// Its names, in the order in which Flink tries them.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.deprecated.iter().copied())
    }

    /// The value that Flink takes for this option, under whichever name it finds first.
    #[must_use]
    pub fn find_in(self, configuration: &BTreeMap<String, String>) -> Option<&str> {
        self.names()
            .find_map(|name| configuration.get(name))
            .map(String::as_str)
    }
}

/// The option names of one Flink version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestoreKeys {
    version: FlinkVersion,
}

impl RestoreKeys {
    /// The names that Flink `version` knows.
    #[must_use]
    pub const fn of(version: FlinkVersion) -> Self {
        Self { version }
    }

    const fn at_least(self, major: u16, minor: u16) -> bool {
        self.version.major > major || (self.version.major == major && self.version.minor >= minor)
    }

    /// The restore point that a start resumes from. Ignored while there is HA metadata.
    #[must_use]
    pub const fn start_path(self) -> OptionKey {
        if self.at_least(1, 20) {
            OptionKey::renamed(
                "execution.state-recovery.path",
                &["execution.savepoint.path"],
            )
        } else {
            OptionKey::new("execution.savepoint.path")
        }
    }

    /// The start path that the user has configured. The [`TRIPWIRE`] is none.
    #[must_use]
    pub fn configured_start_path(self, configuration: &BTreeMap<String, String>) -> Option<&str> {
        let values = self.start_path().names();
        values
            .filter_map(|name| configuration.get(name))
            .map(String::as_str)
            .find(|path| *path != TRIPWIRE)
    }

    /// The names under which the [`TRIPWIRE`] is configured.
    #[must_use]
    pub fn tripwires(self, configuration: &BTreeMap<String, String>) -> Vec<String> {
        let is_set = |name: &&str| {
            configuration
                .get(*name)
                .is_some_and(|path| path == TRIPWIRE)
        };
        let names = self.start_path().names().filter(is_set);
        names.map(str::to_owned).collect()
    }

    /// Whether state that belongs to no operator of the job may be left behind. Standalone mode takes it only from the
    /// arguments, not from the file.
    #[must_use]
    pub const fn ignore_unclaimed_state(self) -> OptionKey {
        if self.at_least(1, 20) {
            OptionKey::renamed(
                "execution.state-recovery.ignore-unclaimed-state",
                &["execution.savepoint.ignore-unclaimed-state"],
            )
        } else {
            OptionKey::new("execution.savepoint.ignore-unclaimed-state")
        }
    }

    /// Who owns the restore point after the start; `None` before 1.15, which has no such choice. Standalone mode ignores it.
    #[must_use]
    pub const fn claim_mode(self) -> Option<OptionKey> {
        if self.at_least(1, 20) {
            Some(OptionKey::renamed(
                "execution.state-recovery.claim-mode",
                &["execution.savepoint-restore-mode"],
            ))
        } else if self.at_least(1, 15) {
            Some(OptionKey::new("execution.savepoint-restore-mode"))
        } else {
            None
        }
    }

    /// Where savepoints go when the request names no directory.
    #[must_use]
    pub const fn savepoint_dir(self) -> OptionKey {
        if self.at_least(1, 20) {
            OptionKey::renamed(
                "execution.checkpointing.savepoint-dir",
                &["state.savepoints.dir", "savepoints.state.backend.fs.dir"],
            )
        } else {
            OptionKey::renamed("state.savepoints.dir", &["savepoints.state.backend.fs.dir"])
        }
    }

    /// Where checkpoints go.
    #[must_use]
    pub const fn checkpoint_dir(self) -> OptionKey {
        if self.at_least(1, 20) {
            OptionKey::renamed(
                "execution.checkpointing.dir",
                &["state.checkpoints.dir", "state.backend.fs.checkpointdir"],
            )
        } else {
            OptionKey::renamed("state.checkpoints.dir", &["state.backend.fs.checkpointdir"])
        }
    }

    /// Whether checkpoints outlive their job; `RETAIN_ON_CANCELLATION` keeps them. The same name in all versions.
    #[must_use]
    pub const fn checkpoint_retention(self) -> OptionKey {
        OptionKey::new("execution.checkpointing.externalized-checkpoint-retention")
    }

    /// Whether the JobManager ends when its job has ended; `None` before 1.15, which always ends it.
    #[must_use]
    pub const fn shutdown_on_application_finish(self) -> Option<OptionKey> {
        if self.at_least(1, 15) {
            Some(OptionKey::new("execution.shutdown-on-application-finish"))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::config_file::{ConfigFile, ConfigFileError, ConfigFormat};
    use super::*;

    const fn keys(major: u16, minor: u16) -> RestoreKeys {
        RestoreKeys::of(FlinkVersion {
            major,
            minor,
            patch: 0,
        })
    }

    #[test]
    fn names_change_with_1_20() {
        assert_eq!(keys(1, 19).start_path().name, "execution.savepoint.path");
        assert_eq!(
            keys(1, 20).start_path().name,
            "execution.state-recovery.path"
        );
        assert_eq!(
            keys(2, 0).checkpoint_dir().name,
            "execution.checkpointing.dir"
        );
        assert_eq!(keys(1, 19).savepoint_dir().name, "state.savepoints.dir");
    }

    #[test]
    fn options_that_came_with_1_15_are_absent_before() {
        assert_eq!(keys(1, 14).claim_mode(), None);
        assert_eq!(keys(1, 14).shutdown_on_application_finish(), None);
        let claim = keys(1, 15).claim_mode().map(|key| key.name);
        assert_eq!(claim, Some("execution.savepoint-restore-mode"));
        let claim = keys(2, 3).claim_mode().map(|key| key.name);
        assert_eq!(claim, Some("execution.state-recovery.claim-mode"));
    }

    #[test]
    fn the_new_name_wins_and_the_old_one_is_still_read() -> Result<(), ConfigFileError> {
        let mut config = ConfigFile::parse(
            ConfigFormat::ConfigYaml,
            "execution:\n  savepoint:\n    path: /old\n",
        )?;
        let option = keys(2, 3).start_path();
        assert_eq!(option.find_in(config.entries()), Some("/old"));
        config.set(option.name, "/new")?;
        assert_eq!(option.find_in(config.entries()), Some("/new"));
        assert_eq!(
            keys(1, 19).start_path().find_in(config.entries()),
            Some("/old")
        );
        Ok(())
    }

    #[test]
    fn the_tripwire_is_no_start_path_under_any_of_its_names() {
        let set = |entries: &[(&str, &str)]| -> BTreeMap<String, String> {
            let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
            entries.iter().map(owned).collect()
        };
        let (new, old) = ("execution.state-recovery.path", "execution.savepoint.path");
        for (version, entries, path, tripwires) in [
            (keys(2, 3), set(&[(new, TRIPWIRE)]), None, vec![new]),
            (keys(2, 3), set(&[(old, TRIPWIRE)]), None, vec![old]),
            (
                keys(2, 3),
                set(&[(new, TRIPWIRE), (old, "/a")]),
                Some("/a"),
                vec![new],
            ),
            (keys(1, 19), set(&[(old, TRIPWIRE)]), None, vec![old]),
            (keys(1, 20), set(&[(new, "/a")]), Some("/a"), vec![]),
        ] {
            assert_eq!(version.configured_start_path(&entries), path, "{entries:?}");
            assert_eq!(version.tripwires(&entries), tripwires, "{entries:?}");
        }
    }
}
