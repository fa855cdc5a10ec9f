//! What Flink tells about the vertices of a job and about how many slots they may use.
use crate::domain::job::JobStatus;
use crate::domain::rescale::{Bounds, Requirements, Vertex};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A job with its vertices.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "JobDetails")]
pub struct JobGraph {
    /// The job's state.
    pub status: JobStatus,
    /// Its vertices, sources first.
    pub vertices: Vec<Vertex>,
}

#[derive(Deserialize)]
struct JobDetails {
    state: JobStatus,
    vertices: Vec<VertexDetails>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VertexDetails {
    id: String,
    name: String,
    parallelism: u32,
    // -1 when it is not known (`JobVertex`).
    #[serde(default)]
    max_parallelism: i64,
    // Since 1.20.
    #[serde(default)]
    slot_sharing_group_id: Option<String>,
    tasks: BTreeMap<String, u32>,
}

impl From<JobDetails> for JobGraph {
    fn from(job: JobDetails) -> Self {
        let vertex = |vertex: VertexDetails| {
            let tasks = |state: &str| vertex.tasks.get(state).copied().unwrap_or_default();
            Vertex {
                running: tasks("RUNNING").saturating_add(tasks("FINISHED")),
                id: vertex.id,
                name: vertex.name,
                parallelism: vertex.parallelism,
                max_parallelism: u32::try_from(vertex.max_parallelism)
                    .ok()
                    .filter(|most| *most > 0),
                group: vertex.slot_sharing_group_id,
            }
        };
        Self {
            status: job.state,
            vertices: job.vertices.into_iter().map(vertex).collect(),
        }
    }
}

/// Requirements by vertex id, as `/jobs/:id/resource-requirements` gives and takes them.
pub(in crate::flink) type WireRequirements = BTreeMap<String, VertexRequirements>;

#[derive(Serialize, Deserialize)]
pub(in crate::flink) struct VertexRequirements {
    parallelism: WireBounds,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireBounds {
    lower_bound: u32,
    upper_bound: u32,
}

pub(in crate::flink) fn to_wire(requirements: &Requirements) -> WireRequirements {
    let vertex = |(id, bounds): (&String, &Bounds)| {
        let parallelism = WireBounds {
            lower_bound: bounds.lower,
            upper_bound: bounds.upper,
        };
        (id.clone(), VertexRequirements { parallelism })
    };
    requirements.iter().map(vertex).collect()
}

pub(in crate::flink) fn from_wire(requirements: WireRequirements) -> Requirements {
    let vertex = |(id, VertexRequirements { parallelism }): (String, VertexRequirements)| {
        let bounds = Bounds {
            lower: parallelism.lower_bound,
            upper: parallelism.upper_bound,
        };
        (id, bounds)
    };
    requirements.into_iter().map(vertex).collect()
}
