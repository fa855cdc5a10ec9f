//! Against files that Flink wrote; `tests/fixtures/metadata/README.md` says how each was made.

use proptest::prelude::*;

use super::*;

const FIXTURES: [&str; 11] = [
    "v2-savepoint-canonical",
    "v3-savepoint-canonical",
    "v3-checkpoint-incremental",
    "v4-checkpoint-incremental",
    "v4-savepoint-native",
    "v4-checkpoint-changelog",
    "v4-checkpoint-file-merging",
    "v5-savepoint-finished",
    "v6-checkpoint-unaligned",
    "v6-savepoint-native",
    "v6-every-handle",
];

fn bytes(name: &str) -> Vec<u8> {
    let path = format!(
        "{}/tests/fixtures/metadata/{name}",
        env!("CARGO_MANIFEST_DIR")
    );
    std::fs::read(path).expect("the fixtures are in the repository")
}

fn parsed(name: &str) -> Metadata {
    parse(&bytes(name)).expect(name)
}

fn keyed(metadata: &Metadata) -> &Operator {
    let keyed = metadata
        .operators
        .iter()
        .find(|operator| !operator.keyed_state_kinds.is_empty());
    keyed.expect("the job has keyed state")
}

#[test]
fn the_sizes_are_those_of_flinks_rest_api() {
    // Name, version, checkpoint id, state_size and checkpointed_size of GET /jobs/:id/checkpoints. The job's source has a
    // coordinator, whose 16 bytes Flink's REST API leaves out of both.
    for (name, version, id, state_size, checkpointed_size) in [
        ("v3-savepoint-canonical", 3, 7, 44_648, 44_648),
        ("v4-checkpoint-incremental", 4, 12, 214_133, 84_229),
        ("v4-savepoint-native", 4, 9, 255_944, 255_944),
        ("v4-checkpoint-changelog", 4, 9, 541_161, 165_588),
        ("v4-checkpoint-file-merging", 4, 10, 51_979, 49_798),
        ("v5-savepoint-finished", 5, 10, 6_432, 6_432),
        ("v6-checkpoint-unaligned", 6, 13, 85_047, 85_047),
        ("v6-savepoint-native", 6, 9, 225_953, 225_953),
    ] {
        let metadata = parsed(name);
        let header = metadata.header;
        assert_eq!(
            (header.version.number(), header.checkpoint_id),
            (version, id),
            "{name}"
        );
        assert_eq!(metadata.subtask_state_size(), state_size, "{name}");
        assert_eq!(metadata.checkpointed_size, checkpointed_size + 16, "{name}");
    }
}

#[test]
fn every_handle_that_flink_can_write_is_counted_as_flink_counts_it() {
    let metadata = parsed("v6-every-handle");
    // The sums of `OperatorState.getStateSize` and `getCheckpointedSize`.
    assert_eq!(
        (metadata.state_size.total(), metadata.checkpointed_size),
        (4438, 3024)
    );
    assert_eq!(metadata.master_states, ["hook", ""]);
    assert_eq!(metadata.operators[3].uid.as_deref(), Some("operatorä🐿"));
    let done = &metadata.operators[5];
    assert_eq!(
        done.subtasks,
        Subtasks {
            with_state: 0,
            without_state: 0,
            finished: 3
        }
    );
    let heap = &metadata.operators[0];
    assert_eq!(
        heap.subtasks,
        Subtasks {
            with_state: 2,
            without_state: 1,
            finished: 1
        }
    );
    assert_eq!(heap.coordinator_state, Some(9));
    let absolute = |path: &str| FilePath::Absolute(path.to_owned());
    let (partial, shared) = (true, true);
    let file = |path, size, partial, shared| StateFile {
        path,
        size: Some(size),
        partial,
        shared,
    };
    assert_eq!(
        metadata.files,
        [
            file(absolute("s3://bucket/shared/f"), 1000, !partial, shared),
            file(FilePath::Relative("r".to_owned()), 300, !partial, !shared),
            file(absolute("s3://bucket/shared/merged"), 150, partial, shared),
            file(absolute("s3://bucket/shared/g"), 2000, partial, shared),
            file(absolute("s3://bucket/taskowned/m2"), 7, partial, !shared),
        ]
    );
}

