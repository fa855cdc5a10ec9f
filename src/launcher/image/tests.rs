use super::*;
use crate::flink::config_file::ConfigFormat;

fn image(home: &Path, minor: u16, native: bool, environment: &[(&str, &str)]) -> Image {
    let version = FlinkVersion {
        major: 1,
        minor,
        patch: 0,
    };
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Image::new(home.to_owned(), version, native, environment.collect())
}

/// The entries of `text` after [`Image::fill`].
fn filled(image: &Image, format: ConfigFormat, text: &str) -> BTreeMap<String, String> {
    let file = ConfigFile::parse(format, text).expect("good");
    image.fill(&file).expect("filled").entries().clone()
}

/// The variables that a child gets; `None` for one that is removed.
fn variables(image: &Image, text: &str) -> BTreeMap<String, Option<String>> {
    let entries = filled(image, ConfigFormat::FlinkConfYaml, text);
    let mut command = process::Command::new("x");
    image.environment(&mut command, Path::new("/state"), &entries);
    command
        .get_envs()
        .map(|(name, value)| {
            let text = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
            (text(name), value.map(text))
        })
        .collect()
}

#[test]
fn properties_win_over_variables_and_those_over_the_file() {
    let image = image(
        Path::new("/none"),
        20,
        false,
        &[
            (
                "FLINK_PROPERTIES",
                "a.b: two words\njobmanager.rpc.address: jm",
            ),
            ("JOB_MANAGER_RPC_ADDRESS", "other"),
            ("TASK_MANAGER_NUMBER_OF_TASK_SLOTS", "4"),
        ],
    );
    let text = "a:\n  b: file\njobmanager.rpc.address: localhost\ntaskmanager.numberOfTaskSlots: 1\nc: kept\n";
    let entries = filled(&image, ConfigFormat::ConfigYaml, text);
    for (key, value) in [
        ("a.b", "two words"),
        ("jobmanager.rpc.address", "jm"),
        ("taskmanager.numberOfTaskSlots", "4"),
        ("c", "kept"),
    ] {
        assert_eq!(entries.get(key).map(String::as_str), Some(value), "{key}");
    }
}

#[test]
fn an_old_image_replaces_variables_in_the_whole_file_and_native_mode_none() {
    let variables = [("HOST", "h"), ("JOB_MANAGER_RPC_ADDRESS", "other")];
    let text = "a: $HOST\n$internal.pipeline.job-id: 1\njobmanager.rpc.address: service\n";
    let entries = |native| {
        let image = image(Path::new("/none"), 18, native, &variables);
        filled(&image, ConfigFormat::FlinkConfYaml, text)
    };
    assert_eq!(entries(false)["a"], "h");
    assert_eq!(entries(false)["$internal.pipeline.job-id"], "1");
    assert_eq!(entries(false)["jobmanager.rpc.address"], "other");
    assert_eq!(entries(true)["a"], "$HOST");
    assert_eq!(entries(true)["jobmanager.rpc.address"], "service");
}

#[test]
fn what_the_entrypoint_sets_itself_keeps_the_value_of_the_configuration() {
    let home = tempfile::tempdir().expect("a directory");
    fs::create_dir(home.path().join("log")).expect("a directory");
    let of = |environment: &[(&str, &str)], text| {
        variables(&image(home.path(), 20, false, environment), text)
    };
    let given = of(
        &[("FLINK_PROPERTIES", "blob.server.port: 7000\na: b")],
        "jobmanager.rpc.address: jm\nquery.server.port: 6125\ntaskmanager.numberOfTaskSlots: 3\n",
    );
    assert_eq!(given["JOB_MANAGER_RPC_ADDRESS"].as_deref(), Some("jm"));
    assert_eq!(
        given["TASK_MANAGER_NUMBER_OF_TASK_SLOTS"].as_deref(),
        Some("3")
    );
    assert_eq!(
        given["FLINK_PROPERTIES"].as_deref(),
        Some("blob.server.port: 7000")
    );
    assert_eq!(given["FLINK_HOME"].as_deref(), Some("/state/home"));
    assert!(!given.contains_key("FLINK_LOG_DIR"));

    // What the image's file has is no choice of the user's.
    let given = of(&[], "jobmanager.rpc.address: localhost\n");
    assert!(!given.contains_key("JOB_MANAGER_RPC_ADDRESS"));
    assert_eq!(given["FLINK_PROPERTIES"], None);
    let given = of(
        &[("FLINK_PROPERTIES", "jobmanager.rpc.address: localhost")],
        "",
    );
    assert_eq!(
        given["JOB_MANAGER_RPC_ADDRESS"].as_deref(),
        Some("localhost")
    );
}

