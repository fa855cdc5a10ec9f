//! Where the record of configurations is kept: beside the pointer in its ConfigMap, outside Kubernetes in a file of the state
//! directory. Not in the pointer itself, which people look at and which is copied to object storage.

use std::fs;
use std::path::PathBuf;

use tracing::{error, warn};

use crate::domain::changes::Record;
use crate::pointer_file::write_privately;
use crate::store::Store;
use crate::supervisor::Supervisor;
use crate::telemetry::one_line;

/// A ConfigMap holds 1 MiB, and the pointer needs its part of it.
const MOST: usize = 512 * 1024;

impl Supervisor {
    fn record_file(&self) -> PathBuf {
        self.settings.state_dir.join("configuration.json")
    }

    /// What is known; what cannot be understood is as good as unknown.
    pub(super) fn configurations(&mut self) -> Record {
        let text = match &self.store {
            Store::Map(map) => map.document().configuration.clone(),
            Store::File(_) => {
                if let Some(record) = &self.changes.record {
                    return record.clone();
                }
                fs::read_to_string(self.record_file()).ok()
            }
        };
        let record = text.map(|text| serde_json::from_str(&text));
        let record = record.transpose().unwrap_or_else(|error| {
            warn!(
                error = one_line(&error, 200),
                "Record of configurations is damaged"
            );
            None
        });
        let record: Record = record.unwrap_or_default();
        self.changes.record = Some(record.clone());
        record
    }

    /// Stores what is known; whether that worked.
    pub(super) async fn keep(&mut self, record: Record) -> bool {
        if self.configurations() == record {
            return true;
        }
        let text = serde_json::to_string(&record).expect("only string keys");
        if text.len() > MOST {
            error!(
                bytes = text.len(),
                "Configuration is too large to be kept, and its changes cannot be applied"
            );
            return false;
        }
        let file = self.record_file();
        let kept = match self.store.map() {
            Some(map) => map.keep_configuration(&text).await,
            None => write_privately(&file, &text),
        };
        match kept {
            Ok(()) => {
                self.changes.record = Some(record);
                true
            }
            Err(error) => {
                warn!(
                    error = one_line(&error, 300),
                    "Record of configurations could not be written"
                );
                false
            }
        }
    }
}
