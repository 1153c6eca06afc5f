//! Says how a rebuilt graph differs from the planned one, for people who must find out why.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};

use millstream_types::MaxParallelism;

use crate::job_graph::{ChainedOperator, JobEdge, JobGraph, JobSettings, JobVertex};

/// The first difference between the plan of a job and the graph that its program builds in a host,
/// in one sentence; `None` if they are equal.
///
/// The usual reason is a build function that depends on the machine or the moment without
/// `plan_value`.
#[must_use]
pub fn fingerprint_difference(planned: &JobGraph, rebuilt: &JobGraph) -> Option<String> {
    if planned.fingerprint == rebuilt.fingerprint {
        return None;
    }
    let difference = job_difference(planned, rebuilt).unwrap_or_else(|| {
        "the kinds or options of its operators differ, though not their names".to_owned()
    });
    Some(format!("the program builds another graph here than when it was planned: {difference}"))
}

/// The first `Some` of several.
macro_rules! first {
    ($($difference:expr),* $(,)?) => {
        None$(.or_else(|| $difference))*
    };
}

fn job_difference(planned: &JobGraph, rebuilt: &JobGraph) -> Option<String> {
    first!(
        quoted("the job's name", &planned.name, &rebuilt.name),
        plain("the number of its execute call", &planned.ordinal, &rebuilt.ordinal),
        settings_difference(&planned.settings, &rebuilt.settings),
        quoted("the runtime mode", &planned.runtime_mode, &rebuilt.runtime_mode),
        plan_value_difference(&planned.plan_values, &rebuilt.plan_values),
        operators_difference(planned, rebuilt),
        vertices_difference(planned, rebuilt),
        edges_difference(planned, rebuilt),
    )
}

fn plain<T: PartialEq + Display>(what: &str, planned: &T, rebuilt: &T) -> Option<String> {
    (planned != rebuilt).then(|| format!("{what} is {rebuilt}, but {planned} was planned"))
}

fn quoted<T: PartialEq + Debug>(what: &str, planned: &T, rebuilt: &T) -> Option<String> {
    (planned != rebuilt).then(|| format!("{what} is {rebuilt:?}, but {planned:?} was planned"))
}

fn optional<T: PartialEq + Debug>(
    what: &str,
    planned: &Option<T>,
    rebuilt: &Option<T>,
) -> Option<String> {
    let text = |value: &Option<T>| value.as_ref().map_or("none".to_owned(), |v| format!("{v:?}"));
    plain(what, &text(planned), &text(rebuilt))
}

fn settings_difference(planned: &JobSettings, rebuilt: &JobSettings) -> Option<String> {
    let max = |settings: &JobSettings| settings.max_parallelism.map(MaxParallelism::get);
    let keys = planned.config.keys().chain(rebuilt.config.keys());
    first!(
        quoted("the list of arguments", &planned.args, &rebuilt.args),
        optional("the job to build", &planned.entry, &rebuilt.entry),
        plain("the default parallelism", &planned.parallelism, &rebuilt.parallelism),
        optional("the default maximum parallelism", &max(planned), &max(rebuilt)),
        plain("whether operators are chained", &planned.chaining, &rebuilt.chaining),
        quoted("the configured runtime mode", &planned.runtime_mode, &rebuilt.runtime_mode),
        plain("the buffer timeout", &planned.buffer_timeout_ms, &rebuilt.buffer_timeout_ms),
        keys.into_iter()
            .find(|key| planned.config.get(*key) != rebuilt.config.get(*key))
            .map(|key| format!("the configuration of {key:?} differs")),
    )
}

