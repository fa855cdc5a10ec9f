//! `drey status --watch` on a real terminal, which `script` makes.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use crate::support::{Cluster, Version};

/// How long something may take to be drawn.
const PATIENCE: Duration = Duration::from_secs(60);

struct Terminal {
    script: Child,
    output: Receiver<Vec<u8>>,
    /// What was drawn so far.
    drawn: String,
}

impl Terminal {
    /// A shell on a terminal that outlives the Ctrl-C, and says how the terminal is set before and after.
    fn watching(cluster: &Cluster) -> Self {
        let drey = env!("CARGO_BIN_EXE_drey");
        let line = format!(
            "trap : INT; stty cols 60 rows 10; echo before $(stty -g); {drey} status --watch; echo code $?; echo after $(stty -g)"
        );
        let mut script = Command::new("script")
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .env("SHELL", "/bin/sh")
            .env("DREY_STATE_DIR", cluster.path("state"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut from = script.stdout.take().unwrap();
        let (to, output) = channel();
        thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut part) {
                drop(to.send(part[..count].to_vec()));
            }
        });
        Self {
            script,
            output,
            drawn: String::new(),
        }
    }

    /// Waits until this was drawn after what was waited for last.
    fn wait_for(&mut self, wanted: &str) -> String {
        loop {
            if let Some((seen, rest)) = self.drawn.split_once(wanted) {
                let seen = seen.to_owned();
                self.drawn = rest.to_owned();
                return seen;
            }
            let part = self.output.recv_timeout(PATIENCE);
            let part = part.unwrap_or_else(|_| panic!("{wanted:?} in {:?}", self.drawn));
            self.drawn.push_str(&String::from_utf8_lossy(&part));
        }
    }

    fn press(&mut self, key: &[u8]) {
        self.script.stdin.as_mut().unwrap().write_all(key).unwrap();
    }
}

#[test]
fn a_terminal_shows_one_picture_until_ctrl_c_and_is_as_it_was_afterwards() {
    let cluster = Cluster::new(Version::v2());
    let mut sidecar = cluster.sidecar().go();
    cluster.wait_for_status("a supervisor", |_| true);
    let mut terminal = Terminal::watching(&cluster);
    terminal.wait_for("before ");
    let before = terminal.wait_for("\r\n");
    terminal.wait_for("Since ");
    // What changes is drawn over it.
    sidecar.kill();
    let picture = terminal.wait_for("\x1b[J");
    assert!(picture.contains("Flink"), "{picture:?}");
    let above = picture.matches('\n').count() + 1;
    let longest = picture.lines().map(|line| line.chars().count()).max();
    assert!(longest <= Some(60 + "\x1b[99A".len()), "{picture:?}");
    assert!(above > 1, "{picture:?}");
    terminal.wait_for("no supervisor answers");
    terminal.press(b"\x03");
    terminal.wait_for("code ");
    let code = terminal.wait_for("\r\n");
    assert_eq!(code, "130", "as other programs end by Ctrl-C");
    terminal.wait_for("after ");
    assert_eq!(terminal.wait_for("\r\n"), before);
    assert!(terminal.script.wait().unwrap().success());
}
