//! Where files lie, settled when the job is planned.

use millstream_connector::{PlanContext, Result, error};
use millstream_storage::{FilePath, FileSystems};

/// The path, absolute; refused if no file system of this process can have it.
pub(crate) fn settled(path: &FilePath, ctx: &mut PlanContext<'_>) -> Result<FilePath> {
    FileSystems::of_process().check(path)?;
    if !path.is_relative() {
        return Ok(path.clone());
    }
    match ctx.working_directory() {
        Ok(directory) => Ok(path.absolute_in(directory)),
        Err(why) => Err(error!("failed to settle path {path}: {why:#}")),
    }
}
