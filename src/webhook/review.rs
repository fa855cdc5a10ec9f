//! AdmissionReview in, AdmissionReview out: pure, and for `admission.k8s.io/v1` alone.
//!
//! Whatever comes in, a request whose uid can be read gets a proper answer: anything else would be a transport error to the
//! API server, whose text says nothing and which `failurePolicy: Ignore` passes over.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Pod;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::inject::{self, Facts, Injected, Outcome, Refused, Role, Settings, Skipped};
use crate::kubernetes::pods::{OwnerRef, controller};
use crate::telemetry::shorten;

/// The one version that is understood: the API server has it since Kubernetes 1.16.
const VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// The most that the API server keeps of all warnings together, in bytes.
const WARNINGS: usize = 4096;

/// What the API server asks.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) uid: String,
    /// The namespace that the pod will be in.
    pub(super) namespace: String,
    /// Nothing may happen beside the answer.
    pub(super) dry_run: bool,
    /// The pod to be created; `None` when the request is about something else, or once it is answered.
    pub(super) pod: Option<Box<Pod>>,
    /// The pod as it is written, with what this program knows nothing of.
    written: Option<Box<RawValue>>,
}

/// The answer, and what has to be told of it elsewhere.
#[derive(Debug)]
pub(super) struct Answer {
    /// The AdmissionReview to send.
    pub(super) body: Vec<u8>,
    /// What came of it, for metrics.
    pub(super) outcome: &'static str,
    /// Why, in CamelCase, for metrics: one of few.
    pub(super) reason: &'static str,
    /// What somebody who asked for the injection should hear of.
    pub(super) note: Option<Note>,
}

/// What an event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) what: Noted,
    pub(super) message: String,
    /// What controls the pod.
    pub(super) owner: Option<OwnerRef>,
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noted {
    Injected,
    Skipped,
    Refused,
}

/// A body that is no review to be answered as asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    /// The answer to the request, if its uid could be read.
    pub(super) denial: Option<Vec<u8>>,
    /// What is wrong, for people.
    pub(super) message: String,
    /// As metrics name it.
    pub(super) reason: &'static str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    api_version: String,
    kind: String,
    #[serde(borrow)]
    request: Option<Wire<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    uid: String,
    resource: Resource,
    #[serde(default)]
    sub_resource: String,
    operation: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    dry_run: bool,
    /// Read only if it is a pod to be created.
    #[serde(borrow)]
    object: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(default)]
    group: String,
    resource: String,
}

/// Reads what the API server sent.
///
/// # Errors
/// When it is no AdmissionReview v1, or the pod in it cannot be read.
pub(super) fn read(body: &[u8]) -> Result<Request, Malformed> {
    let review: Review<'_> = serde_json::from_slice(body)
        .map_err(|error| malformed(body, "NotAReview", &format!("not a review: {error}")))?;
    if review.kind != KIND || review.api_version != VERSION {
        let got = format!("{}, Kind={}", review.api_version, review.kind);
        let message = format!(
            "this webhook takes {VERSION}, Kind={KIND} and got {}: set admissionReviewVersions: [v1] in its \
             MutatingWebhookConfiguration",
            shorten(&got, 100)
        );
        return Err(malformed(body, "WrongVersion", &message));
    }
    let wire = review
        .request
        .filter(|wire| !wire.uid.is_empty())
        .ok_or_else(|| {
            malformed(
                body,
                "NotAReview",
                "a review without a request, or without its uid",
            )
        })?;
    let creates = wire.operation == "CREATE"
        && wire.resource.group.is_empty()
        && wire.resource.resource == "pods"
        && wire.sub_resource.is_empty();
    let pod = if creates { Some(pod(&wire)?) } else { None };
    Ok(Request {
        written: pod
            .is_some()
            .then(|| wire.object.map(RawValue::to_owned))
            .flatten(),
        uid: wire.uid,
        namespace: wire.namespace,
        dry_run: wire.dry_run,
        pod,
    })
}

fn pod(wire: &Wire<'_>) -> Result<Box<Pod>, Malformed> {
    let text = wire.object.map_or("null", RawValue::get);
    serde_json::from_str(text).map_err(|error| {
        let message = format!(
            "the pod cannot be read: {}",
            shorten(&error.to_string(), 300)
        );
        Malformed {
            denial: Some(denial(&wire.uid, 400, "BadRequest", &message)),
            message,
            reason: "UnreadablePod",
        }
    })
}

/// The answer to a body that holds more than is read.
pub(super) fn too_large(prefix: &[u8], most: usize) -> Malformed {
    let message = format!(
        "the review is larger than the {} MiB that this webhook reads: make the pod smaller, its annotations above all",
        most >> 20
    );
    let denial = uid(prefix).map(|uid| denial(&uid, 413, "RequestEntityTooLarge", &message));
    Malformed {
        denial,
        message,
        reason: "TooLarge",
    }
}

fn malformed(body: &[u8], reason: &'static str, message: &str) -> Malformed {
    let message = shorten(message, 400);
    Malformed {
        denial: uid(body).map(|uid| denial(&uid, 400, "BadRequest", &message)),
        message,
        reason,
    }
}

/// What is to be done with the pod of a request, if it is about one.
pub(super) type Verdict = Option<Result<Outcome, Refused>>;

/// What is to be done: a function of the request, of `settings` and of `facts` alone.
pub(super) fn judge(request: &Request, settings: &Settings, facts: &Facts) -> Verdict {
    let pod = request.pod.as_deref()?;
    Some(inject::inject(pod, settings, facts))
}

