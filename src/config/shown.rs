//! Values as `drey config` shows them: as they could be written, and as JSON.
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use url::Url;

use super::parse;
use super::values::{Choice, Labels, LockBreak, Ports};
use crate::flink::version::FlinkVersion;

/// Can be shown.
pub(super) trait Shown {
    /// The value; null when nothing is given.
    fn shown(&self) -> Value;
}

impl<T: Shown> Shown for Option<T> {
    fn shown(&self) -> Value {
        self.as_ref().map_or(Value::Null, Shown::shown)
    }
}

impl Shown for LockBreak {
    fn shown(&self) -> Value {
        match self {
            Self::After(time) => time.shown(),
            Self::Never => Value::from("never"),
        }
    }
}

impl<T: Choice> Shown for T {
    fn shown(&self) -> Value {
        T::NAMES
            .iter()
            .find(|(_, it)| it == self)
            .map_or(Value::Null, |(name, _)| Value::from(*name))
    }
}

macro_rules! shown {
    ($($type:ty: |$it:ident| $value:expr;)+) => {
        $( impl Shown for $type {
            fn shown(&self) -> Value {
                let $it = self;
                Value::from($value)
            }
        } )+
    };
}

shown! {
    String: |it| it.as_str();
    bool: |it| *it;
    usize: |it| *it;
    u16: |it| *it;
    PathBuf: |it| it.to_string_lossy();
    Url: |it| it.as_str();
    Duration: |it| parse::time(*it);
    FlinkVersion: |it| it.to_string();
    SocketAddr: |it| it.to_string();
    Ports: |it| it.to_string();
    Labels: |it| it.to_string();
}
