//! Our own way to start a job: an artifact by its hash, then a JobGraph that names it.

use std::fmt;

use millstream_types::{ArtifactHash, JobId};
use serde::{Deserialize, Serialize};

/// `PUT /millstream/artifacts/:sha256`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactInfo {
    /// The hash of the stored bytes.
    pub sha256: ArtifactHash,
}

/// The query of `POST /millstream/jobs`; its body is a `millstream.job.v1.JobGraph`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SubmitQuery {
    /// The hash of the job's artifact.
    pub artifact: Option<String>,
    /// The id of the job; drawn by the Dispatcher if it is absent.
    pub job_id: Option<String>,
}

impl SubmitQuery {
    /// A job of this artifact and id.
    #[must_use]
    pub fn new(artifact: ArtifactHash, job: JobId) -> Self {
        Self { artifact: Some(artifact.to_string()), job_id: Some(job.to_string()) }
    }
}

impl fmt::Display for SubmitQuery {
    /// Writes the query as a URL has it. Hashes and ids have nothing to escape.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = [("artifact", &self.artifact), ("job-id", &self.job_id)];
        let given = fields.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        for (at, (name, value)) in given.enumerate() {
            write!(f, "{}{name}={value}", if at == 0 { "" } else { "&" })?;
        }
        Ok(())
    }
}

/// `POST /millstream/jobs` and `POST /jars/:jarid/run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSubmitResponseBody {
    /// The id of the job.
    pub jobid: JobId,
}
