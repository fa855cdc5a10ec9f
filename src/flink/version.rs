//! Flink's version, as far as Drey's behaviour depends on it.
use std::fmt;
use std::str::FromStr;

/// A Flink release; suffixes such as `-SNAPSHOT` are not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlinkVersion {
    /// The 1 of 1.20.2.
    pub major: u16,
    /// The 20 of 1.20.2.
    pub minor: u16,
    /// The 2 of 1.20.2; zero when not given.
    pub patch: u16,
}

impl FlinkVersion {
    /// This version or a later one, whatever the patch.
    #[must_use]
    pub const fn at_least(self, major: u16, minor: u16) -> bool {
        self.major > major || (self.major == major && self.minor >= minor)
    }
}

/// A text that does not begin with `MAJOR.MINOR`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a Flink version: {0:?}")]
pub struct ParseFlinkVersionError(String);

impl FromStr for FlinkVersion {
    type Err = ParseFlinkVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || ParseFlinkVersionError(text.chars().take(64).collect());
        let numbers = text.split(['-', '+']).next().unwrap_or_default();
        let mut parts = numbers
            .split('.')
            .map(|part| part.parse::<u16>().map_err(|_| refused()));
        let mut next = || parts.next().unwrap_or_else(|| Err(refused()));
        let (major, minor) = (next()?, next()?);
        let patch = next().unwrap_or(0);
        Ok(Self {
            major,
            minor,
            patch,
        })
    }
}

impl fmt::Display for FlinkVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_with_and_without_a_suffix_and_compared_by_number()
    -> Result<(), ParseFlinkVersionError> {
        let old: FlinkVersion = "1.9.3".parse()?;
        let new: FlinkVersion = "1.20-SNAPSHOT".parse()?;
        assert!(old < new);
        assert_eq!(new.to_string(), "1.20.0");
        assert!("<unknown>".parse::<FlinkVersion>().is_err());
        Ok(())
    }
}
