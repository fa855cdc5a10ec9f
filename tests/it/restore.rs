//! Where a start resumes from, judged by what Flink says it restored and by the job's output.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use drey::domain::pointer::PointKind;
use serde_json::Value;

use crate::support::{Cluster, Process, Version, eventually, plain_path};

/// Waits until the job runs and has completed `count` checkpoints in this run.
fn settle(cluster: &Cluster, drey: &mut Process, count: u64) {
    drey.wait_for_log("Job is running");
    cluster.rest().wait_running();
    cluster.rest().wait_for_checkpoints(count);
}

/// One whole run: start, two checkpoints, stop with a savepoint; its path.
fn whole_run(cluster: &Cluster) -> PathBuf {
    let mut drey = cluster.run();
    settle(cluster, &mut drey, 2);
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    cluster.newest_path()
}

/// `kill -9` of drey and of its JobManager.
fn crash(cluster: &Cluster, drey: &mut Process) {
    drey.kill();
    cluster.kill_job_managers();
}

/// Starts a drey that must refuse with exit code 1; what it says.
fn refused(cluster: &Cluster) -> String {
    let mut drey = cluster.run();
    let code = drey.exit_code();
    let log = drey.log();
    assert_eq!(code, 1, "{log}");
    assert_eq!(cluster.job_managers(), [0; 0], "Flink was not started");
    log
}

/// What the next start would resume from, without starting it.
fn planned(cluster: &Cluster, flags: &[&str]) -> Option<String> {
    let words = [&["restore", "--dry-run", "--output", "json"], flags].concat();
    let plan: Value = serde_json::from_str(&cluster.drey_ok(&words)).unwrap();
    Some(plain_path(plan["restore-from"].as_str()?).to_owned())
}

/// The checkpoint with the highest number that the present run has made.
fn newest_checkpoint(cluster: &Cluster) -> PathBuf {
    let directory = cluster.entry().run.unwrap().checkpoint_dir.unwrap();
    let number = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?.strip_prefix("chk-")?;
        name.parse::<u64>().ok()
    };
    let mut all = cluster.checkpoints();
    all.retain(|path| path.starts_with(plain_path(&directory)));
    all.into_iter().max_by_key(number).expect("a checkpoint")
}

#[test]
fn a_savepoint_that_is_damaged_or_gone_is_refused_with_its_reason() {
    let cluster = Cluster::new(Version::v1());
    let _task_manager = cluster.task_manager();
    let savepoint = whole_run(&cluster);
    let pointer = cluster.pointer();
    let metadata = savepoint.join("_metadata");
    let whole = fs::read(&metadata).unwrap();

    fs::write(&metadata, &whole[..whole.len() / 2]).unwrap();
    let said = refused(&cluster);
    assert!(said.contains("truncated _metadata"), "{said}");
    fs::write(&metadata, "<html>404 Not Found</html>").unwrap();
    let said = refused(&cluster);
    assert!(said.contains("not a Flink savepoint"), "{said}");
    fs::remove_dir_all(&savepoint).unwrap();
    let said = refused(&cluster);
    assert!(said.contains("does not exist"), "{said}");
    assert!(
        said.contains("drey pointer set PATH") && said.contains("drey pointer clear"),
        "{said}"
    );
    assert_eq!(cluster.pointer(), pointer);

    cluster.drey_ok(&["pointer", "clear"]);
    let mut drey = cluster.run();
    settle(&cluster, &mut drey, 1);
    assert_eq!(cluster.rest().restored(), None, "from empty state");
    drey.term();
    assert_eq!(drey.exit_code(), 0);
}

