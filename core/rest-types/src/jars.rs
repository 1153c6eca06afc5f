//! Uploaded programs, which Flink calls jars.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize};

/// `GET /jars`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JarListInfo {
    /// The address of this server, as the client calls it.
    pub address: String,
    /// The programs, newest first.
    pub files: Vec<JarFileInfo>,
}

/// One program of [`JarListInfo`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JarFileInfo {
    /// The id, as paths name it.
    pub id: String,
    /// The name that its uploader gave it.
    pub name: String,
    /// The time of the upload.
    pub uploaded: i64,
    /// The ways to start it: one.
    pub entry: Vec<JarEntryInfo>,
}

/// A way to start a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JarEntryInfo {
    /// The name.
    pub name: String,
    /// A sentence about it; none here.
    pub description: Option<String>,
}

/// `POST /jars/upload`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JarUploadResponseBody {
    /// A path whose last part is the jar's id.
    pub filename: String,
    /// `success`.
    pub status: UploadStatus,
}

/// The status of [`JarUploadResponseBody`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UploadStatus {
    /// The program is kept.
    Success,
}

/// The body of `POST /jars/:jarid/run` and of `…/plan`. Every field may be given in the query too.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JarRunRequestBody {
    /// The name of the entry.
    pub entry_class: Option<String>,
    /// The arguments as one text, split at white space.
    pub program_args: Option<String>,
    /// The arguments one by one.
    pub program_args_list: Option<Vec<String>>,
    /// The parallelism of operators that set none.
    pub parallelism: Option<u32>,
    /// The id of the job.
    pub job_id: Option<String>,
    /// The savepoint to start from.
    pub savepoint_path: Option<String>,
    /// Whether the job starts although the savepoint has state of operators that the job lacks.
    pub allow_non_restored_state: Option<bool>,
    /// The owner of the savepoint's files once the job has started: `NO_CLAIM` or `CLAIM`.
    pub claim_mode: Option<String>,
    /// The same, under the name of older clients.
    pub restore_mode: Option<String>,
    /// Options of the job.
    pub flink_configuration: Option<BTreeMap<String, ConfigurationValue>>,
}

/// The value of an option: text. Numbers and truth values are read as their text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ConfigurationValue(pub String);

impl<'de> Deserialize<'de> for ConfigurationValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarText).map(Self)
    }
}

/// Reads a scalar as its text.
struct ScalarText;

impl Visitor<'_> for ScalarText {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a number or a truth value")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<String, E> {
        Ok(truth.to_string())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<String, E> {
        // `1.0` stays `1.0`.
        Ok(format!("{number:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_options_are_scalars() {
        let read = |json: &str| serde_json::from_str::<ConfigurationValue>(json);
        for (json, text) in
            [("\"a b\"", "a b"), ("1", "1"), ("-1", "-1"), ("1.0", "1.0"), ("true", "true")]
        {
            assert_eq!(read(json).unwrap().0, text);
        }
        for json in ["null", "[1]", "{}"] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains("expected text, a number or a truth value"), "{error}");
        }
    }
}
