use super::*;
use crate::domain::pointer::RunId;

fn command(line: &str) -> Result<Command, CommandError> {
    let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
    Command::new(&words, Mode::Auto)
}

fn order() -> StartOrder {
    StartOrder {
        run: RunId::from_bytes([1; 6]),
        set: BTreeMap::from([("state.checkpoints.dir".to_owned(), "file:///own".to_owned())]),
        remove: Vec::new(),
        args: vec!["--allowNonRestoredState".to_owned()],
        job_args: Vec::new(),
        restore_from: None,
        why: String::new(),
    }
}

fn executed(line: &str) -> String {
    let command = command(line)
        .expect("a good command")
        .with(&order(), Path::new("/copy"));
    let args: Vec<_> = command
        .get_args()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    args.join(" ")
}

#[test]
fn the_mode_is_told_from_the_command() {
    for (line, application, standalone) in [
        ("bin/standalone-job.sh start-foreground -j A", true, true),
        ("/docker-entrypoint.sh standalone-job", true, true),
        ("bin/jobmanager.sh start-foreground", false, true),
        ("/docker-entrypoint.sh jobmanager", false, true),
        (
            "bash -c kubernetes-jobmanager.sh kubernetes-application",
            true,
            false,
        ),
        (
            "bash -c kubernetes-jobmanager.sh kubernetes-session",
            false,
            false,
        ),
        (
            "java org.apache.flink.container.entrypoint.StandaloneApplicationClusterEntryPoint",
            true,
            true,
        ),
        (
            "java org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint",
            false,
            true,
        ),
    ] {
        let command = command(line).expect(line);
        assert_eq!(
            (command.is_application(), command.is_standalone()),
            (application, standalone),
            "{line}"
        );
    }
}

#[test]
fn a_task_manager_and_native_mode_are_told_from_the_command() {
    for (line, task_manager, native) in [
        ("/docker-entrypoint.sh taskmanager", true, false),
        ("bin/taskmanager.sh start-foreground", true, false),
        (
            "java org.apache.flink.runtime.taskexecutor.TaskManagerRunner",
            true,
            false,
        ),
        (
            "/docker-entrypoint.sh bash -c kubernetes-taskmanager.sh -Dx=y",
            true,
            true,
        ),
        (
            "bash -c kubernetes-jobmanager.sh kubernetes-application",
            false,
            true,
        ),
        (
            "/docker-entrypoint.sh standalone-job -j taskmanager jobmanager",
            false,
            false,
        ),
    ] {
        let command = command(line).expect(line);
        assert_eq!(
            (command.is_task_manager(), command.is_native()),
            (task_manager, native),
            "{line}"
        );
    }
    let entrypoint = Path::new("/start.sh");
    for (line, known) in [
        ("/start.sh jobmanager", true),
        ("/opt/docker-entrypoint.sh jobmanager", true),
        ("/other.sh jobmanager", false),
    ] {
        assert_eq!(
            command(line).expect(line).is_entrypoint(entrypoint),
            known,
            "{line}"
        );
    }
}

#[test]
fn the_one_word_of_native_mode_is_read_and_overruled_as_well() {
    let words = [
        "/docker-entrypoint.sh",
        "bash",
        "-c",
        "kubernetes-jobmanager.sh kubernetes-application -Da.b=1  -Dstate.checkpoints.dir=s3://u/c -D c=d",
    ];
    let words = words.map(OsString::from);
    let command = Command::new(&words, Mode::Auto).expect("good");
    let found: Vec<(String, String)> = command.dynamic().collect();
    let pairs: Vec<(&str, &str)> = found.iter().map(|(a, b)| (&**a, &**b)).collect();
    assert_eq!(
        pairs,
        [
            ("a.b", "1"),
            ("state.checkpoints.dir", "s3://u/c"),
            ("c", "d")
        ]
    );
    let order = StartOrder {
        args: Vec::new(),
        ..order()
    };
    let command = command.with(&order, Path::new("/copy"));
    let args: Vec<&OsStr> = command.get_args().collect();
    assert_eq!(
        args,
        [
            "bash",
            "-c",
            "kubernetes-jobmanager.sh kubernetes-application -Da.b=1  -Dstate.checkpoints.dir=file:///own -D c=d"
        ]
    );
}

#[test]
fn a_command_that_tells_nothing_needs_the_mode_from_the_settings() {
    assert_eq!(
        command("./start.sh"),
        Err(CommandError::Mode("./start.sh".to_owned()))
    );
    let words = [OsString::from("./start.sh")];
    let told = Command::new(&words, Mode::Application).expect("the mode is given");
    assert!(told.is_application() && !told.is_standalone());
}