#[test]
fn a_checkpoint_newer_than_the_savepoint_is_chosen_unless_the_strategy_says_otherwise() {
    let cluster = Cluster::new(Version::v2());
    let _task_manager = cluster.task_manager();
    let mut drey = cluster.run();
    settle(&cluster, &mut drey, 1);
    let savepoint = cluster.drey_ok(&["savepoint"]);
    let savepoint = plain_path(savepoint.trim()).to_owned();
    assert_eq!(cluster.newest_path(), Path::new(&savepoint));
    cluster.rest().wait_for_checkpoints(2);
    crash(&cluster, &mut drey);
    let checkpoint = newest_checkpoint(&cluster);

    assert_eq!(planned(&cluster, &[]).as_deref(), checkpoint.to_str());
    let strategy = |name: &str| planned(&cluster, &["--restore-strategy", name]);
    assert_eq!(strategy("latest-savepoint"), Some(savepoint));
    assert_eq!(strategy("none"), None);

    let mut drey = cluster.run();
    settle(&cluster, &mut drey, 1);
    assert_eq!(cluster.rest().restored().as_deref(), checkpoint.to_str());
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    cluster.assert_exactly_once(500);
}

#[test]
fn a_plain_savepoint_counts_no_longer_once_the_job_fell_back_behind_it() {
    let cluster = Cluster::new(Version::v1())
        // The only checkpoint is the one that is asked for below.
        .set("execution.checkpointing.interval", "10 min")
        .set("restart-strategy.type", "fixed-delay")
        .set("restart-strategy.fixed-delay.attempts", 1000)
        .set("restart-strategy.fixed-delay.delay", "100 ms");
    let mut task_manager = cluster.task_manager();
    let mut drey = cluster.run();
    drey.wait_for_log("Job is running");
    let job = cluster.rest().wait_running();
    cluster
        .rest()
        .post(&format!("/jobs/{job}/checkpoints"), &serde_json::json!({}));
    eventually("the checkpoint", || {
        (cluster.rest().checkpoints()["counts"]["completed"].as_u64()? >= 1).then_some(())
    });
    cluster.drey_ok(&["savepoint"]);
    assert_eq!(cluster.newest().unwrap().kind, PointKind::Savepoint);
    task_manager.kill();
    let _another = cluster.task_manager();
    drey.wait_for_log("newer plain savepoints count no longer");
    crash(&cluster, &mut drey);
    let checkpoint = newest_checkpoint(&cluster);

    let mut drey = cluster.run();
    drey.wait_for_log("Job is running");
    assert_eq!(cluster.rest().restored().as_deref(), checkpoint.to_str());
    cluster.rest().wait_running();
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    cluster.assert_exactly_once(500);
}

#[test]
fn who_goes_back_to_an_older_savepoint_is_not_overruled_after_a_crash() {
    let cluster = Cluster::new(Version::v2());
    let _task_manager = cluster.task_manager();
    let old = whole_run(&cluster);
    let mut drey = cluster.run();
    settle(&cluster, &mut drey, 8);
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    let abandoned = cluster.newest().unwrap().checkpoint_id;
    // What the abandoned run has committed is taken back by hand, too.
    fs::remove_dir_all(cluster.path("out")).unwrap();
    fs::create_dir(cluster.path("out")).unwrap();

    cluster.drey_ok(&["pointer", "set", old.to_str().unwrap()]);
    let mut drey = cluster.run();
    settle(&cluster, &mut drey, 2);
    assert_eq!(cluster.rest().restored().as_deref(), old.to_str());
    crash(&cluster, &mut drey);
    let checkpoint = newest_checkpoint(&cluster);
    let mut drey = cluster.run();
    settle(&cluster, &mut drey, 1);
    assert_eq!(cluster.rest().restored().as_deref(), checkpoint.to_str());
    let restored = cluster.newest().unwrap().checkpoint_id;
    assert!(restored < abandoned, "{restored:?} is before {abandoned:?}");
    drey.term();
    assert_eq!(drey.exit_code(), 0);
}