/// The pod with its role, if it is worth to look further: it will be injected, and is not yet.
pub(super) fn subject<'r>(request: &'r Request, verdict: &Verdict) -> Option<(&'r Pod, Role)> {
    let pod = request.pod.as_deref()?;
    match verdict {
        Some(Ok(Outcome::Injected(injected))) if injected.pod != *pod => Some((pod, injected.role)),
        _ => None,
    }
}

/// What is answered to `request`, whose pod is taken for it.
pub(super) fn answer(request: &mut Request, verdict: Verdict) -> Answer {
    let (Some(pod), Some(verdict)) = (request.pod.take(), verdict) else {
        return Answer {
            body: allowed(&request.uid, None, &[]),
            outcome: "ignored",
            reason: "NotAPodCreation",
            note: None,
        };
    };
    let owner = controller(pod.metadata.owner_references.as_deref().unwrap_or_default());
    match verdict {
        Ok(Outcome::Injected(injected)) => answer_injected(request, *pod, *injected, owner),
        Ok(Outcome::Skipped(skipped)) => answer_skipped(request, skipped, owner),
        Err(Refused { message }) => refused(&request.uid, 422, "Invalid", message, owner),
    }
}

fn answer_injected(
    request: &Request,
    pod: Pod,
    injected: Injected,
    owner: Option<OwnerRef>,
) -> Answer {
    match patch(request, pod, injected.pod) {
        Ok(patch) => Answer {
            body: allowed(&request.uid, patch.as_deref(), &injected.warnings),
            outcome: "injected",
            reason: if patch.is_some() {
                "OptedIn"
            } else {
                "InjectedAlready"
            },
            note: patch.map(|_| Note {
                what: Noted::Injected,
                message: injected_message(injected.role),
                owner,
            }),
        },
        Err(error) => {
            let message = format!("the patch cannot be written: {error}");
            refused(&request.uid, 500, "InternalError", message, owner)
        }
    }
}

fn answer_skipped(request: &Request, skipped: Skipped, owner: Option<OwnerRef>) -> Answer {
    let warnings: Vec<String> = skipped
        .surprising
        .then(|| format!("drey: not injected: {}", skipped.message))
        .into_iter()
        .collect();
    Answer {
        body: allowed(&request.uid, None, &warnings),
        outcome: "skipped",
        reason: skipped.reason,
        note: skipped.surprising.then_some(Note {
            what: Noted::Skipped,
            message: skipped.message,
            owner,
        }),
    }
}

fn injected_message(role: Role) -> String {
    let version = env!("CARGO_PKG_VERSION");
    match role {
        Role::JobManager => format!("Drey {version} is in the JobManager's pod"),
        Role::TaskManager => format!("Drey {version} is in the TaskManager's pod"),
    }
}

fn refused(
    uid: &str,
    code: u16,
    reason: &'static str,
    message: String,
    owner: Option<OwnerRef>,
) -> Answer {
    Answer {
        body: denial(uid, code, reason, &message),
        outcome: "refused",
        reason,
        note: Some(Note {
            what: Noted::Refused,
            message,
            owner,
        }),
    }
}

/// The JSON patch that makes `after` of `before`, which is the pod of `request`; `None` when they are equal.
fn patch(request: &Request, before: Pod, after: Pod) -> serde_json::Result<Option<Vec<u8>>> {
    if before == after {
        return Ok(None);
    }
    let written = request.written.as_deref().map_or("null", RawValue::get);
    let patch = inject::patch(&serde_json::from_str(written)?, before, after);
    serde_json::to_vec(&patch).map(Some)
}

fn allowed(uid: &str, patch: Option<&[u8]>, warnings: &[String]) -> Vec<u8> {
    let mut response = json!({ "uid": uid, "allowed": true });
    if let Some(patch) = patch {
        response["patchType"] = json!("JSONPatch");
        response["patch"] = json!(STANDARD.encode(patch));
    }
    let mut bytes = 0;
    let fitting = warnings
        .iter()
        .map(|text| shorten(text, 1000))
        .take_while(|text| {
            bytes += text.len();
            bytes <= WARNINGS
        });
    let warnings: Vec<String> = fitting.collect();
    if !warnings.is_empty() {
        response["warnings"] = json!(warnings);
    }
    review(&response)
}

fn denial(uid: &str, code: u16, reason: &str, message: &str) -> Vec<u8> {
    // kubectl puts "admission webhook "…" denied the request: " before it.
    review(&json!({
        "uid": uid,
        "allowed": false,
        "status": { "code": code, "reason": reason, "message": format!("drey: {message}") },
    }))
}

fn review(response: &Value) -> Vec<u8> {
    json!({ "apiVersion": VERSION, "kind": KIND, "response": response })
        .to_string()
        .into_bytes()
}

/// The uid of the request in a body that need be neither whole nor a review.
fn uid(body: &[u8]) -> Option<String> {
    let mut found = None;
    let mut json = serde_json::Deserializer::from_slice(body);
    // An error behind the uid does not matter: it is what the answer is about.
    let _ = Find(&["request", "uid"], &mut found).deserialize(&mut json);
    found.filter(|uid| !uid.is_empty() && uid.len() <= 128)
}

/// Looks for the text at a path of keys, and keeps the first one.
struct Find<'f>(&'static [&'static str], &'f mut Option<String>);

impl<'de> DeserializeSeed<'de> for Find<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        if self.0.is_empty() {
            let text = String::deserialize(json)?;
            self.1.get_or_insert(text);
            return Ok(());
        }
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Find<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((wanted, rest)) = self.0.split_first() else {
            return Ok(());
        };
        while let Some(key) = map.next_key::<String>()? {
            if key == *wanted {
                map.next_value_seed(Find(rest, &mut *self.1))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