#[test]
fn a_command_that_cannot_be_supervised_is_refused() {
    assert!(matches!(
        command("bin/standalone-job.sh start"),
        Err(CommandError::Background(_))
    ));
    for word in [
        "-s",
        "--fromSavepoint",
        "-fromSavepoint",
        "--fromSavepoint=/x",
    ] {
        let line = format!("bin/standalone-job.sh start-foreground {word} /x");
        assert!(
            matches!(command(&line), Err(CommandError::RestorePoint(_))),
            "{word}"
        );
    }
    assert!(matches!(
        command("bin/standalone-job.sh start-foreground --job-id 12"),
        Err(CommandError::JobId(_))
    ));
}

#[test]
fn arguments_go_right_after_the_verb_and_dreys_value_wins_over_dynamic_properties() {
    assert_eq!(
        executed(
            "bin/standalone-job.sh start-foreground -Dstate.checkpoints.dir=s3://u/c -Da.b=c -j A"
        ),
        "start-foreground --allowNonRestoredState -Dstate.checkpoints.dir=file:///own -Da.b=c -j A"
    );
    assert_eq!(
        executed(
            "java x.StandaloneApplicationClusterEntryPoint --configDir /etc/flink -D state.checkpoints.dir=/u -j A"
        ),
        "x.StandaloneApplicationClusterEntryPoint --allowNonRestoredState --configDir /copy -D \
         state.checkpoints.dir=file:///own -j A"
    );
}

#[test]
fn a_property_that_is_removed_goes_from_the_command_as_well() {
    let order = StartOrder {
        remove: vec!["execution.savepoint.path".to_owned()],
        args: Vec::new(),
        ..order()
    };
    for (line, left) in [
        (
            "bin/standalone-job.sh start-foreground -Dexecution.savepoint.path=/x -Da=b execution.savepoint.path=/job",
            "start-foreground -Da=b execution.savepoint.path=/job",
        ),
        (
            "bin/standalone-job.sh start-foreground -D execution.savepoint.path=/x -D a=b",
            "start-foreground -D a=b",
        ),
    ] {
        let command = command(line)
            .expect("good")
            .with(&order, Path::new("/copy"));
        let args: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        assert_eq!(args.join(" "), left);
    }
    let native =
        "kubernetes-jobmanager.sh kubernetes-application -D execution.savepoint.path=/x -Da=b";
    let words = ["bash", "-c", native].map(OsString::from);
    let native = Command::new(&words, Mode::Auto).expect("good");
    let native = native.with(&order, Path::new("/copy"));
    assert_eq!(
        native.get_args().last().and_then(OsStr::to_str),
        Some("kubernetes-jobmanager.sh kubernetes-application -Da=b")
    );
}

#[test]
fn dynamic_properties_are_found_in_both_spellings() {
    let command = command("bin/jobmanager.sh start-foreground -Da=1 -D b=2=3").expect("good");
    let found: Vec<_> = command.dynamic().collect();
    assert_eq!(
        found,
        [
            ("a".to_owned(), "1".to_owned()),
            ("b".to_owned(), "2=3".to_owned())
        ]
    );
}

#[test]
fn a_fixed_job_id_is_known() {
    let id = "00000000000000000000000000000abc";
    let command = command(&format!(
        "bin/standalone-job.sh start-foreground --job-id {id}"
    ))
    .expect("good");
    assert_eq!(
        command.job_id().map(|id| id.to_string()),
        Some(id.to_owned())
    );
}

#[test]
fn a_java_waits_only_where_it_is_a_jobmanager() {
    let package = "org.apache.flink";
    for class in [
        "container.entrypoint.StandaloneApplicationClusterEntryPoint",
        "runtime.entrypoint.StandaloneSessionClusterEntrypoint",
        "kubernetes.entrypoint.KubernetesApplicationClusterEntrypoint",
        "kubernetes.entrypoint.KubernetesSessionClusterEntrypoint",
    ] {
        assert!(
            is_job_manager_class(OsStr::new(&format!("{package}.{class}"))),
            "{class}"
        );
        assert!(!is_job_manager_class(OsStr::new(class)), "{class}");
    }
    for other in [
        "org.apache.flink.runtime.util.bash.BashJavaUtils",
        "org.apache.flink.runtime.taskexecutor.TaskManagerRunner",
        "-version",
    ] {
        assert!(!is_job_manager_class(OsStr::new(other)), "{other}");
    }
}
