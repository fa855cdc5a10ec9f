use proptest::prelude::*;

use super::*;

type Outcome = Result<(), ConfigFileError>;

fn yaml(text: &str) -> Result<ConfigFile, ConfigFileError> {
    ConfigFile::parse(ConfigFormat::ConfigYaml, text)
}

fn legacy(text: &str) -> Result<ConfigFile, ConfigFileError> {
    ConfigFile::parse(ConfigFormat::FlinkConfYaml, text)
}

fn flat(file: &ConfigFile) -> Vec<(&str, &str)> {
    let entries = file.entries().iter();
    entries
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect()
}

#[test]
fn nested_flat_and_mixed_spellings_are_the_same_key() -> Outcome {
    for text in [
        "execution:\n  checkpointing:\n    dir: x\n",
        "execution.checkpointing:\n  dir: x\n",
        "execution: {checkpointing.dir: x}\n",
        "execution.checkpointing.dir: x\n",
        "{execution: {checkpointing: {dir: x}}}\n",
        "\u{feff}execution:\r\n  checkpointing: # c\r\n    dir: x",
        "---\nexecution: &e !!map\n  'checkpointing': {\"dir\":x}\n...\n",
    ] {
        assert_eq!(
            flat(&yaml(text)?),
            [("execution.checkpointing.dir", "x")],
            "{text}"
        );
    }
    Ok(())
}

#[test]
fn the_last_spelling_counts_and_is_the_one_that_is_changed() -> Outcome {
    let mut file = yaml("a:\n  b: 1\na.b: 2\n")?;
    assert_eq!(file.get("a.b"), Some("2"));
    file.set("a.b", "3")?;
    assert_eq!(file.text(), "a:\n  b: 1\na.b: 3\n");
    file.remove("a.b")?;
    assert_eq!(file.text(), "");
    Ok(())
}

#[test]
fn a_value_is_replaced_where_it_is_and_everything_else_stays() -> Outcome {
    for (before, after) in [
        ("k: old # why\nb: 1\n", "k: new # why\nb: 1\n"),
        ("k:   'old'   # why\n", "k:   new   # why\n"),
        ("k: \"old\\n\"", "k: new"),
        ("k: old\r\nb: 1\r\n", "k: new\r\nb: 1\r\n"),
        ("k: old\n  goes on # why\nb: 1\n", "k: new # why\nb: 1\n"),
        (
            "k: | # why\n  old\n  older\n\n# c\nb: 1\n",
            "k: new # why\n\n# c\nb: 1\n",
        ),
        ("k: >-\n  old", "k: new"),
        ("k: [a, b] # why\n", "k: new # why\n"),
        (
            "k: # why\n  - a\n  - b # gone\n# c\nb: 1\n",
            "k: new # why # gone\n# c\nb: 1\n",
        ),
        ("k:\n- a\n- b\nb: 1\n", "k: new\nb: 1\n"),
        ("{k: old, b: 1}\n", "{k: new, b: 1}\n"),
        ("{'k':old, b: 1}\n", "{'k': new, b: 1}\n"),
        ("b: &x 1\nk: *x\n", "b: &x 1\nk: new\n"),
        ("k: !!str 5\n", "k: !!str new\n"),
        ("? k\n: old\n", "? k\n: new\n"),
        (
            "%YAML 1.2\n---\nk: old\n...\n",
            "%YAML 1.2\n---\nk: new\n...\n",
        ),
    ] {
        let mut file = yaml(before)?;
        let changed = file.set("k", "new");
        assert!(matches!(changed, Ok(true)), "{before:?}: {changed:?}");
        assert_eq!(file.text(), after, "{before:?}");
        assert!(!file.set("k", "new")?);
    }
    Ok(())
}

