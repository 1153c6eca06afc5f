//! Operator ids and fingerprints.
//!
//! # Operator id format, version 1
//! An operator's state is found by its id, so the format never changes. An id is the first 16
//! bytes of the SHA-256 of
//! - `millstream-uid-1:` and the bytes of the uid, for an operator that has one;
//! - `millstream-node-1:` and the operator's place in the program as 4 big-endian bytes, for one
//!   that has none. It is the same wherever the same program runs, and no more.

use millstream_types::OperatorId;
use sha2::{Digest, Sha256};

use crate::job_graph::{Fingerprint, JobGraph};
use crate::stream_graph::{NodeId, StreamGraph};

pub(crate) fn operator_of_uid(uid: &str) -> OperatorId {
    truncated(b"millstream-uid-1:", uid.as_bytes())
}

pub(crate) fn operator_at(node: NodeId) -> OperatorId {
    truncated(b"millstream-node-1:", &node.0.to_be_bytes())
}

fn truncated(domain: &[u8], value: &[u8]) -> OperatorId {
    let digest: [u8; 32] = Sha256::new().chain_update(domain).chain_update(value).finalize().into();
    let (id, _) = digest.split_first_chunk().expect("32 bytes start with 16");
    OperatorId::from_bytes(*id)
}

/// SHA-256 over both graphs as JSON, all but the fingerprint itself. It is compared only between
/// processes of one executable, so its format is free to change.
pub(crate) fn fingerprint(stream: &StreamGraph, job: &JobGraph) -> Fingerprint {
    let mut digest = Sha256::new();
    let JobGraph {
        name,
        vertices,
        edges,
        runtime_mode,
        ordinal,
        plan_values,
        settings,
        fingerprint: _,
    } = job;
    let planned = (name, vertices, edges, runtime_mode, ordinal, plan_values, settings);
    serde_json::to_writer(&mut digest, &(&stream.nodes, &stream.edges, planned))
        .expect("a digest takes all bytes, and the keys of the graph's maps are strings");
    Fingerprint(digest.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Savepoints of every version rely on these values.
    #[test]
    fn operator_id_format_version_1() {
        let check = |id: OperatorId, expected: &str| assert_eq!(id.to_string(), expected);
        check(operator_of_uid("count"), "d519c50639c8fd605ac5921402881e45");
        check(operator_of_uid(""), "5098dc2faaf0068c7d23c79c6083c537");
        check(operator_at(NodeId(0)), "bb723dc8a1d63fe8d5a8d5f1b89f66fd");
        check(operator_at(NodeId(9_999)), "a2abd1d7cf98aa891ddd0345b078b903");
    }
}
