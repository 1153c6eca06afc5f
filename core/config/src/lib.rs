//! Configuration: tables of typed options, one loader, and an answer for every key of Flink.
//!
//! [`options`] is the engine's table: each option is a constant with its key, type, default and one
//! sentence. Each driver has a table in its own crate ([`declare_options!`] declares all of them),
//! and the binary names the drivers that it holds ([`KnownOptions`]). [`Loader`] reads defaults,
//! file, environment and command line, in this order, and refuses unknown keys and values that do
//! not parse, so that a mistake stops the start and not the night. [`flink`] knows the other keys
//! of Flink; they are accepted with a warning.
//!
//! There is no global configuration: a process loads one [`Configuration`] at its start, and each
//! component receives a plain struct that its owner built from it.
//!
//! ```
//! use millstream_config::{KnownOptions, Loader, options};
//!
//! let loader = Loader::new(KnownOptions::ENGINE);
//! let loaded = loader.with_dynamic_properties(["rest.bind-port=9000-9010"]).load()?;
//! assert_eq!(loaded.configuration.get(&options::PARALLELISM_DEFAULT)?, 1);
//! let ports: Vec<u16> = loaded.configuration.get(&options::REST_BIND_PORT)?.ports().collect();
//! assert_eq!(ports.first(), Some(&9000));
//! # Ok::<(), millstream_config::ConfigError>(())
//! ```

mod configuration;
mod error;
pub mod flink;
mod known;
mod loader;
mod option;
pub mod options;
mod reference;
mod syntax;
mod values;
mod worker_memory;

pub use configuration::Configuration;
pub use error::{ConfigError, Origin};
pub use known::KnownOptions;
pub use loader::{CONF_DIR_VARIABLE, HOME_VARIABLE, Loaded, Loader, PROPERTIES_VARIABLE};
pub use option::{ConfigOption, KeyPrefix, OptionInfo, OptionTable, OptionValue};
pub use reference::render_reference;
pub use values::{
    CheckpointInterval, CheckpointRetention, CheckpointingMode, ClaimMode, FailoverStrategy,
    LogLevel, PortRange, RestartStrategyType, Seconds, one_of,
};
pub use worker_memory::WorkerMemory;
