//! Bodies for the tests of clients.

use std::collections::BTreeMap;

use millstream_graph::PlanInfo;
use millstream_types::{ExecutionState, JobId, JobStatus, VertexId};

use crate::jobs::{
    JobDetailsInfo, JobExceptionHistory, JobExceptionsInfoWithHistory, JobSummary, JobType,
    MillstreamJobInfo, RootExceptionInfo, SchedulerType,
};
use crate::vertices::{IoMetricsInfo, JobDetailsVertexInfo, Span};

/// A job of this number without vertices.
#[must_use]
pub fn job(number: u128, state: JobStatus) -> JobDetailsInfo {
    let (jid, name) = (JobId::from_u128(number), "probe".to_owned());
    JobDetailsInfo {
        jid,
        name: name.clone(),
        is_stoppable: false,
        state,
        job_type: JobType::Streaming,
        start_time: 0,
        end_time: -1,
        duration: 0,
        max_parallelism: 128,
        now: 0,
        timestamps: BTreeMap::new(),
        vertices: Vec::new(),
        status_counts: BTreeMap::new(),
        plan: PlanInfo { jid, name, mode: "STREAMING".to_owned(), nodes: Vec::new() },
        pending_operators: 0,
        scheduler_type: SchedulerType::Default,
        millstream: MillstreamJobInfo::default(),
    }
}

/// A job of this number as lists show it.
#[must_use]
pub fn summary(number: u128, state: JobStatus) -> JobSummary {
    JobSummary {
        jid: JobId::from_u128(number),
        name: format!("job {number}"),
        start_time: 0,
        end_time: -1,
        duration: 0,
        state,
        last_modification: 0,
        tasks: BTreeMap::new(),
        pending_operators: 0,
        job_type: JobType::Streaming,
        scheduler_type: SchedulerType::Default,
    }
}

/// A vertex of this number with these sums.
#[must_use]
pub fn vertex(number: u128, metrics: IoMetricsInfo) -> JobDetailsVertexInfo {
    JobDetailsVertexInfo {
        id: VertexId::from_u128(number),
        slot_sharing_group_id: String::new(),
        name: "map".to_owned(),
        max_parallelism: 128,
        parallelism: 2,
        status: ExecutionState::Running,
        span: Span { start_time: 0, end_time: -1, duration: 0 },
        tasks: BTreeMap::new(),
        metrics,
    }
}

/// A failure of this kind and stack trace, without a place.
#[must_use]
pub fn failure(kind: &str, stacktrace: &str) -> RootExceptionInfo {
    RootExceptionInfo {
        exception_name: kind.to_owned(),
        stacktrace: stacktrace.to_owned(),
        timestamp: 0,
        failure_labels: BTreeMap::new(),
        task_name: None,
        location: None,
        endpoint: None,
        task_manager_id: None,
        concurrent_exceptions: [],
    }
}

/// The failures of a job, newest first.
#[must_use]
pub fn exceptions(entries: Vec<RootExceptionInfo>) -> JobExceptionsInfoWithHistory {
    let exception_history = JobExceptionHistory { entries, truncated: false };
    JobExceptionsInfoWithHistory { exception_history, ..JobExceptionsInfoWithHistory::default() }
}