#[test]
fn a_job_id_that_is_used_again_clashes_with_nothing_in_a_shared_checkpoint_directory() {
    const ID: &str = "00000000000000000000000000abcdef";
    let cluster = Cluster::new(Version::v2());
    let _task_manager = cluster.task_manager();
    let start = || cluster.start().flink_args(&["--job-id", ID]).go();
    let mut drey = start();
    settle(&cluster, &mut drey, 3);
    assert_eq!(cluster.rest().job(), ID);
    crash(&cluster, &mut drey);
    let checkpoint = newest_checkpoint(&cluster);
    let mut drey = start();
    settle(&cluster, &mut drey, 3);
    assert_eq!(cluster.rest().job(), ID);
    assert_eq!(cluster.rest().restored().as_deref(), checkpoint.to_str());
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    cluster.assert_exactly_once(500);

    // From empty state its checkpoint ids begin at 1 again, beside those that are still there.
    cluster.drey_ok(&["pointer", "clear"]);
    fs::remove_dir_all(cluster.path("out")).unwrap();
    fs::create_dir(cluster.path("out")).unwrap();
    let mut drey = start();
    settle(&cluster, &mut drey, 6);
    assert_eq!(cluster.rest().restored(), None);
    assert_eq!(
        cluster.rest().checkpoints()["counts"]["restored"],
        0,
        "no failover"
    );
    assert!(checkpoint.join("_metadata").exists());
    drey.term();
    assert_eq!(drey.exit_code(), 0);
    cluster.assert_exactly_once(500);
}

#[test]
fn a_lost_checkpoint_is_missed_and_nothing_older_is_taken_in_its_place() {
    let cluster = Cluster::new(Version::v1())
        .set("execution.checkpointing.interval", "5 s")
        .set("state.checkpoints.num-retained", 3);
    let _task_manager = cluster.task_manager();
    let mut drey = cluster.run();
    settle(&cluster, &mut drey, 2);
    let newest = |status: &drey::control::Status| {
        let job = status.jobs.values().next()?;
        job.completed_checkpoint.filter(|id| *id >= 2)
    };
    let status = cluster.wait_for_status("two checkpoints seen", |status| newest(status).is_some());
    let known = newest(&status).unwrap();
    crash(&cluster, &mut drey);
    for path in cluster.checkpoints() {
        let number = path.to_str().unwrap().rsplit_once("chk-").unwrap().1;
        if number.parse::<i64>().unwrap() >= known {
            fs::remove_dir_all(path).unwrap();
        }
    }
    assert!(!cluster.checkpoints().is_empty(), "an older one is there");
    let said = refused(&cluster);
    assert!(
        said.contains(&format!("completed checkpoint {known}")),
        "{said}"
    );
}

#[test]
fn what_standalone_mode_would_ignore_or_overrule_is_refused() {
    let cluster = Cluster::new(Version::v1());
    let cases: [(&[&str], &[&str], &str); 2] = [
        (&[], &["--fromSavepoint", "file:///x"], "drey pointer set"),
        (&["--claim-mode", "claim"], &[], "FLINK-40559"),
    ];
    for (flags, flink_args, says) in cases {
        let mut drey = cluster.start().flags(flags).flink_args(flink_args).go();
        assert_eq!(drey.exit_code(), 64);
        assert!(drey.log().contains(says), "{}", drey.log());
    }
}

/// The job's sink gets another uid, so nobody takes over the state of the old one.
#[test]
fn state_that_the_new_job_has_no_operator_for_is_left_behind_only_where_that_is_allowed() {
    for version in [Version::v1(), Version::v2()] {
        let cluster = Cluster::new(version);
        let _task_manager = cluster.task_manager();
        let savepoint = whole_run(&cluster);
        let changed = || cluster.start().job_args(&["--sink-uid", "other"]);

        let mut drey = changed().go();
        assert_ne!(drey.exit_code(), 0, "{}", drey.log());
        let logs = fs::read_dir(cluster.path("log")).unwrap();
        let logs = logs.map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
        let told = logs.filter(|log| log.contains("Cannot map checkpoint/savepoint state"));
        assert_eq!(told.count(), 1, "Flink says why");
        assert_eq!(cluster.newest_path(), savepoint);

        let mut drey = changed().flag("--allow-non-restored-state").go();
        settle(&cluster, &mut drey, 2);
        assert_eq!(cluster.rest().restored().as_deref(), savepoint.to_str());
        drey.term();
        assert_eq!(drey.exit_code(), 0);
        cluster.assert_exactly_once(500);
    }
}