#[test]
fn a_new_key_comes_last_and_leaves_without_a_trace() -> Outcome {
    for (before, after) in [
        ("", "MARK\nk.l: new\n"),
        ("# c", "# c\nMARK\nk.l: new"),
        ("a: 1\n", "a: 1\nMARK\nk.l: new\n"),
        ("a: 1", "a: 1\nMARK\nk.l: new"),
        ("a: 1\r\n", "a: 1\r\nMARK\r\nk.l: new\r\n"),
        ("a: 1\r\nb: 2", "a: 1\r\nb: 2\r\nMARK\r\nk.l: new"),
        (
            "a:\n  b: 1\n\n# end\n\n",
            "a:\n  b: 1\n\n# end\n\nMARK\nk.l: new\n",
        ),
        ("  a: 1\n", "  a: 1\n  MARK\n  k.l: new\n"),
        ("a: 1\n...\n# end\n", "a: 1\nMARK\nk.l: new\n...\n# end\n"),
        ("---\n", "---\nMARK\nk.l: new\n"),
        ("---", "---\nMARK\nk.l: new"),
        ("{a: 1}\n", "{a: 1, k.l: new}\n"),
        ("{a: 1,}\n", "{a: 1, k.l: new,}\n"),
        ("{}\n", "{k.l: new}\n"),
        ("k: 1\n", "k: 1\nMARK\nk.l: new\n"),
        ("k:\n  m: 1\n", "k:\n  m: 1\nMARK\nk.l: new\n"),
        ("\u{feff}a: 1\n", "\u{feff}a: 1\nMARK\nk.l: new\n"),
        ("\u{feff}", "\u{feff}MARK\nk.l: new\n"),
        ("a: |+\n  x\n\n", "a: |+\n  x\n\nMARK\nk.l: new\n"),
    ] {
        let mut file = yaml(before)?;
        assert!(file.set("k.l", "new")?);
        assert_eq!(
            file.text(),
            after.replace("MARK", lines::MARKER),
            "{before:?}"
        );
        assert!(file.remove("k.l")?);
        assert_eq!(file.text(), before);
        assert!(!file.remove("k.l")?);
    }
    Ok(())
}

#[test]
fn several_new_keys_share_one_marker() -> Outcome {
    for mut file in [yaml("a: 1\n")?, legacy("a: 1\n")?] {
        file.set("b", "2")?;
        file.set("c", "3")?;
        assert_eq!(
            file.text(),
            format!("a: 1\n{}\nb: 2\nc: 3\n", lines::MARKER)
        );
        file.remove("b")?;
        file.set("c", "4")?;
        assert_eq!(file.text(), format!("a: 1\n{}\nc: 4\n", lines::MARKER));
        file.remove("c")?;
        assert_eq!(file.text(), "a: 1\n");
    }
    Ok(())
}

#[test]
fn removing_takes_emptied_parents_along_and_keeps_comments() -> Outcome {
    for (before, after) in [
        ("a: 1\nk:\n  l: x # gone\nb: 2\n", "a: 1\nb: 2\n"),
        ("k:\n  # stays\n  l: x\n  m: 1\n", "k:\n  # stays\n  m: 1\n"),
        (
            "k: # gone\n  # stays\n  l: |\n    x\n\n# c\n",
            "  # stays\n\n# c\n",
        ),
        ("a: |\n  b\nk:\n  # gone\n  l: x\nc: 1", "a: |\n  b\nc: 1"),
        ("k: {l: x}\na: 1\n", "a: 1\n"),
        ("k: {l: x, m: 1}\n", "k: {m: 1}\n"),
        ("k: {m: 1, l: x}\n", "k: {m: 1}\n"),
        ("{k: {l: x}, a: 1}\n", "{a: 1}\n"),
        ("{k.l: x}\n", "{}\n"),
        ("k:\n  l:\n  - x\n  - y\na: 1\n", "a: 1\n"),
        ("a: 1\nk.l: x", "a: 1"),
        ("\u{feff}k.l: x\na: 1\n", "\u{feff}a: 1\n"),
    ] {
        let mut file = yaml(before)?;
        assert!(file.remove("k.l")?);
        assert_eq!(file.text(), after, "{before:?}");
    }
    Ok(())
}

#[test]
fn a_key_that_comes_through_an_alias_is_overridden_not_changed_at_its_source() -> Outcome {
    let mut file = yaml("a: &m\n  x: 1\nb: *m\n")?;
    file.set("b.x", "2")?;
    assert_eq!(flat(&file), [("a.x", "1"), ("b.x", "2")]);
    let mut file = yaml("a: &m\n  x: 1\nb: *m\n")?;
    file.set("a.x", "2")?;
    assert_eq!(flat(&file), [("a.x", "2"), ("b.x", "1")]);
    assert!(matches!(
        file.remove("b.x"),
        Err(ConfigFileError::NotEditable { .. })
    ));
    let mut file = yaml("a: &v 1\nb: *v\n")?;
    let before = file.clone();
    assert!(matches!(
        file.set("a", "2"),
        Err(ConfigFileError::NotEditable { .. })
    ));
    assert!(matches!(
        file.remove("a"),
        Err(ConfigFileError::NotEditable { .. })
    ));
    assert_eq!(file, before);
    Ok(())
}

