//! Windows: the records of a key in a span of event time, and what is made of them.
//!
//! Windows of one length that begin at regular times, `Tumbling` and `Sliding`, are cut into panes
//! by their begins and ends; [`Grid`](millstream_event_time::Grid) is the arithmetic. A record is
//! added to the value of its key and pane, and a window's result is made of the values of its panes
//! when the watermark has reached its end: [`stage`] does both. There is no timer for a key. The
//! windows of a [`Session`] are each key's own, and so are all windows that have a `Trigger` and
//! those of processing time, which [`triggered`] keeps.

mod assigner;
mod functions;
mod kinds;
mod session;
mod stage;
mod triggered;

pub use assigner::{Spans, WindowAssigner, WindowSettings, WithTrigger};
pub use functions::{Finish, WindowFunction};
pub use kinds::{Evicting, Global, Triggered};
pub use session::Session;
