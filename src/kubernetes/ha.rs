//! Flink's own ConfigMaps for high availability.
