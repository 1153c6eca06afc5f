//! The Dispatcher with REST before it, over real sockets, between testing neighbours.

#[cfg(test)]
mod bytes;
#[cfg(test)]
mod checkpoints;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod jars;
#[cfg(test)]
mod jobs;
#[cfg(test)]
mod numbers;
#[cfg(test)]
mod savepoints;
#[cfg(test)]
mod schemas;
#[cfg(test)]
mod secured;
#[cfg(test)]
mod shapes;
#[cfg(test)]
mod submission;
#[cfg(test)]
mod world;