/// The format in which a job is stopped by default, with both state backends.
#[test]
fn a_native_savepoint_of_flink_1_is_resumed_by_flink_2() {
    for backend in ["hashmap", "rocksdb"] {
        let cluster = Cluster::new(Version::v1()).set("state.backend.type", backend);
        let mut task_manager = cluster.task_manager();
        let savepoint = whole_run(&cluster);
        task_manager.kill();
        let said = cluster.drey_ok(&["inspect", savepoint.to_str().unwrap()]);
        assert!(said.contains("native format"), "{said}");

        let cluster = cluster.with_version(Version::v2());
        let _task_manager = cluster.task_manager();
        let mut drey = cluster.run();
        settle(&cluster, &mut drey, 2);
        assert_eq!(cluster.rest().restored().as_deref(), savepoint.to_str());
        drey.term();
        assert_eq!(drey.exit_code(), 0);
        cluster.assert_exactly_once(500);
    }
}

#[test]
fn a_start_that_restored_something_else_freezes_the_pointer() {
    let cluster = Cluster::new(Version::v1());
    let _task_manager = cluster.task_manager();
    let old = whole_run(&cluster);
    let chosen = whole_run(&cluster);
    let wrapper = cluster.path("wrapper.sh");
    let script = format!(
        "#!/bin/sh\nsed -i 's|^execution.state-recovery.path:.*|execution.state-recovery.path: {}|' \
         \"$FLINK_CONF_DIR\"/config.yaml\nexec \"$@\"\n",
        old.display()
    );
    fs::write(&wrapper, script).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();

    let start = cluster.start();
    let words = [vec![wrapper.display().to_string()], start.flink()].concat();
    let mut drey = start.command(words).go();
    drey.wait_for_log("the pointer is frozen");
    assert_eq!(cluster.rest().restored().as_deref(), old.to_str());
    let problems = |status: &drey::control::Status| {
        let reports = status.jobs.values().flat_map(|job| job.problems.iter());
        reports.cloned().collect::<Vec<String>>().join("\n")
    };
    let status = cluster.wait_for_status("the problem", |status| !problems(status).is_empty());
    assert!(problems(&status).contains(old.to_str().unwrap()));
    drey.term();
    assert_eq!(drey.exit_code(), 143);
    assert_eq!(cluster.newest_path(), chosen, "nothing of it is recorded");
    let said = refused(&cluster);
    assert!(
        said.contains("frozen") && said.contains("drey pointer set"),
        "{said}"
    );

    cluster.drey_ok(&["pointer", "set", chosen.to_str().unwrap()]);
    let mut drey = cluster.run();
    drey.wait_for_log("Job is running");
    assert_eq!(cluster.rest().restored().as_deref(), chosen.to_str());
    drey.term();
    assert_eq!(drey.exit_code(), 0);
}

/// `drey restore` on a configuration directory of its own, written as `user_text` adds to it: changes nothing in a dry
/// run, nothing the second time, and nothing but its own keys; Flink reads what was meant.
fn restore_step(version: Version, user_text: &str) {
    let cluster = Cluster::new(version);
    let _task_manager = cluster.task_manager();
    let savepoint = whole_run(&cluster);
    let conf = cluster.path("own-conf");
    fs::create_dir(&conf).unwrap();
    for (path, content) in cluster.configuration() {
        fs::write(conf.join(path.file_name().unwrap()), content).unwrap();
    }
    let file = cluster.configuration_file();
    let mut file = conf.join(file.file_name().unwrap());
    let mut text = fs::read_to_string(&file).unwrap();
    if user_text.is_empty() {
        // 1.20 reads the old file as well, and it wins over the new one.
        fs::remove_file(&file).unwrap();
        file = conf.join("flink-conf.yaml");
    }
    text = format!("# A comment at the top\n{text}{user_text}");
    fs::write(&file, &text).unwrap();
    let pointer = cluster.pointer();
    let conf_flag = ["--flink-conf-dir", conf.to_str().unwrap()];
    let restore = |more: &[&str]| cluster.drey_ok(&[&["restore"], &conf_flag[..], more].concat());

    let shown = restore(&["--dry-run"]);
    assert!(shown.contains(savepoint.to_str().unwrap()), "{shown}");
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    assert_eq!(cluster.pointer(), pointer);

    restore(&[]);
    let written = fs::read_to_string(&file).unwrap();
    assert_ne!(written, text);
    for line in text.lines() {
        assert!(written.lines().any(|kept| kept == line), "gone: {line}");
    }
    let pointer = fs::read(cluster.path("state/pointer.json")).unwrap();
    restore(&[]);
    assert_eq!(fs::read_to_string(&file).unwrap(), written);
    assert_eq!(
        fs::read(cluster.path("state/pointer.json")).unwrap(),
        pointer
    );

    let flink = started_with(&cluster, &conf, &savepoint);
    crash_of(&cluster, flink);
    // The next run's directories lie beside the last run's, not below them.
    restore(&[]);
    let run = cluster.entry().run.unwrap();
    let directory = run.checkpoint_dir.unwrap();
    let beside = cluster.path("checkpoints/default").join(run.id.as_str());
    assert_eq!(Path::new(plain_path(&directory)), beside);
}

