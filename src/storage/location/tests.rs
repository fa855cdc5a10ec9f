#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::path::Path;

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Location {
    Location::parse(text).unwrap()
}

fn object(text: &str) -> (Bucket, String) {
    match parse(text).target {
        Target::Object { bucket, key } => (bucket, key),
        other => panic!("{text} is {other:?}"),
    }
}

#[test]
fn local_spellings_mean_the_path_that_flink_means() {
    for (text, path) in [
        ("/x", "/x"),
        ("/", "/"),
        ("file:/x/y", "/x/y"),
        ("file:///x/y", "/x/y"),
        ("FILE:///x", "/x"),
        ("file:///x//y/", "/x/y"),
        ("/x/./y/../z", "/x/z"),
        ("/x\\y", "/x/y"),
        (
            "file:/with space/ü/#1/100%/a%20b?c",
            "/with space/ü/#1/100%/a%20b?c",
        ),
        ("/a:b/c", "/a:b/c"),
    ] {
        assert_eq!(parse(text).local_path(), Some(Path::new(path)), "{text}");
        assert_eq!(parse(text).to_string(), text);
    }
}

#[test]
fn object_stores_are_told_apart_by_scheme() {
    for scheme in ["s3", "s3a", "s3p", "S3"] {
        let (bucket, key) = object(&format!("{scheme}://b/a b/%20/chk-1/"));
        assert_eq!(bucket, Bucket::S3 { bucket: "b".into() });
        assert_eq!(key, "a b/%20/chk-1");
    }
    assert_eq!(
        object("gs://b"),
        (Bucket::Gcs { bucket: "b".into() }, String::new())
    );
    for text in [
        "abfs://c@acct.dfs.core.windows.net/p/q",
        "abfss://c@acct.dfs.core.windows.net/p/q",
        "wasb://c@acct.blob.core.windows.net/p/q",
        "wasbs://c@acct.blob.core.windows.net//p/q",
    ] {
        let azure = Bucket::Azure {
            account: "acct".into(),
            domain: "core.windows.net".into(),
            container: "c".into(),
        };
        assert_eq!(object(text), (azure, "p/q".into()), "{text}");
        assert!(parse(text).same_place(&parse("abfs://c@acct.dfs.core.windows.net/p/q")));
    }
}

#[test]
fn unknown_schemes_are_kept_but_not_supported() {
    for text in [
        "hdfs://nn:8020/x",
        "oss://b/x",
        "viewfs:///x",
        "hdfs:/x",
        "maprfs:///x",
    ] {
        assert!(!parse(text).is_supported(), "{text}");
        assert_eq!(parse(text).as_str(), text);
    }
    assert_eq!(
        parse("hdfs://nn/x").join("chk-1").as_str(),
        "hdfs://nn/x/chk-1"
    );
}

#[test]
fn what_flink_cannot_read_is_refused_with_the_remedy() {
    for (text, part) in [
        ("", "empty"),
        ("savepoints/x", "relative"),
        ("file:x", "relative"),
        ("file://tmp/x", "file:///tmp/x"),
        ("s3:///x", "s3://BUCKET/PATH"),
        ("s3:x", "s3://BUCKET/PATH"),
        ("gs:/x", "gs://BUCKET/PATH"),
        ("abfs://c/p", "abfss://CONTAINER@ACCOUNT"),
        (
            "wasb://@a.blob.core.windows.net/p",
            "abfss://CONTAINER@ACCOUNT",
        ),
        ("s3://b/../x", "out of the bucket"),
        ("s3://b/a\nb", "control character"),
    ] {
        let message = Location::parse(text).unwrap_err().to_string();
        assert!(message.contains(part), "{text}: {message}");
    }
}

#[test]
fn credentials_in_a_uri_are_refused_and_not_repeated() {
    let message = Location::parse("s3a://AKIA:hunter2@bucket/x")
        .unwrap_err()
        .to_string();
    assert!(!message.contains("hunter2"), "{message}");
}

#[test]
fn join_and_parent_keep_the_spelling() {
    for (dir, child) in [
        ("/x", "/x/chk-1"),
        ("/", "/chk-1"),
        ("file:/x", "file:/x/chk-1"),
        ("file:///x/", "file:///x/chk-1"),
        ("s3p://b", "s3p://b/chk-1"),
        (
            "wasb://c@a.blob.core.windows.net/x",
            "wasb://c@a.blob.core.windows.net/x/chk-1",
        ),
    ] {
        let joined = parse(dir).join("chk-1");
        assert_eq!(joined.as_str(), child);
        assert_eq!(joined, parse(child));
        assert!(joined.parent().unwrap().same_place(&parse(dir)), "{dir}");
        assert_eq!(joined.name(), "chk-1");
        assert_eq!(joined.join(METADATA_FILE).directory(), joined);
        assert_eq!(joined.directory(), joined);
    }
    assert_eq!(parse("/").parent(), None);
    assert_eq!(parse("s3://b/").parent(), None);
}

#[test]
fn same_place_sees_through_spellings() {
    assert!(parse("/x/y").same_place(&parse("file:///x/y/")));
    assert!(parse("s3://b/k").same_place(&parse("s3a://b/k/")));
    assert!(!parse("s3://b/k").same_place(&parse("gs://b/k")));
    assert!(!parse("hdfs://a/k").same_place(&parse("hdfs://b/k")));
    assert!(!parse("hdfs://a/k").same_place(&parse("hdfs://a/l")));
}

#[test]
fn entropy_is_no_part_of_where_metadata_is() {
    let dir = parse("s3://b/_entropy_/checkpoints");
    assert_eq!(
        dir.without_entropy("_entropy_").as_str(),
        "s3://b/checkpoints"
    );
    assert_eq!(dir.without_entropy("other"), dir);
    assert_eq!(dir.without_entropy(""), dir);
    let local = parse("/_entropy_/checkpoints");
    assert_eq!(local.without_entropy("_entropy_"), local);
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_and_printed_back(text in ".{0,40}", scheme in "(file:|file://|s3://b|gs://b|hdfs:)?") {
        let text = format!("{scheme}/{text}");
        if let Ok(location) = Location::parse(&text) {
            prop_assert_eq!(location.to_string(), text);
            let child = location.join("chk-12");
            prop_assert_eq!(&Location::parse(child.as_str()).unwrap(), &child);
            prop_assert!(child.parent().unwrap().same_place(&location));
        }
    }

    #[test]
    fn normalizing_twice_changes_nothing(path in "[a-c./\\\\% ]{0,24}") {
        let once = normalize(&path);
        prop_assert_eq!(normalize(&once), once);
    }

    #[test]
    fn json_round_trips(name in "[a-zA-Z0-9 %#ü-]{1,12}") {
        let location = parse(&format!("s3://b/{name}"));
        let json = serde_json::to_string(&location).unwrap();
        prop_assert_eq!(serde_json::from_str::<Location>(&json).unwrap(), location);
    }
}
