//! Flink's configuration directory as files, and what they say to one version of Flink.

use std::fs;
use std::io;
use std::path::Path;

use crate::domain::changes::{ARGUMENTS, Content, Files, NO_ARGUMENTS};
use crate::flink::arguments;
use crate::flink::config_file::{ConfigFile, ConfigFormat};
use crate::flink::restore_keys::RestoreKeys;
use crate::flink::version::FlinkVersion;
use crate::storage::Location;
use crate::telemetry::one_line;

/// Larger files are not Flink's configuration; a ConfigMap as a whole cannot hold more.
const MOST: u64 = 1024 * 1024;

/// The files of a directory that are text. The kubelet's own entries of a mounted ConfigMap (`..data` and what it points to)
/// are left out.
///
/// # Errors
/// When the directory or a file cannot be read.
pub fn read_files(directory: &Path) -> io::Result<Files> {
    let mut files = Files::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let path = entry.path();
        // Of the file behind a link.
        let about = match fs::metadata(&path) {
            Ok(about) => about,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if name.starts_with('.') || !about.is_file() || about.len() > MOST {
            continue;
        }
        if let Ok(text) = String::from_utf8(fs::read(&path)?) {
            files.insert(name, text);
        }
    }
    Ok(files)
}

/// The file with the job's arguments, or why it cannot be read: nothing else may take its place.
#[must_use]
pub fn read_arguments(file: &Path) -> Files {
    let text = match fs::metadata(file) {
        Ok(about) if !about.is_file() => Err("it is not a file".to_owned()),
        Ok(about) if about.len() > MOST => Err("it is larger than 1 MiB".to_owned()),
        _ => fs::read_to_string(file).map_err(|error| error.to_string()),
    };
    match text {
        Ok(text) => Files::from([(ARGUMENTS.to_owned(), text)]),
        Err(why) => {
            let why = format!(
                "could not read {}: {why}; mount it, or take arguments-file away",
                file.display()
            );
            Files::from([(NO_ARGUMENTS.to_owned(), why)])
        }
    }
}

/// The job's arguments among the files.
///
/// # Errors
/// When they cannot be read or understood: why, without any of them.
pub fn arguments(files: &Files) -> Result<Vec<String>, String> {
    if let Some(why) = files.get(NO_ARGUMENTS) {
        return Err(why.clone());
    }
    let text = files.get(ARGUMENTS).map(String::as_str);
    arguments::parse(text.unwrap_or_default())
        .map_err(|why| format!("the file with the job's arguments, {why}"))
}

/// The format that Flink `version` reads among `files`; see [`ConfDir::find`](crate::flink::config_file::ConfDir::find).
#[must_use]
pub fn format(files: &Files, version: FlinkVersion) -> ConfigFormat {
    let legacy = files.contains_key(ConfigFormat::FlinkConfYaml.file_name());
    match (version.major, version.minor) {
        (0, _) | (1, ..=18) => ConfigFormat::FlinkConfYaml,
        (1, _) if legacy => ConfigFormat::FlinkConfYaml,
        _ => ConfigFormat::ConfigYaml,
    }
}

/// What the files say to Flink `version`.
///
/// # Errors
/// When Flink would not start with them: why, without any value.
pub fn content(files: &Files, version: FlinkVersion) -> Result<Content, String> {
    let format = format(files, version);
    let mut others = files.clone();
    let text = others.remove(format.file_name()).unwrap_or_default();
    let file = ConfigFile::parse(format, &text).map_err(|error| one_line(&error, 400))?;
    let keys = file.entries().clone();
    let arguments = arguments(files)?;
    others.remove(ARGUMENTS);
    Ok(Content {
        keys,
        others,
        arguments,
    })
}

/// What is wrong with the directories that restore points go to: with unknown ones the next stop has nowhere to put its
/// savepoint. `set` says which of the two Drey's own settings name.
#[must_use]
pub fn directory_flaws(content: &Content, version: FlinkVersion, set: [bool; 2]) -> Vec<String> {
    let keys = RestoreKeys::of(version);
    let mut flaws = Vec::new();
    for (option, set) in [keys.savepoint_dir(), keys.checkpoint_dir()]
        .into_iter()
        .zip(set)
    {
        match option.find_in(&content.keys) {
            _ if set => {}
            None => flaws.push(format!(
                "{} is missing: say where restore points go",
                option.name
            )),
            Some(text) => {
                if let Err(error) = text.parse::<Location>() {
                    flaws.push(format!("{}: {}", option.name, one_line(&error, 200)));
                }
            }
        }
    }
    flaws
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: FlinkVersion = FlinkVersion {
        major: 2,
        minor: 3,
        patch: 0,
    };

    fn files(text: &str) -> Files {
        Files::from([("config.yaml".to_owned(), text.to_owned())])
    }

    #[test]
    fn comments_order_and_nesting_do_not_change_what_a_configuration_says() {
        let one = content(&files("a:\n  b: 1\nc: 2\n"), V2).expect("good");
        let other = content(&files("# again\nc: 2\na.b: 1\n"), V2).expect("good");
        assert_eq!(one.digest(), other.digest());
        let broken = content(&files("a: [\n"), V2).expect_err("broken");
        assert!(broken.contains("config.yaml, line"), "{broken}");
    }

    #[test]
    fn the_jobs_arguments_are_part_of_it_and_missing_ones_are_a_flaw() {
        let plain = content(&files("a: 1\n"), V2).expect("good");
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("arguments");
        let with = |file: &Path| {
            let mut all = files("a: 1\n");
            all.extend(read_arguments(file));
            content(&all, V2)
        };
        let missing = with(&file).expect_err("missing");
        assert!(missing.contains("arguments: No such file"), "{missing}");
        fs::write(&file, "# none\n").expect("write");
        assert_eq!(with(&file).expect("good").digest(), plain.digest());
        fs::write(&file, "--rate\n5\n").expect("write");
        let some = with(&file).expect("good");
        assert_ne!(some.digest(), plain.digest());
        assert_eq!(some.of_task_managers(), plain.of_task_managers());
        let bad = fs::write(&file, "--rate 5\n").map(|()| with(&file).expect_err("bad"));
        assert!(bad.expect("write").contains("arguments, line 1"));
    }

    #[test]
    fn restore_points_must_have_a_place() {
        let flaws = |text: &str, set| {
            directory_flaws(&content(&files(text), V2).expect("good"), V2, set).join("; ")
        };
        let both = "execution.checkpointing.dir: s3://a/b\nstate.savepoints.dir: file:///c\n";
        assert_eq!(flaws(both, [false; 2]), "");
        assert_eq!(flaws("", [true; 2]), "");
        let missing = flaws("state.savepoints.dir: relative\n", [false; 2]);
        assert!(
            missing.contains("execution.checkpointing.dir is missing"),
            "{missing}"
        );
        assert!(missing.contains("relative"), "{missing}");
    }

    #[test]
    fn the_kubelets_own_entries_are_no_files() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("..2026")).expect("a directory");
        fs::write(dir.path().join("..2026/config.yaml"), "a: 1\n").expect("write");
        std::os::unix::fs::symlink("..2026", dir.path().join("..data")).expect("link");
        std::os::unix::fs::symlink("..data/config.yaml", dir.path().join("config.yaml"))
            .expect("link");
        fs::write(dir.path().join("binary"), b"\xff").expect("write");
        assert_eq!(read_files(dir.path()).expect("files"), files("a: 1\n"));
    }
}