#[test]
fn a_key_of_flink_with_a_dollar_survives_the_envsubst_of_an_old_image() {
    let given = variables(&image(Path::new("/none"), 18, false, &[]), "a: b\n");
    assert_eq!(given["internal"].as_deref(), Some("$internal"));
    let given = variables(&image(Path::new("/none"), 19, false, &[]), "a: b\n");
    assert!(!given.contains_key("internal"));
}

/// A home of Flink with one file of each kind.
fn home(dir: &Path) -> io::Result<PathBuf> {
    let home = dir.join("flink");
    for name in [
        "bin/config-parser-utils.sh",
        "bin/jobmanager.sh",
        "conf/config.yaml",
        "lib/flink-dist-1.20.0.jar",
        "log/old.log",
        "opt/some.jar",
        "plugins/metrics/m.jar",
        "usrlib/job.jar",
    ] {
        let path = home.join(name);
        fs::create_dir_all(path.parent().unwrap_or(dir))?;
        fs::write(path, "original")?;
    }
    Ok(home)
}

#[test]
fn the_home_of_links_has_everything_and_what_is_written_into_it_stays_in_it() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let home = home(dir.path())?;
    let (state, conf) = (dir.path().join("state"), dir.path().join("state/conf"));
    fs::create_dir_all(&conf)?;
    fs::write(conf.join("config.yaml"), "copy")?;
    let shadow = state.join("home");
    for native in [false, true, false] {
        image(&home, 20, native, &[]).shadow(&state, &conf)?;
        assert_eq!(fs::read_to_string(shadow.join("conf/config.yaml"))?, "copy");
        for name in [
            "bin/jobmanager.sh",
            "lib/flink-dist-1.20.0.jar",
            "log/old.log",
            "opt/some.jar",
            "plugins/metrics/m.jar",
            "usrlib/job.jar",
        ] {
            assert_eq!(fs::read_to_string(shadow.join(name))?, "original", "{name}");
        }
        // As the entrypoint does it.
        fs::write(shadow.join("conf/config.yaml"), "written")?;
        let expected = if native { "copy" } else { "written" };
        assert_eq!(fs::read_to_string(conf.join("config.yaml"))?, expected);
        fs::write(conf.join("config.yaml"), "copy")?;
        fs::create_dir(shadow.join("plugins/s3"))?;
        symlink(
            shadow.join("opt/some.jar"),
            shadow.join("plugins/metrics/more.jar"),
        )?;
        let parser = fs::read_to_string(shadow.join("bin/config-parser-utils.sh"))?;
        assert_eq!(parser == "original", !native);
        assert!(!shadow.join("lib").is_symlink());
    }
    assert_eq!(fs::read_dir(home.join("plugins"))?.count(), 1);
    assert_eq!(fs::read_dir(home.join("plugins/metrics"))?.count(), 1);
    assert_eq!(
        fs::read_to_string(home.join("conf/config.yaml"))?,
        "original"
    );
    Ok(())
}

#[test]
fn a_copy_of_what_is_read_only_can_be_written_to() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::create_dir(&from)?;
    fs::write(from.join("config.yaml"), "a: 1\n")?;
    fs::set_permissions(from.join("config.yaml"), Permissions::from_mode(0o440))?;
    for _ in 0..2 {
        copy_files(&from, &to, |_| true)?;
    }
    let mode = fs::metadata(to.join("config.yaml"))?.permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    Ok(())
}
