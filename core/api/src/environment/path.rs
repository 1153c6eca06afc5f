//! Paths among the arguments of a program.

use millstream_connector::{PlanContext, Result};
use millstream_storage::{FilePath, FileSystems};

use super::Environment;
use crate::Args;

impl Environment {
    /// The value of the argument `--name`, as the absolute path of something to read.
    ///
    /// A relative path starts from the working directory of the client, in every process of the
    /// job. A local path that does not exist, or that may not be read, is an error if the job runs
    /// in this process; on a cluster it is a warning, because the hosts of the cluster read it. A
    /// path of another file system (`hdfs://…`) is looked at when the job reads it.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing};
    /// # let mut env = testing::environment();
    /// # let directory = std::env::temp_dir().join(format!("path-{}", std::process::id()));
    /// # std::fs::create_dir_all(&directory)?;
    /// # std::fs::write(directory.join("words.txt"), "to\nbe\n")?;
    /// # std::env::set_current_dir(&directory)?;
    /// let args = Args::new(["--input", "words.txt", "--other", "wrods.txt"]);
    /// let (words, input) = (CollectSink::new(), env.path(&args, "input")?);
    /// env.source("words", FileSource::text(input)).sink("collect", words.clone());
    /// env.execute("read words")?;
    /// assert_eq!(words.take(), ["to", "be"]);
    ///
    /// let error = env.path(&args, "other").unwrap_err().to_string();
    /// assert!(error.starts_with("--other cannot be read: ") && error.contains("/wrods.txt"));
    /// let error = env.path(&args, "more").unwrap_err().to_string();
    /// assert_eq!(error, "--more is missing: give it as --more VALUE");
    /// # std::fs::remove_dir_all(&directory)?;
    /// # Ok::<(), millstream::Error>(())
    /// ```
    ///
    /// # Errors
    /// The argument is missing, its value is no path, or the path cannot be read.
    pub fn path(&mut self, args: &Args, name: &str) -> Result<FilePath> {
        let path = FilePath::from(args.required(name)?);
        let refused =
            |why: &dyn std::fmt::Display| anyhow::anyhow!("--{name} cannot be read: {why}");
        FileSystems::of_process().check(&path).map_err(|error| refused(&error))?;
        let directory = &mut self.builder.borrow_mut().directory;
        let path = match path.is_relative() {
            false => path,
            true => match PlanContext::new(directory).working_directory() {
                Ok(directory) => path.absolute_in(directory),
                Err(why) => return Err(refused(&format_args!("{path}: {why:#}"))),
            },
        };
        if let (true, Some(Err(error))) =
            (self.executor.is_in_clients_directory(), path.local().map(readable))
        {
            let fault = refused(&format_args!("{path}: {error}"));
            if self.executor.runs_here() {
                return Err(fault);
            }
            let fault = format!("{fault}; it must be there on the hosts of the cluster");
            self.executor.warn(&fault);
        }
        Ok(path)
    }
}

/// Tries what reading the path begins with. Opening anything but a file or a directory may block.
fn readable(path: &std::path::Path) -> std::io::Result<()> {
    match path.metadata()? {
        kind if kind.is_dir() => path.read_dir().map(drop),
        kind if kind.is_file() => std::fs::File::open(path).map(drop),
        _ => Ok(()),
    }
}
