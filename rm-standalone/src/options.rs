//! The option of a standalone cluster's masters.

use std::path::PathBuf;

use millstream_config::OptionTable;

millstream_config::declare_options! {
    /// The directory for the counter of a standalone cluster's JobManager starts, from which each
    /// start takes its epoch; it must outlive the processes. Unset: `millstream` in
    /// `XDG_STATE_HOME`, else in `.local/state` of the user's home.
    STANDALONE_STATE_DIR: Option<PathBuf> = "millstream.standalone.state-dir";
}

/// The options of this driver.
pub const TABLE: OptionTable = OptionTable { options: ALL, prefixes: &[] };
