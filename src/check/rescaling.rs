//! Whether the parallelism of a cluster's jobs can be changed while they run.

use super::flink::FlinkConfig;
use super::{Finding, table};
use crate::domain::rescale::Scheduling;

/// Nothing with the default scheduler, which is no fault. From Flink 1.18 on; the version is not seen here.
pub(super) fn finding(configuration: &FlinkConfig) -> Option<Finding> {
    let check = &table::RESCALING;
    let kind = configuration.first(&["high-availability.type", "high-availability"]);
    let lasts = kind.is_some_and(|kind| !kind.eq_ignore_ascii_case("none"));
    let found = match Scheduling::of(&configuration.entries, true) {
        Scheduling::Adaptive if lasts => "in place, with `drey rescale`",
        Scheduling::Adaptive => {
            "in place, with `drey rescale`; without high availability it lasts as long as the JobManager, so change \
             parallelism.default as well"
        }
        Scheduling::Reactive => "reactive mode: a job uses all slots that there are",
        Scheduling::Fixed | Scheduling::TooOld => return None,
    };
    Some(Finding::ok(check, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_adaptive_scheduler_is_worth_a_word() {
        let told = |entries: &[(&str, &str)]| {
            let entries = entries.iter();
            let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
            let configuration = FlinkConfig {
                entries: entries.map(own).collect(),
                complete: true,
            };
            finding(&configuration).map(|finding| finding.found)
        };
        let adaptive = ("jobmanager.scheduler", "adaptive");
        assert_eq!(told(&[]), None);
        let alone = told(&[adaptive]).expect("a finding");
        assert!(alone.contains("parallelism.default"), "{alone}");
        let ha = ("high-availability.type", "kubernetes");
        let lasting = told(&[adaptive, ha]).expect("a finding");
        assert!(!lasting.contains("parallelism.default"), "{lasting}");
        let reactive = told(&[("scheduler-mode", "reactive")]).expect("a finding");
        assert!(reactive.contains("all slots"), "{reactive}");
    }
}
