//! `state show`: the contents of a savepoint or retained checkpoint, read without a cluster.

mod view;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use millstream_checkpoint::metadata::Metadata;
use millstream_storage::{FilePath, FileSystems, StorageError, read_all};

use crate::arguments::{StateArguments, StateVerb};
use crate::jobs::local_time;
use crate::{console, runtime};

/// The name of the metadata in the directory of a checkpoint.
const METADATA: &str = "_metadata";
/// Larger files are refused: it is the state that is large, and state is in other files.
const METADATA_BYTES_MAX: u64 = 1 << 30;

/// Shows the state at a path.
pub(crate) fn run(arguments: &StateArguments) -> Result<ExitCode> {
    let StateVerb::Show { path, json } = &arguments.verb;
    let file = metadata_file(path);
    let name = file.to_string();
    let bytes = runtime()?.block_on(read(&file))?;
    let metadata = Metadata::decode(&name, &bytes)?;
    let shown = view::Checkpoint::new(&name, &metadata);
    if *json {
        let text = serde_json::to_string_pretty(&shown).context("failed to write JSON")?;
        console::print(format_args!("{text}"));
    } else {
        console::print(format_args!("{}", shown.text(local_time).trim_end()));
    }
    Ok(ExitCode::SUCCESS)
}

/// The metadata at a path, which may name it or its directory.
fn metadata_file(path: &str) -> FilePath {
    let path = FilePath::from(Path::new(path));
    if path.file_name().is_some_and(|name| name == METADATA) { path } else { path.join(METADATA) }
}

async fn read(file: &FilePath) -> Result<Vec<u8>> {
    let files = FileSystems::of_process().of(file)?;
    match read_all(files.as_ref(), file, METADATA_BYTES_MAX).await {
        Ok(bytes) => Ok(bytes),
        Err(StorageError::NotFound { path }) => bail!(
            "no savepoint or checkpoint is here: {path} does not exist; name its directory, as \
             in chk-7 or savepoint-1a2b3c-0123456789ab"
        ),
        Err(error) => Err(error.into()),
    }
}
