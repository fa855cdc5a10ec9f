//! When the built-in certificate is renewed, and in which order: pure.
//!
//! A new certificate is first published (its CA stands in the configuration's caBundle beside the old one), and served only once
//! every API server has had time to see that. So at every moment each certificate that a replica may serve is trusted.

use std::time::Duration;

use jiff::Timestamp;

use super::certificate::{Certificate, Pem, first_end, valid};

/// What the Secret holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Material {
    /// The CAs to trust, PEM.
    pub(super) bundle: String,
    /// What every replica serves.
    pub(super) served: Option<Pem>,
    /// What will be served once `bundle` is known everywhere.
    pub(super) next: Option<Pem>,
}

/// What the operator of the webhook decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Policy {
    /// The names that the certificate is for.
    pub(super) names: Vec<String>,
    /// How long before its end a certificate is replaced.
    pub(super) renew_before: Duration,
    /// How long a CA is published before its certificate is served.
    pub(super) overlap: Duration,
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The Secret lost what is served: write it back.
    Restore,
    /// There is nothing that could be served: make a certificate and serve it at once.
    Found,
    /// Make the next certificate and add its CA to the bundle.
    Stage,
    /// Write the bundle into the configuration.
    Publish,
    /// Serve the next certificate.
    Promote,
    /// Take CAs that have ended out of the bundle.
    Prune,
    /// Look again after this time.
    Wait(Duration),
}

/// The next step; `published` says since when the configuration has had the material's bundle, if it has.
pub(super) fn next_step(
    material: &Material,
    published: Option<Duration>,
    policy: &Policy,
    now: Timestamp,
) -> Step {
    let read = |pem: &Option<Pem>| Certificate::read(pem.as_ref()?).ok();
    let takes = |certificate: &Certificate, name: &String| {
        certificate.check(&material.bundle, name, now).is_ok()
    };
    let for_any = |it: &Certificate| policy.names.iter().any(|name| takes(it, name));
    let for_all = |it: &Certificate| policy.names.iter().all(|name| takes(it, name));
    let Some(served) = read(&material.served).filter(for_any) else {
        return Step::Found;
    };
    let Some(published) = published else {
        return Step::Publish;
    };
    if read(&material.next).is_some_and(|next| for_all(&next)) {
        return match policy.overlap.checked_sub(published) {
            None | Some(Duration::ZERO) => Step::Promote,
            Some(rest) => Step::Wait(rest),
        };
    }
    let renewal = served
        .expires
        .checked_sub(policy.renew_before)
        .unwrap_or(Timestamp::MIN);
    if renewal <= now || !for_all(&served) {
        return Step::Stage;
    }
    if valid(&material.bundle, now) != material.bundle {
        return Step::Prune;
    }
    let next = first_end(&material.bundle).map_or(renewal, |end| end.min(renewal));
    Step::Wait(Duration::try_from(next.duration_since(now)).unwrap_or_default())
}

impl Material {
    /// With `new` to be served at once; whoever trusted what was served before still does.
    pub(super) fn found(&self, (new, ca): (Pem, String), now: Timestamp) -> Self {
        Self {
            bundle: valid(&format!("{}{ca}", self.bundle), now),
            served: Some(new),
            next: None,
        }
    }

    /// With `new` to be served next.
    pub(super) fn staged(&self, (new, ca): (Pem, String), now: Timestamp) -> Self {
        Self {
            bundle: valid(&format!("{}{ca}", self.bundle), now),
            served: self.served.clone(),
            next: Some(new),
        }
    }

    /// With what was next to be served.
    pub(super) fn promoted(&self) -> Self {
        Self {
            bundle: self.bundle.clone(),
            served: self.next.clone().or_else(|| self.served.clone()),
            next: None,
        }
    }

