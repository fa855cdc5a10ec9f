use super::*;

fn settings() -> Settings {
    Settings {
        image: "drey:1".to_owned(),
        image_pull_policy: None,
        allowed_images: Vec::new(),
        native_sidecar: true,
        opted_in: false,
    }
}

fn review_of(operation: &str, resource: &str, object: &Value) -> Value {
    json!({
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "u-1",
            "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "resource": { "group": "", "version": "v1", "resource": resource },
            "namespace": "jobs",
            "operation": operation,
            "object": object,
            "dryRun": true,
        },
    })
}

fn pod() -> Value {
    json!({ "metadata": { "name": "x" }, "spec": { "containers": [{ "name": "a", "image": "b" }] } })
}

fn denied(malformed: Malformed) -> Value {
    let body = malformed.denial.expect("a denial");
    let review: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(review["apiVersion"], VERSION);
    assert_eq!(review["kind"], KIND);
    assert_eq!(review["response"]["allowed"], false);
    review["response"].clone()
}

#[test]
fn a_pod_to_be_created_is_read() {
    let request = read(review_of("CREATE", "pods", &pod()).to_string().as_bytes()).expect("read");
    assert_eq!(
        (request.uid.as_str(), request.namespace.as_str()),
        ("u-1", "jobs")
    );
    assert!(request.dry_run);
    assert_eq!(
        request.pod.expect("a pod").metadata.name.as_deref(),
        Some("x")
    );
}

#[test]
fn what_is_no_pod_to_be_created_is_allowed_as_it_is() {
    let mut status = review_of("CREATE", "pods", &pod());
    status["request"]["subResource"] = json!("eviction");
    for review in [
        review_of("UPDATE", "pods", &pod()),
        review_of("CREATE", "deployments", &json!({ "spec": 7 })),
        review_of("DELETE", "pods", &Value::Null),
        status,
    ] {
        let mut request = read(review.to_string().as_bytes()).expect("read");
        assert!(request.pod.is_none());
        let verdict = judge(&request, &settings(), &Facts::default());
        let answer = answer(&mut request, verdict);
        let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!(body["response"], json!({ "uid": "u-1", "allowed": true }));
        assert_eq!(answer.note, None);
    }
}

#[test]
fn other_versions_and_kinds_are_denied_with_the_uid() {
    for (key, value) in [
        ("apiVersion", "admission.k8s.io/v1beta1"),
        ("apiVersion", "v1"),
        ("kind", "Pod"),
    ] {
        let mut review = review_of("CREATE", "pods", &pod());
        review[key] = json!(value);
        let response = denied(read(review.to_string().as_bytes()).expect_err("malformed"));
        assert_eq!(response["uid"], "u-1");
        let message = response["status"]["message"].as_str().expect("text");
        assert!(
            message.contains(value) && message.contains("admissionReviewVersions"),
            "{message}"
        );
    }
}

#[test]
fn the_uid_is_found_before_whatever_is_wrong() {
    for text in [
        r#"{"kind":"AdmissionReview","request":{"uid":"u-1","object":{"#,
        r#"{"request":{"uid":"u-1","uid":"u-2"}}"#,
        r#"{"request":{"a":[[[{"uid":"no"}]]],"uid":"u-1"},"#,
        "{\"apiVersion\":3,\"request\":{\"uid\":\"u-1\"}}\u{0}",
    ] {
        let response = denied(read(text.as_bytes()).expect_err("malformed"));
        assert_eq!(response["uid"], "u-1", "{text}");
    }
    let response = denied(too_large(
        br#"{"request":{"uid":"u-1","object":{"a":"bb"#,
        3 << 20,
    ));
    assert_eq!(response["status"]["code"], 413);
}

#[test]
fn without_a_uid_there_is_no_review_to_answer() {
    let deep = "[".repeat(100_000);
    for text in [
        "",
        "hello",
        "[]",
        "{}",
        r#"{"request":7}"#,
        r#"{"request":{"uid":7}}"#,
        r#"{"request":{"uid":""}}"#,
        r#"{"uid":"u-1"}"#,
        deep.as_str(),
    ] {
        assert_eq!(read(text.as_bytes()).expect_err("malformed").denial, None);
    }
}

#[test]
fn a_pod_that_cannot_be_read_is_denied() {
    for object in [
        Value::Null,
        json!(7),
        json!({ "spec": { "containers": "x" } }),
    ] {
        let review = review_of("CREATE", "pods", &object).to_string();
        let response = denied(read(review.as_bytes()).expect_err("malformed"));
        assert_eq!(response["status"]["code"], 400);
        assert_eq!(response["uid"], "u-1");
    }
}

#[test]
fn a_patch_leaves_alone_what_is_not_known() {
    let mut raw = pod();
    raw["spec"]["tomorrow"] = json!({ "a": [1] });
    let request = read(review_of("CREATE", "pods", &raw).to_string().as_bytes()).expect("read");
    let before = request.pod.as_deref().expect("a pod");
    let mut after = before.clone();
    after.metadata.annotations = Some([("a/b~c".to_owned(), "x".to_owned())].into());
    let text = patch(&request, before.clone(), after)
        .expect("a patch")
        .expect("a change");
    let changes: json_patch::Patch = serde_json::from_slice(&text).expect("a patch");
    json_patch::patch(&mut raw, &changes).expect("it fits");
    assert_eq!(raw["spec"]["tomorrow"], json!({ "a": [1] }));
    assert_eq!(raw["metadata"]["annotations"]["a/b~c"], "x");
    let same = patch(&request, before.clone(), before.clone());
    assert_eq!(same.expect("none"), None);
}

#[test]
fn warnings_stay_within_what_the_api_server_keeps() {
    let body = allowed("u", None, &vec!["é\n".repeat(900); 20]);
    let review: Value = serde_json::from_slice(&body).expect("JSON");
    let warnings = review["response"]["warnings"].as_array().expect("warnings");
    let bytes: usize = warnings
        .iter()
        .filter_map(Value::as_str)
        .map(str::len)
        .sum();
    assert!(!warnings.is_empty() && bytes <= WARNINGS);
    assert!(
        warnings
            .iter()
            .filter_map(Value::as_str)
            .all(|text| !text.contains('\n'))
    );
}
