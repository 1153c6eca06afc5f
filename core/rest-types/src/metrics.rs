//! Metrics by name. Every answer is a list.

use serde::{Deserialize, Serialize};

/// An entry of `…/metrics`: of one job, subtask or TaskManager, or of the JobManager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metric {
    /// The name.
    pub id: String,
    /// The number as text; absent if the query names no metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// An entry of `…/subtasks/metrics` and other answers about several of a kind. An aggregate is
/// absent unless the query asks for it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AggregatedMetric {
    /// The name.
    pub id: String,
    /// The smallest value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The largest value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// The mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avg: Option<f64>,
    /// The sum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sum: Option<f64>,
    /// The mean absolute deviation as a percentage of its maximum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skew: Option<f64>,
}