#[test]
fn what_flink_refuses_is_refused_with_its_line() {
    for (text, line, part) in [
        ("a: 1\nb:\n", 2, "b has no value"),
        ("a: 1\n\nc:\n  d: ~\n", 4, "c.d has no value"),
        ("a: 1\r\nb: 2\r\na: 3\r\n", 3, "twice"),
        ("a: 1\n---\nb: 2\n", 2, "second YAML document"),
        ("- a\n", 1, "not a mapping"),
        ("a\n", 1, "not a mapping"),
        ("# c\na:\n\tb: 1\n", 3, ""),
        ("a:\tb\n", 1, "tab"),
        ("a: 'x'\t# c\n", 1, "tab"),
        ("a: b: c\n", 1, ""),
        ("a: [x\n", 1, ""),
        ("1: x\n", 1, "not a string"),
        ("a: 1\n[x]: 1\n", 2, "key is a collection"),
        ("a: !secret x\n", 1, "tag !secret"),
        ("a: &x\n  b: *x\n", 2, "contains itself"),
        ("a: x\u{7}\n", 1, "U+0007"),
        ("a: +.inf\n", 1, "+.inf"),
        ("# c\n...\na: 1\n", 2, "end marker"),
    ] {
        let refused = yaml(text).map_err(|error| error.to_string());
        let message = refused.err().unwrap_or_default();
        let place = format!("config.yaml, line {line}: ");
        assert!(
            message.starts_with(&place) && message.contains(part),
            "{text:?}: {message}"
        );
    }
}

#[test]
fn an_alias_bomb_is_refused_without_being_expanded() {
    let mut text = String::from("l0: &l0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..20 {
        let aliases = vec![format!("*l{}", level - 1); 10].join(", ");
        text.push_str(&format!("l{level}: &l{level} [{aliases}]\n"));
    }
    assert!(matches!(yaml(&text), Err(ConfigFileError::Refused { .. })));
}

#[test]
fn values_come_back_as_they_were_set() -> Outcome {
    for value in [
        "",
        " ",
        "a: b",
        "#x",
        "x #y",
        "'",
        "\"",
        "true",
        "yes",
        "~",
        "null",
        "007",
        "1.0",
        "[a, b]",
        "{a: 1}",
        "*a",
        "&a",
        "!t",
        "a\nb\n",
        "\t",
        "é😀",
        "\u{85}",
        "\u{feff}x",
        "%",
        "@",
        "`",
        "- a",
        "? a",
        "a:",
        "---",
        "...",
        "\u{0}",
        "s3://b/p",
    ] {
        for text in ["", "k: old\n", "{k: old}\n", "{}\n", "k:\n- a\n"] {
            let mut file = yaml(text)?;
            let set = file.set("k", value);
            assert!(set.is_ok(), "{text:?} {value:?}");
            assert_eq!(file.get("k"), Some(value), "{text:?} {value:?}");
        }
    }
    Ok(())
}

#[test]
fn the_legacy_format_is_lines_not_yaml() -> Outcome {
    let text = "a: 1 # c\n a : b: c \nx:1\ne: \n#d: 1\nq: 'x'\nn:\n  m: 2\na: 3#4\r\nz: 1";
    let file = legacy(text)?;
    assert_eq!(
        flat(&file),
        [("a", "3"), ("m", "2"), ("q", "'x'"), ("z", "1")]
    );
    let mut file = legacy("k: old # why\nk:  older# c\r\nb: 1")?;
    file.set("k", "new")?;
    assert_eq!(file.text(), "k: old # why\nk:  new# c\r\nb: 1");
    file.remove("k")?;
    assert_eq!(file.text(), "b: 1");
    file.set("k", "new")?;
    assert_eq!(file.text(), format!("b: 1\n{}\nk: new", lines::MARKER));
    Ok(())
}

#[test]
fn what_the_legacy_format_cannot_hold_is_refused() -> Outcome {
    let mut file = legacy("a: 1\n")?;
    for value in ["", "a#b", " a", "a\nb", "a\r"] {
        let refused = file.set("k", value);
        assert!(
            matches!(refused, Err(ConfigFileError::Unwritable { .. })),
            "{value:?}"
        );
    }
    assert!(file.set("k: l", "x").is_err());
    assert_eq!(file.text(), "a: 1\n");
    Ok(())
}

#[test]
fn no_message_contains_a_value() -> Outcome {
    let mut file = yaml("a: &s hunter2\nb: *s\n")?;
    let messages = [
        file.set("a", "hunter3").map_err(|error| error.to_string()),
        yaml("p: 'hunter2\n")
            .map(|_| true)
            .map_err(|error| error.to_string()),
        yaml("p: hunter2: x\n")
            .map(|_| true)
            .map_err(|error| error.to_string()),
        legacy("")?
            .set("a", "hunter#2")
            .map_err(|error| error.to_string()),
    ];
    for message in messages {
        assert!(message.is_err_and(|text| !text.contains("hunter")));
    }
    Ok(())
}