#[test]
fn operators_are_named_as_far_as_the_format_goes() {
    let old = parsed("v4-savepoint-native");
    assert!(
        old.operators
            .iter()
            .all(|operator| operator.uid.is_none() && operator.id.len() == 32)
    );
    let new = parsed("v6-savepoint-native");
    let keyed = keyed(&new);
    assert_eq!(
        (keyed.uid.as_deref(), keyed.name.as_deref()),
        (Some("keyed"), Some("Keyed"))
    );
    assert_eq!(
        (
            keyed.parallelism,
            keyed.max_parallelism,
            keyed.subtasks.with_state
        ),
        (2, 8, 2)
    );
    assert!(
        old.operators.iter().any(|operator| operator.id == keyed.id),
        "the id is the hash of the uid, whatever the version"
    );
}

#[test]
fn the_properties_tell_a_savepoint_from_a_checkpoint() {
    let kind = |name| {
        parsed(name)
            .properties
            .map(|properties| (properties.kind, properties.format))
    };
    assert_eq!(kind("v3-savepoint-canonical"), None);
    assert_eq!(
        kind("v4-checkpoint-changelog"),
        Some((SnapshotKind::Checkpoint, None))
    );
    let native = Some((SnapshotKind::Savepoint, Some(SavepointFormat::Native)));
    assert_eq!(kind("v5-savepoint-finished"), native);
    let retained = parsed("v6-checkpoint-unaligned")
        .properties
        .expect("format 6 has them")
        .discard;
    assert_eq!(
        (retained.subsumed, retained.cancelled, retained.suspended),
        (true, false, false)
    );
}

#[test]
fn a_savepoint_refers_to_its_own_directory_only() {
    for name in [
        "v3-savepoint-canonical",
        "v4-savepoint-native",
        "v6-savepoint-native",
    ] {
        let files = parsed(name).files;
        assert!(!files.is_empty(), "{name}");
        for file in files {
            assert!(
                matches!(file.path, FilePath::Relative(_)) && !file.shared,
                "{name}: {file:?}"
            );
        }
    }
}

#[test]
fn the_kind_of_keyed_state_is_told() {
    for (name, kind) in [
        ("v2-savepoint-canonical", KeyedStateKind::CanonicalSavepoint),
        ("v3-checkpoint-incremental", KeyedStateKind::Incremental),
        ("v4-checkpoint-changelog", KeyedStateKind::Changelog),
        ("v5-savepoint-finished", KeyedStateKind::Full),
    ] {
        assert_eq!(keyed(&parsed(name)).keyed_state_kinds, [kind], "{name}");
    }
}

#[test]
fn data_in_flight_is_counted() {
    let metadata = parsed("v6-checkpoint-unaligned");
    let in_flight = metadata.operators.iter().map(|operator| {
        operator.input_channel_state.total() + operator.output_channel_state.total()
    });
    assert_eq!(in_flight.sum::<u64>(), 78_615);
}

#[test]
fn the_head_alone_is_enough_to_peek() {
    for name in FIXTURES {
        assert_eq!(
            peek(&bytes(name)[..HEADER_BYTES]),
            Ok(parsed(name).header),
            "{name}"
        );
    }
    let short = peek(&bytes(FIXTURES[0])[..HEADER_BYTES - 1]);
    assert_eq!(
        short,
        Err(MetadataError::Truncated {
            offset: 15,
            reading: "the checkpoint id"
        })
    );
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    for name in FIXTURES {
        let whole = bytes(name);
        assert!(matches!(parse(&[]), Err(MetadataError::NotMetadata { .. })));
        for length in 1..whole.len() {
            let error = parse(&whole[..length]).expect_err(name);
            let cut_there =
                matches!(error, MetadataError::Truncated { offset, .. } if offset == length as u64);
            assert!(cut_there, "{name} cut at {length}: {error:?}");
        }
    }
}

#[test]
fn bytes_after_the_end_are_refused() {
    for name in FIXTURES {
        let mut more = bytes(name);
        let offset = more.len() as u64;
        more.extend([0; 40_000]);
        let error = MetadataError::TrailingGarbage {
            offset,
            surplus: 40_000,
        };
        assert_eq!(parse(&more), Err(error), "{name}");
    }
}

