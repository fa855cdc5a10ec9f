use super::*;
use crate::domain::lock::PodRef;
use crate::kubernetes::pods::Deletion;

fn at(second: u64) -> Timestamp {
    after(Timestamp::UNIX_EPOCH, Duration::from_secs(second))
}

fn me(deletion: Option<(u64, u64)>) -> PodSight {
    PodSight {
        pod: PodRef {
            uid: "u".to_owned(),
            name: "tm-1".to_owned(),
            ip: None,
            node: None,
            template: String::new(),
        },
        deletion: deletion.map(|(by, grace)| Deletion {
            deadline: at(by),
            grace: Duration::from_secs(grace),
        }),
        disruption: None,
        owner: None,
        phase: "Running".to_owned(),
        containers: BTreeMap::new(),
        service_account: String::new(),
        labels: BTreeMap::new(),
        created: None,
        restarts: crate::kubernetes::pods::Restarts::Always,
        config_maps: Vec::new(),
        grace: Duration::from_secs(90),
    }
}

#[test]
fn the_jvm_is_told_six_seconds_before_the_end_by_the_earlier_clock() {
    for (deletion, expected) in [
        // Only its container is restarted.
        (None, 184),
        (Some((160, 60)), 154),
        // The API server's clock is ahead, then behind.
        (Some((170, 60)), 154),
        (Some((150, 60)), 144),
        // No time at all.
        (Some((101, 1)), 95),
    ] {
        assert_eq!(
            deadline(&me(deletion), at(100)),
            at(expected),
            "{deletion:?}"
        );
    }
}

#[tokio::test]
async fn without_kubernetes_nothing_is_held() {
    let settings = crate::config::load(&crate::config::SettingsArgs::default(), [])
        .expect("the defaults")
        .settings;
    let mut hold = Hold::new(&settings, Timestamp::now()).await;
    assert!(hold.until_free().await.contains("no Kubernetes"));
    hold.withdraw().await;
}
