//! `drey install`: puts this program where the other containers of a pod find it.
//!
//! The image of Flink stays as it is: an init container copies the binary into a volume that both share.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use super::{LAUNCH, failure};

/// The directory to install into.
#[derive(Debug, clap::Args)]
pub(super) struct InstallArgs {
    /// A directory of the volume that Flink's container mounts, too
    directory: PathBuf,
}

/// Copies the program that runs.
pub(super) fn run(args: &InstallArgs) -> anyhow::Result<ExitCode> {
    let own = std::env::current_exe().context("could not find this program's own file")?;
    install(&own, &args.directory).map_err(|error| {
        let directory = args.directory.display();
        let text = format!(
            "could not install drey in {directory}: {error}; name a directory that this user (see securityContext: \
             runAsUser, fsGroup) may write to"
        );
        failure(text, 1)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// `own` as `drey`, and a link `drey-launch` to it. Each comes by a rename: whoever executes it meanwhile has the old one
/// or the new one, whole.
fn install(own: &Path, directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let pid = std::process::id();
    let copy = directory.join(format!(".drey-{pid}"));
    let link = directory.join(format!(".{LAUNCH}-{pid}"));
    let done = fs::copy(own, &copy)
        .and_then(|_| fs::set_permissions(&copy, Permissions::from_mode(0o755)))
        .and_then(|()| fs::rename(&copy, directory.join("drey")))
        .and_then(|()| symlink("drey", &link))
        .and_then(|()| fs::rename(&link, directory.join(LAUNCH)));
    if done.is_err() {
        // The error of the installation is the one to report.
        let _ = fs::remove_file(&copy).and(fs::remove_file(&link));
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installation_replaces_an_older_one_and_leaves_nothing_else() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let own = dir.path().join("program");
        let target = dir.path().join("volume/drey");
        for text in ["old", "newer"] {
            fs::write(&own, text)?;
            fs::set_permissions(&own, Permissions::from_mode(0o500))?;
            install(&own, &target)?;
            assert_eq!(fs::read_to_string(target.join("drey"))?, text);
            assert_eq!(fs::read_to_string(target.join("drey-launch"))?, text);
            fs::remove_file(&own)?;
        }
        let mode = fs::metadata(target.join("drey"))?.permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        assert_eq!(fs::read_link(target.join(LAUNCH))?, Path::new("drey"));
        assert_eq!(fs::read_dir(&target)?.count(), 2);
        // The program may be the installed one.
        install(&target.join("drey"), &target)?;
        assert_eq!(fs::read_to_string(target.join(LAUNCH))?, "newer");
        Ok(())
    }

    #[test]
    fn what_cannot_be_written_says_what_to_do() -> io::Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        let args = InstallArgs {
            directory: file.path().join("drey"),
        };
        let error = run(&args).expect_err("no directory").to_string();
        assert!(error.starts_with("could not install drey in "), "{error}");
        assert!(error.contains("may write to"), "{error}");
        Ok(())
    }
}