#[test]
fn an_unknown_format_is_refused_with_what_to_do() {
    let mut newer = bytes("v6-savepoint-native");
    newer[7] = 7;
    let error = parse(&newer).expect_err("format 7 is not known");
    assert_eq!(error, MetadataError::UnsupportedVersion { version: 7 });
    assert!(error.to_string().contains("newer"), "{error}");
    newer[7] = 1;
    assert_eq!(
        peek(&newer),
        Err(MetadataError::UnsupportedVersion { version: 1 })
    );
}

#[test]
fn a_foreign_file_is_refused_with_what_it_looks_like() {
    let error = parse(b"<Error><Code>NoSuchKey</Code></Error>").expect_err("this is XML");
    assert!(error.to_string().contains("XML or HTML"), "{error}");
}

/// The head of a format 3 file up to its operators.
fn head() -> Vec<u8> {
    let mut bytes = MAGIC.to_be_bytes().to_vec();
    bytes.extend(3_i32.to_be_bytes());
    bytes.extend(1_i64.to_be_bytes());
    bytes.extend(0_i32.to_be_bytes());
    bytes
}

/// One operator with one subtask whose state follows.
fn head_of_subtask() -> Vec<u8> {
    let mut bytes = head();
    bytes.extend(1_i32.to_be_bytes());
    bytes.extend([7; 16]);
    for number in [1_i32, 8] {
        bytes.extend(number.to_be_bytes());
    }
    bytes.push(0);
    for number in [1_i32, 0, 0, 0] {
        bytes.extend(number.to_be_bytes());
    }
    bytes
}

#[test]
fn a_hostile_length_allocates_nothing() {
    for count in [-1, i32::MIN, i32::MAX] {
        let mut operators = head();
        operators.extend(count.to_be_bytes());
        assert!(matches!(
            parse(&operators),
            Err(MetadataError::Corrupt { offset: 20, .. })
        ));
        let mut inline = head_of_subtask();
        // Key groups 0 to 0 with one offset in a byte stream of `count` bytes without a name.
        inline.extend([3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]);
        inline.extend(count.to_be_bytes());
        assert!(parse(&inline).is_err());
    }
}

#[test]
fn handles_nested_without_end_are_refused() {
    let changelog = [
        8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
    ];
    let mut nested = head_of_subtask();
    (0..100_000).for_each(|_| nested.extend(changelog));
    let reading = "keyed state nested too deep";
    assert!(
        matches!(parse(&nested), Err(MetadataError::Corrupt { reading: found, .. }) if found == reading)
    );

    let mut streams = head_of_subtask();
    (0..100_000).for_each(|_| streams.extend([3, 0, 0, 0, 0, 0, 0, 0, 0]));
    let reading = "state handles nested too deep";
    assert!(
        matches!(parse(&streams), Err(MetadataError::Corrupt { reading: found, .. }) if found == reading)
    );
}

#[test]
fn two_subtasks_of_one_index_are_refused() {
    let mut bytes = head();
    bytes.extend(1_i32.to_be_bytes());
    bytes.extend([7; 16]);
    bytes.extend([0, 0, 0, 2, 0, 0, 0, 8, 0, 0, 0, 0, 2]);
    // Finished subtasks are -(index + 1).
    bytes.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    let reading = "a second subtask of the same index";
    assert!(
        matches!(parse(&bytes), Err(MetadataError::Corrupt { reading: found, .. }) if found == reading)
    );
    let last = bytes.len() - 1;
    bytes[last] = 0xfe;
    let metadata = parse(&bytes).expect("indexes 0 and 1 have finished");
    assert_eq!(metadata.operators[0].subtasks.finished, 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn damaged_bytes_never_panic(
        which in 0..FIXTURES.len(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = bytes(FIXTURES[which]);
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(metadata) = parse(&bytes) {
            crate::cli::inspect::table(&metadata, "here");
            crate::cli::inspect::json(&metadata, "here");
        }
        let _ = parse(&bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn random_bytes_behind_a_good_head_never_panic(
        version in 2..=6_i32,
        rest in proptest::collection::vec(prop_oneof![3 => Just(0_u8), 1 => 0..20_u8, 1 => any::<u8>()], 0..400),
    ) {
        let mut bytes = MAGIC.to_be_bytes().to_vec();
        bytes.extend(version.to_be_bytes());
        bytes.extend([0; 8]);
        bytes.extend(rest);
        let _ = parse(&bytes);
    }
}
