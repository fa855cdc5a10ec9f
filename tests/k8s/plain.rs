//! The manifests of `deploy/` run plain Flink, once Drey is taken out of them: what the other scenarios start from.

use crate::support::{Job, Mode, Version};

fn runs(purpose: &str, mode: Mode, version: Version) {
    let job = Job::only(purpose, mode, version).plain();
    let run = job.start_and_work();
    assert_eq!(run.restored(), None);
}

#[test]
fn plain_flink_runs_in_native_mode() {
    runs("plain-native", Mode::Native, Version::v1());
}

#[test]
fn plain_flink_runs_in_standalone_mode() {
    runs("plain-standalone", Mode::Standalone, Version::v2());
}