/// A JobManager started by hand with `conf` has the configuration that was meant.
fn started_with(cluster: &Cluster, conf: &Path, savepoint: &Path) -> Process {
    let mut words = cluster.start().flink();
    let at = words.iter().position(|word| word == "--configDir").unwrap();
    words[at + 1] = conf.display().to_string();
    let mut command: Command = cluster.command(&words[0]);
    command.args(&words[1..]).env("FLINK_CONF_DIR", conf);
    let flink = Process::start(&mut command, cluster.log_file("jm-by-hand"));
    let configuration = cluster.rest().get("/jobmanager/config");
    let value = |key: &str| {
        let pairs = configuration.as_array().unwrap();
        let pair = pairs.iter().find(|pair| pair["key"] == key);
        pair.and_then(|pair| pair["value"].as_str())
            .map(str::to_owned)
    };
    let run = cluster.entry().run.unwrap();
    let start = value("execution.state-recovery.path").unwrap();
    assert_eq!(Path::new(plain_path(&start)), savepoint);
    assert_eq!(value("drey.run-id").as_deref(), Some(run.id.as_str()));
    assert_eq!(value("execution.checkpointing.dir"), run.checkpoint_dir);
    assert_eq!(
        value("execution.checkpointing.externalized-checkpoint-retention").as_deref(),
        Some("RETAIN_ON_CANCELLATION")
    );
    assert_eq!(
        value("execution.shutdown-on-application-finish").as_deref(),
        Some("false")
    );
    assert_eq!(
        Some(cluster.rest().job()),
        run.job_id.map(|id| id.to_string())
    );
    let restored = eventually("what was restored", || cluster.rest().restored());
    assert_eq!(Path::new(&restored), savepoint);
    cluster.rest().wait_running();
    cluster.rest().wait_for_checkpoints(1);
    flink
}

fn crash_of(cluster: &Cluster, mut flink: Process) {
    flink.kill();
    cluster.wait_gone();
}

#[test]
fn the_restore_step_edits_flat_and_nested_keys_as_flink_reads_them() {
    restore_step(
        Version::v2(),
        "execution: # nested, with a comment\n  checkpointing:\n    mode: EXACTLY_ONCE # another one\n",
    );
}

#[test]
fn the_restore_step_edits_the_old_file_where_flink_still_reads_it() {
    restore_step(Version::v1(), "");
}

#[test]
fn the_tripwire_in_a_configuration_is_taken_away_and_counts_as_no_start_path() {
    let names = ["execution.state-recovery.path", "execution.savepoint.path"];
    let tripwire = "file:///drey/not-injected";
    let mut cluster = Cluster::new(Version::v1());
    for name in names {
        cluster.configure(name, tripwire);
    }
    let _task_manager = cluster.task_manager();
    let plan = cluster.drey_ok(&["restore", "--dry-run", "--output", "json"]);
    let plan: Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(plan["restore-from"], Value::Null);
    assert_eq!(plan["remove"], serde_json::json!(names));
    assert_eq!(plan["why"], "there has never been a restore point");

    let savepoint = whole_run(&cluster);
    assert_eq!(cluster.entry().newest().unwrap().kind, PointKind::Stop);
    let plan = cluster.drey_ok(&["restore", "--dry-run", "--output", "json"]);
    let plan: Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(
        plain_path(plan["set"][names[0]].as_str().unwrap()),
        savepoint.to_str().unwrap()
    );
    assert_eq!(plan["remove"], serde_json::json!([names[1]]));
}
