//! Bringing a program's executable and its graph to the cluster.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use hyper::{Method, StatusCode};
use millstream_rest_types::submission::SubmitQuery;
use millstream_rm_driver::Executable;
use millstream_types::{ArtifactHash, JobId};
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use crate::rest::{Content, RestClient};

/// An executable by the hash of its bytes.
#[derive(Debug, Clone)]
pub(crate) struct Artifact {
    path: PathBuf,
    hash: ArtifactHash,
    size: u64,
}

impl Artifact {
    /// Reads the file; blocking.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let failed = || format!("failed to read {}", path.display());
        let mut file = File::open(path).with_context(failed)?;
        let mut hash = Sha256::new();
        let size = std::io::copy(&mut file, &mut hash).with_context(failed)?;
        let hash = ArtifactHash::new(hash.finalize().into());
        Ok(Self { path: path.to_owned(), hash, size })
    }

    /// The executable in the form that a deployment stages.
    pub(crate) fn to_executable(&self) -> Executable {
        Executable { path: self.path.clone(), hash: self.hash, size: self.size }
    }

    /// Uploads the executable unless the cluster has it.
    async fn upload(&self, client: &RestClient) -> Result<()> {
        let path = format!("/v1/millstream/artifacts/{}", self.hash);
        let known = client.call(Method::HEAD, &path, &Content::None).await?;
        if known.status.is_success() {
            return Ok(());
        }
        let content = Content::File { path: self.path.clone(), size: self.size };
        let answer = client.call(Method::PUT, &path, &content).await?;
        answer.accepted().with_context(|| format!("failed to upload {}", self.path.display()))
    }

    /// Starts a job of this executable. The id makes a repeated call harmless.
    pub(crate) async fn submit(
        &self,
        client: &RestClient,
        job: JobId,
        graph: &millstream_protocol::job::JobGraph,
    ) -> Result<()> {
        self.upload(client).await?;
        let path = format!("/v1/millstream/jobs?{}", SubmitQuery::new(self.hash, job));
        let bytes = Bytes::from(graph.encode_to_vec());
        let content = Content::Bytes { kind: "application/x-protobuf", bytes };
        let answer = client.call(Method::POST, &path, &content).await?;
        match answer.status {
            // An earlier attempt of this very call came through and its answer was lost.
            StatusCode::CONFLICT => Ok(()),
            _ => answer.accepted().context("the job was not submitted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_is_its_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("job");
        std::fs::write(&path, "abc").unwrap();
        let artifact = Artifact::read(&path).unwrap();
        assert_eq!(artifact.size, 3);
        assert!(artifact.hash.to_string().starts_with("ba7816bf8f01cfea414140de5dae2223"));
        let error = Artifact::read(&directory.path().join("none")).unwrap_err();
        assert!(error.to_string().contains("failed to read"), "{error}");
    }
}