    /// Without what has ended.
    pub(super) fn pruned(&self, now: Timestamp) -> Self {
        Self {
            bundle: valid(&self.bundle, now),
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::certificate::make;
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const MINUTE: Duration = Duration::from_secs(60);

    fn at(time: Duration) -> Timestamp {
        Timestamp::from_second(1_800_000_000).expect("a time") + time
    }

    fn policy() -> Policy {
        Policy {
            names: vec!["drey-webhook.drey-system.svc".to_owned()],
            renew_before: HOUR,
            overlap: 5 * MINUTE,
        }
    }

    fn new(now: Timestamp) -> (Pem, String) {
        make(&policy().names, now, 3 * HOUR).expect("made")
    }

    fn step(material: &Material, published: Option<Duration>, now: Duration) -> Step {
        next_step(material, published, &policy(), at(now))
    }

    /// Whoever trusts only `bundle` takes what is served.
    fn trusts(bundle: &str, material: &Material, now: Duration) -> bool {
        let served = Certificate::read(material.served.as_ref().expect("served")).expect("usable");
        served.check(bundle, &policy().names[0], at(now)).is_ok()
    }

    #[test]
    fn a_rotation_never_serves_what_was_not_published_for_the_overlap() {
        let zero = Duration::ZERO;
        assert_eq!(step(&Material::default(), None, zero), Step::Found);
        let first = Material::default().found(new(at(zero)), at(zero));
        assert_eq!(step(&first, None, zero), Step::Publish);
        assert_eq!(step(&first, Some(zero), zero), Step::Wait(2 * HOUR));
        assert_eq!(step(&first, Some(HOUR), 2 * HOUR), Step::Stage);
        let staged = first.staged(new(at(2 * HOUR)), at(2 * HOUR));
        assert!(trusts(&first.bundle, &staged, 2 * HOUR));
        assert_eq!(step(&staged, None, 2 * HOUR), Step::Publish);
        assert_eq!(
            step(&staged, Some(MINUTE), 2 * HOUR),
            Step::Wait(4 * MINUTE)
        );
        assert_eq!(step(&staged, Some(5 * MINUTE), 2 * HOUR), Step::Promote);
        let second = staged.promoted();
        assert_eq!(second.bundle, staged.bundle);
        assert!(trusts(&staged.bundle, &first, 2 * HOUR));
        assert!(trusts(&staged.bundle, &second, 2 * HOUR));
        assert_eq!(step(&second, Some(HOUR), 2 * HOUR), Step::Wait(HOUR));
        assert_eq!(step(&second, Some(HOUR), 3 * HOUR), Step::Prune);
        let pruned = second.pruned(at(3 * HOUR));
        assert!(trusts(&pruned.bundle, &second, 3 * HOUR));
        assert_ne!(pruned.bundle, second.bundle);
    }

    #[test]
    fn what_cannot_be_served_is_replaced_at_once() {
        let good = Material::default().found(new(at(Duration::ZERO)), at(Duration::ZERO));
        let damaged = [
            Material {
                served: None,
                ..good.clone()
            },
            Material {
                bundle: String::new(),
                ..good.clone()
            },
            Material {
                bundle: "x".to_owned(),
                ..good.clone()
            },
        ];
        for material in damaged {
            assert_eq!(step(&material, Some(HOUR), Duration::ZERO), Step::Found);
        }
        assert_eq!(step(&good, Some(HOUR), 4 * HOUR), Step::Found);
    }

    #[test]
    fn a_further_name_is_a_rotation() {
        let good = Material::default().found(new(at(Duration::ZERO)), at(Duration::ZERO));
        let mut renamed = policy();
        renamed.names.push("other.svc".to_owned());
        let step = next_step(&good, Some(HOUR), &renamed, at(Duration::ZERO));
        assert_eq!(step, Step::Stage);
    }

    #[test]
    fn a_damaged_next_certificate_is_made_again() {
        let now = 2 * HOUR;
        let mut staged = Material::default()
            .found(new(at(Duration::ZERO)), at(Duration::ZERO))
            .staged(new(at(now)), at(now));
        staged.next = Some(Pem {
            chain: "x".to_owned(),
            key: "y".to_owned(),
        });
        assert_eq!(step(&staged, Some(HOUR), now), Step::Stage);
    }
}