fn plan_value_difference(
    planned: &BTreeMap<String, Vec<u8>>,
    rebuilt: &BTreeMap<String, Vec<u8>>,
) -> Option<String> {
    let unplanned = |name: &&String| !planned.contains_key(*name);
    let differs = |name: &&String| rebuilt.get(*name) != planned.get(*name);
    first!(
        rebuilt
            .keys()
            .find(unplanned)
            .map(|name| format!("it asks for the plan value {name:?}, which was not planned")),
        planned.keys().find(differs).map(|name| match rebuilt.contains_key(name) {
            true => format!("the plan value {name:?} differs"),
            false => format!("it does not ask for the plan value {name:?}, which was planned"),
        }),
    )
}

fn operators_by_node(job: &JobGraph) -> BTreeMap<u32, (&ChainedOperator, &JobVertex)> {
    let mut operators = BTreeMap::new();
    for vertex in &job.vertices {
        for operator in &vertex.operators {
            operators.insert(operator.node.0, (operator, vertex));
        }
    }
    operators
}

/// The operators in the order of the program, so that the first difference is the one to look at.
fn operators_difference(planned: &JobGraph, rebuilt: &JobGraph) -> Option<String> {
    let (planned, rebuilt) = (operators_by_node(planned), operators_by_node(rebuilt));
    for (number, (operator, vertex)) in &planned {
        let Some((rebuilt, rebuilt_vertex)) = rebuilt.get(number) else {
            return Some(format!("operator {number} ({:?}) is missing", operator.name));
        };
        let of = |what: &str| format!("{what} of operator {number} ({:?})", operator.name);
        let parallelism = (vertex.parallelism, rebuilt_vertex.parallelism);
        let difference = first!(
            quoted(&format!("operator {number}"), &operator.name, &rebuilt.name),
            optional(&of("the uid"), &operator.uid, &rebuilt.uid),
            quoted(&of("the result type"), &operator.output_type, &rebuilt.output_type),
            plain(&of("whether event times go with the results"), &operator.timed, &rebuilt.timed),
            plain(&of("the parallelism"), &parallelism.0, &parallelism.1),
            optional(
                &of("the chained input"),
                &operator.upstream.map(|node| node.0),
                &rebuilt.upstream.map(|node| node.0),
            ),
            (*operator != *rebuilt).then(|| of("some property") + " differs"),
        );
        if difference.is_some() {
            return difference;
        }
    }
    let extra = rebuilt.iter().find(|(number, _)| !planned.contains_key(number));
    extra.map(|(number, (operator, _))| {
        format!("operator {number} ({:?}) was not planned", operator.name)
    })
}

/// The operators are the same already.
fn vertices_difference(planned: &JobGraph, rebuilt: &JobGraph) -> Option<String> {
    let pairs = planned.vertices.iter().zip(&rebuilt.vertices);
    let mut pairs = pairs.filter(|(planned, rebuilt)| planned != rebuilt);
    let (planned, rebuilt) = pairs.next()?;
    let of = |what: &str| format!("{what} of vertex {:?}", planned.name);
    let groups = (&planned.slot_sharing_group, &rebuilt.slot_sharing_group);
    let max = (planned.max_parallelism.get(), rebuilt.max_parallelism.get());
    first!(
        quoted(&of("the slot sharing group"), groups.0, groups.1),
        plain(&of("the maximum parallelism"), &max.0, &max.1),
        Some(of("some property") + " differs"),
    )
}

fn edges_difference(planned: &JobGraph, rebuilt: &JobGraph) -> Option<String> {
    let show = |edge: &JobEdge| {
        format!(
            "{} of operator {} to input {} of operator {} by {}",
            edge.output,
            edge.source_node.0,
            edge.input,
            edge.target_node.0,
            edge.partitioner.ship_strategy()
        )
    };
    let mut pairs = planned.edges.iter().zip(&rebuilt.edges);
    let pair = pairs.find(|(planned, rebuilt)| planned != rebuilt);
    first!(
        pair.map(|(planned, rebuilt)| {
            format!("it sends {}, but {} was planned", show(rebuilt), show(planned))
        }),
        plain("the number of exchanges", &planned.edges.len(), &rebuilt.edges.len()),
    )
}

#[cfg(test)]
mod tests;
