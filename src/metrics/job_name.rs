//! The name of the job that a Flink process works for, as Flink's own series have it in their label `job_name`.

use memchr::{memchr, memmem};

const LABEL: &[u8] = b"job_name=\"";

/// What one page says about it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub enum JobName {
    /// Nothing: no job runs in the process.
    #[default]
    Unknown,
    /// All series that have one have this.
    One(String),
    /// There are several, as in a session cluster, or it is no plain text.
    Several,
}

impl JobName {
    /// Looks at a piece of a page. A label that goes on in the next piece is left out: each job has many series.
    pub fn look(&mut self, piece: &[u8]) {
        for at in memmem::find_iter(piece, LABEL) {
            let value = &piece[at + LABEL.len()..];
            let before = at.checked_sub(1).map(|before| piece[before]);
            let Some(end) = memchr(b'"', value) else {
                return;
            };
            if matches!(before, Some(b'{' | b',')) {
                self.found(&value[..end]);
            }
        }
    }

    fn found(&mut self, value: &[u8]) {
        let same = |known: &str| known.as_bytes() == value;
        match (&self, std::str::from_utf8(value)) {
            (Self::One(known), _) if same(known) => {}
            (Self::Unknown, Ok(name)) if !name.is_empty() && !name.contains('\\') => {
                *self = Self::One(name.to_owned());
            }
            _ => *self = Self::Several,
        }
    }

    /// What is known after a page that says this: between two runs of a job nothing is said, and its name stays.
    pub fn update(&mut self, page: Self) {
        if page != Self::Unknown {
            *self = page;
        }
    }

    /// The name, when it is certain.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::One(name) => Some(name),
            Self::Unknown | Self::Several => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pieces: &[&str]) -> JobName {
        let mut name = JobName::default();
        pieces.iter().for_each(|piece| name.look(piece.as_bytes()));
        name
    }

    #[test]
    fn the_one_name_of_a_page_is_known_and_of_several_none() {
        let one = "flink_a{job_name=\"orders\",} 1\nflink_b{host=\"h\",job_name=\"orders\",} 2\n";
        assert_eq!(of(&[one]).name(), Some("orders"));
        assert_eq!(
            of(&[one, "flink_c{job_name=\"bil", "ls\"} 1"]).name(),
            Some("orders")
        );
        assert_eq!(
            of(&[one, "flink_c{job_name=\"bills\"} 1"]),
            JobName::Several
        );
        assert_eq!(of(&["flink_c{job_name=\"a\\\"b\"} 1"]), JobName::Several);
        assert_eq!(
            of(&["flink_c{my_job_name=\"a\"} 1", "job_name=\"x\""]),
            JobName::Unknown
        );
    }

    #[test]
    fn a_name_stays_while_no_job_runs_and_goes_when_there_are_several() {
        let mut known = of(&["x{job_name=\"orders\"} 1"]);
        known.update(JobName::Unknown);
        assert_eq!(known.name(), Some("orders"));
        known.update(of(&["x{job_name=\"bills\"} 1"]));
        assert_eq!(known.name(), Some("bills"));
        known.update(JobName::Several);
        assert_eq!(known.name(), None);
    }
}
