//! Records on their way out of an operator: [`Results`] become a batch, and the [`Lanes`] of an
//! exchange have a buffer for each of its channels. A [`CollectQueue`] leads to the program itself.
//!
//! # Invariants
//! - What waits in the buffers of an exchange is bounded by bytes, however many channels it has.
//! - Nothing here is virtual or allocates for each record.

mod collected;
mod lanes;
mod results;

use anyhow::{Error, Result};

pub use collected::{CollectQueue, Taken};
pub use lanes::Lanes;
pub use results::{Results, append};
