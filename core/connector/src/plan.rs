//! Planning of a job, as its sources and sinks see it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::Result;

/// The name of the plan value that keeps the working directory.
const WORKING_DIRECTORY: &str = "millstream.working-directory";

/// Where a job is planned; given to its sources and sinks.
pub struct PlanContext<'a> {
    directory: &'a mut WorkingDirectory,
}

impl<'a> PlanContext<'a> {
    /// The context in which relative paths start from this directory.
    pub const fn new(directory: &'a mut WorkingDirectory) -> Self {
        Self { directory }
    }

    /// The directory that relative paths start from: the client's working directory, the same in
    /// every process of the job.
    ///
    /// # Errors
    /// The program is planned on the cluster, where no directory is the client's, or the directory
    /// was removed.
    pub fn working_directory(&mut self) -> Result<&Path> {
        self.directory.find()
    }
}

/// The client's working directory, looked for at its first use.
#[derive(Default)]
pub struct WorkingDirectory {
    /// As an earlier run of the program recorded it.
    recorded: Option<Vec<u8>>,
    /// Whether the program runs where its client is.
    is_clients: bool,
    found: Option<PathBuf>,
}

impl WorkingDirectory {
    /// `plan_value` gives what an earlier run of the program recorded; `is_clients` says whether
    /// this process runs where the program's client is.
    pub fn new(plan_value: impl FnOnce(&str) -> Option<Vec<u8>>, is_clients: bool) -> Self {
        Self { recorded: plan_value(WORKING_DIRECTORY), is_clients, found: None }
    }

    pub(crate) fn find(&mut self) -> Result<&Path> {
        let found = match (self.found.take(), &self.recorded) {
            (Some(found), _) => found,
            (None, Some(recorded)) => PathBuf::from(postcard::from_bytes::<OsString>(recorded)?),
            (None, None) if self.is_clients => std::env::current_dir().map_err(|error| {
                anyhow::anyhow!(
                    "it is relative, and there is no working directory that it could start from \
                     ({error}): change to another directory, or name an absolute path"
                )
            })?,
            (None, None) => anyhow::bail!(
                "it is relative, and the program is planned on the cluster, not in the client's \
                 working directory: name an absolute path"
            ),
        };
        Ok(self.found.insert(found))
    }

    /// The plan value that later runs of the program take the directory from, if any source or
    /// sink has asked for it.
    ///
    /// # Errors
    /// The directory cannot be written as a plan value.
    pub fn plan_value(&self) -> Result<Option<(String, Vec<u8>)>> {
        let Some(found) = &self.found else { return Ok(None) };
        let bytes = postcard::to_stdvec(found.as_os_str())?;
        Ok(Some((WORKING_DIRECTORY.to_owned(), bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(directory: &str) -> Option<Vec<u8>> {
        Some(postcard::to_stdvec(&OsString::from(directory)).unwrap())
    }

    #[test]
    fn every_process_of_a_job_has_the_clients_working_directory() {
        let mut client = WorkingDirectory::new(|_| None, true);
        assert_eq!(client.plan_value().unwrap(), None);
        let here = PlanContext::new(&mut client).working_directory().unwrap().to_owned();
        assert_eq!(here, std::env::current_dir().unwrap());
        let (name, value) = client.plan_value().unwrap().unwrap();

        let plan_value = |asked: &str| (asked == name).then_some(value);
        let mut host = WorkingDirectory::new(plan_value, false);
        assert_eq!(PlanContext::new(&mut host).working_directory().unwrap(), here);
        let mut elsewhere = WorkingDirectory::new(|_| recorded("/elsewhere"), true);
        let found = PlanContext::new(&mut elsewhere).working_directory().unwrap().to_owned();
        assert_eq!(found, Path::new("/elsewhere"));
    }

    #[test]
    fn a_program_that_a_daemon_plans_has_no_working_directory() {
        let mut planned = WorkingDirectory::new(|_| None, false);
        let error = PlanContext::new(&mut planned).working_directory().unwrap_err().to_string();
        assert!(error.contains("the program is planned on the cluster"), "{error}");
        assert!(error.ends_with("name an absolute path"), "{error}");
        assert_eq!(planned.plan_value().unwrap(), None);
    }
}