/// A document of nested mappings with comments, in block and flow style and several spellings, and its line break.
fn documents() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        "[a-z/]{1,6}".prop_map(|text| text),
        Just("'it''s'".to_owned()),
        Just("\"a # b\"".to_owned()),
        Just("1.50".to_owned()),
        Just("s3://b/c".to_owned()),
        Just("[x, 'y z']".to_owned()),
        Just("{}".to_owned()),
    ];
    let name = "[a-d]{1,2}(\\.[a-d])?";
    let leaf = (name, scalar, 0..4_u8).prop_map(|(key, value, comment)| {
        let comment = ["", " # c", "  # a: b", ""][usize::from(comment)];
        vec![format!("{key}: {value}{comment}")]
    });
    let noise = prop_oneof![
        Just(String::new()),
        Just("# note".to_owned()),
        Just("  # k: v".to_owned())
    ];
    let entry = leaf.prop_recursive(3, 24, 4, move |inner| {
        let children =
            prop::collection::vec((inner, prop::option::weighted(0.2, noise.clone())), 1..4);
        (name, children).prop_map(|(key, children)| {
            let mut block = vec![format!("{key}:")];
            for (child, noise) in children {
                block.extend(noise);
                block.extend(child.into_iter().map(|line| format!("  {line}")));
            }
            block
        })
    });
    let flow = (name, "[a-z]{1,3}")
        .prop_map(|(key, value)| vec![format!("{key}: {{f: {value}, g: [1, 2]}}")]);
    let block = (name, "[a-z]{1,3}").prop_map(|(key, line)| {
        vec![
            format!("{key}: |"),
            format!("  {line}"),
            "  # text".to_owned(),
        ]
    });
    let items = prop::collection::vec(prop_oneof![6 => entry, 1 => flow, 1 => block], 0..6);
    (items, prop_oneof![Just("\n"), Just("\r\n")], any::<bool>()).prop_map(
        |(items, newline, end)| {
            let mut text = items.concat().join(newline);
            if end && !text.is_empty() {
                text.push_str(newline);
            }
            text
        },
    )
}

fn values() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,12}",
        "\\PC{0,6}",
        Just("s3://bucket/savepoint-1".to_owned())
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn an_absent_key_set_and_removed_leaves_the_file_as_it_was(text in documents(), value in values()) {
        let Ok(before) = yaml(&text) else { return Ok(()) };
        let mut file = before.clone();
        prop_assert!(file.set("new.key", &value)?);
        prop_assert_eq!(file.get("new.key"), Some(value.as_str()));
        prop_assert!(!file.set("new.key", &value)?);
        prop_assert!(file.text().starts_with(text.trim_end()) || file.text().ends_with(&text));
        file.remove("new.key")?;
        prop_assert_eq!(file, before);
    }

    #[test]
    fn setting_a_key_touches_only_its_line(text in documents(), value in values(), pick in any::<prop::sample::Index>()) {
        let Ok(before) = yaml(&text) else { return Ok(()) };
        if before.entries().is_empty() { return Ok(()) }
        let key = pick.get(&before.entries().keys().cloned().collect::<Vec<_>>()).clone();
        let mut file = before.clone();
        file.set(&key, &value)?;
        prop_assert_eq!(file.get(&key), Some(value.as_str()));
        let old: Vec<_> = text.lines().collect();
        let new: Vec<_> = file.text().lines().collect();
        let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
        let tail = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
        prop_assert!(head + tail + 1 >= new.len(), "{:?} -> {:?}", text, file.text());
        file.remove(&key)?;
        prop_assert!(file.get(&key).is_none());
        for line in file.text().lines() {
            prop_assert!(old.contains(&line) || line.contains('{'), "{line:?} is new");
        }
    }

    #[test]
    fn any_text_is_read_or_refused_and_edits_hold(text in "[a-c:#\\-{}\\[\\],'\"|>&*!? \n\t.]{0,40}", value in values()) {
        let Ok(mut file) = yaml(&text) else { return Ok(()) };
        if file.set("a", &value).is_ok() {
            prop_assert_eq!(file.get("a"), Some(value.as_str()));
        }
        let _ = file.remove("a");
        let mut file = legacy(&text)?;
        if file.set("a", &value).is_ok() {
            prop_assert_eq!(file.get("a"), Some(value.as_str()));
            file.remove("a")?;
            prop_assert_eq!(file.get("a"), None);
        }
    }
}
