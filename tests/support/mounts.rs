//! File systems in a state that root notices, too: mounted in a namespace of their own, gone with their handle.

#![allow(unreachable_pub, reason = "a module of test binaries")]
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// A mounted file system. A process keeps its namespace alive and ends when its standard input closes, so also when the
/// test is killed.
pub struct Mounted {
    holder: Child,
    _dir: TempDir,
    path: PathBuf,
}

impl Mounted {
    /// Mounted read-only, with an empty `savepoints` directory in it.
    pub fn read_only() -> Self {
        Self::after("mkdir savepoints && mount -o remount,ro .")
    }

    /// Without one free byte, with an empty `savepoints` directory in it.
    pub fn full() -> Self {
        Self::after("mkdir savepoints && ! cat /dev/zero > fill 2>/dev/null")
    }

    /// 64 KiB in all.
    pub fn small() -> Self {
        Self::after("true")
    }

    /// Where this test sees it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn after(commands: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let script = r#"mount -t tmpfs -o size=64k tmpfs "$0" && cd "$0" && eval "$1" && echo ready && exec cat"#;
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--map-root-user", "sh", "-c", script])
            .arg(dir.path())
            .arg(commands);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn().expect("unshare is installed (util-linux)");
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(
            line, "ready\n",
            "cannot mount in a namespace; allow unprivileged user namespaces or run as root"
        );
        let path = PathBuf::from(format!(
            "/proc/{}/root{}",
            holder.id(),
            dir.path().display()
        ));
        Self {
            holder,
            _dir: dir,
            path,
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}
