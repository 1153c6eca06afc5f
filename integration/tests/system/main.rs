//! System tests: what a user of a standalone cluster relies on, on real processes.

mod kills;
mod misbehaviour;
mod neighbour;
mod word_count;
