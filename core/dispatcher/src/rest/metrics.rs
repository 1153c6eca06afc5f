//! Metrics by name: of one component, or aggregated over several.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use millstream_gateway::DispatcherGateway as _;
use millstream_rest_types::metrics::{AggregatedMetric, Metric};
use millstream_types::{JobId, Timestamp};

use super::answer::{Answer, Place, RestError, parse_from, shortened};
use super::query::Params;
use super::{Shared, cluster, jobs, render, vertices};

/// Named values.
type Metrics = Vec<(String, f64)>;

/// The most subtasks or metrics that one query may name.
const NAMES_MAX: usize = 10_000;

fn names(list: &str) -> Vec<&str> {
    list.split(',').filter(|name| !name.is_empty()).take(NAMES_MAX).collect()
}

/// All names, or the values of those that the query asks for.
fn plain(metrics: Metrics, query: &Params) -> Vec<Metric> {
    let Some(get) = query.get("get") else {
        return metrics.into_iter().map(|(id, _)| Metric { id, value: None }).collect();
    };
    let by_name: BTreeMap<String, f64> = metrics.into_iter().collect();
    let row = |name| {
        let (id, value) = by_name.get_key_value(name)?;
        Some(Metric { id: id.clone(), value: Some(value.to_string()) })
    };
    names(get).into_iter().filter_map(row).collect()
}

/// All names, or the aggregates over the members of those that the query asks for.
fn aggregated(members: Vec<Metrics>, query: &Params) -> Answer<Vec<AggregatedMetric>> {
    const ALL: &str = "min,max,avg,sum,skew";
    // Flink's clients write MIN, its web page min.
    let wanted = query.get("agg").unwrap_or(ALL).to_ascii_lowercase();
    let wanted = names(&wanted);
    if let Some(unknown) = wanted.iter().find(|name| !names(ALL).contains(name)) {
        let shown = shortened(unknown);
        return Err(RestError::bad(format!("agg is of {ALL}, not {shown:?}")));
    }
    let mut by_name: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (name, value) in members.into_iter().flatten() {
        by_name.entry(name).or_default().push(value);
    }
    let Some(get) = query.get("get") else {
        let name = |id| AggregatedMetric { id, ..AggregatedMetric::default() };
        return Ok(by_name.into_keys().map(name).collect::<Vec<_>>().into());
    };
    let row = |name| {
        let (id, values) = by_name.get_key_value(name)?;
        let of = |name| wanted.contains(&name).then(|| aggregate_of(name, values));
        Some(AggregatedMetric {
            id: id.clone(),
            min: of("min"),
            max: of("max"),
            avg: of("avg"),
            sum: of("sum"),
            skew: of("skew"),
        })
    };
    Ok(names(get).into_iter().filter_map(row).collect::<Vec<_>>().into())
}

#[expect(clippy::cast_precision_loss, reason = "a number of subtasks")]
fn aggregate_of(aggregate: &str, values: &[f64]) -> f64 {
    let (sum, count) = (values.iter().sum::<f64>(), values.len().max(1) as f64);
    let mean = sum / count;
    match aggregate {
        "min" => values.iter().copied().fold(f64::INFINITY, f64::min),
        "max" => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        "avg" => mean,
        "sum" => sum,
        // Flink's skew: the mean absolute deviation as a percentage of its maximum.
        _ if values.len() < 2 || mean == 0.0 => 0.0,
        _ => {
            let deviation = values.iter().map(|value| (value - mean).abs()).sum::<f64>() / count;
            let worst = 2.0 * mean * (count - 1.0) / count;
            (deviation / worst * 100.0).clamp(0.0, 100.0)
        }
    }
}

pub(super) async fn job_manager(State(context): Shared, query: Params) -> Answer<Vec<Metric>> {
    let workers = context.services.resource_manager.task_managers().await?;
    let jobs = context.services.dispatcher.jobs().await;
    let running = jobs.iter().filter(|job| !job.status.is_globally_terminal()).count();
    let slots: usize = workers.iter().map(|worker| worker.registration.slots as usize).sum();
    let used: usize = workers.iter().map(|worker| worker.allocated.len()).sum();
    let usage = tokio::task::spawn_blocking(millstream_launcher::own_usage).await;
    let resident = usage.map_or(0, |usage| usage.resident.as_bytes());
    let resident = usize::try_from(resident).unwrap_or(usize::MAX);
    let metrics = [
        ("numRunningJobs", running),
        ("numRegisteredTaskManagers", workers.len()),
        ("taskSlotsTotal", slots),
        ("taskSlotsAvailable", slots.saturating_sub(used)),
        ("Status.JVM.Memory.Heap.Used", resident),
        ("Status.JVM.Memory.Heap.Committed", resident),
        ("Status.Process.ResidentMemory", resident),
    ];
    #[expect(clippy::cast_precision_loss, reason = "a number on a dashboard")]
    let metrics = metrics.map(|(name, value)| (name.to_owned(), value as f64)).to_vec();
    Ok(plain(metrics, &query).into())
}

pub(super) async fn task_manager(
    State(context): Shared,
    Path(id): Path<String>,
    query: Params,
) -> Answer<Vec<Metric>> {
    let worker = cluster::find(&context, &id).await?;
    Ok(plain(render::worker::metrics(&worker), &query).into())
}

pub(super) async fn task_managers(
    State(context): Shared,
    query: Params,
) -> Answer<Vec<AggregatedMetric>> {
    let workers = context.services.resource_manager.task_managers().await?;
    let chosen = query.get("taskmanagers").map(names);
    let members = workers
        .iter()
        .filter(|w| chosen.as_ref().is_none_or(|ids| ids.contains(&w.registration.id.as_str())))
        .map(render::worker::metrics)
        .collect();
    aggregated(members, &query)
}

pub(super) async fn job(
    State(context): Shared,
    Path(id): Path<String>,
    query: Params,
) -> Answer<Vec<Metric>> {
    let job = jobs::find(&context, &id).await?;
    Ok(plain(render::job::metrics(&job, Timestamp::now()), &query).into())
}

pub(super) async fn jobs(State(context): Shared, query: Params) -> Answer<Vec<AggregatedMetric>> {
    let dispatcher = &context.services.dispatcher;
    let chosen: Vec<JobId> = match query.get("jobs") {
        Some(ids) => names(ids)
            .into_iter()
            .map(|id| parse_from(Place::Query, "jobs", id))
            .collect::<Result<_, RestError>>()?,
        None => dispatcher.jobs().await.iter().map(|job| job.job).collect(),
    };
    let (now, mut members) = (Timestamp::now(), Vec::new());
    for id in chosen {
        if let Ok(job) = dispatcher.job(id).await {
            members.push(render::job::metrics(&job, now));
        }
    }
    aggregated(members, &query)
}

pub(super) async fn vertex(
    State(context): Shared,
    Path((job, id)): Path<(String, String)>,
    query: Params,
) -> Answer<Vec<Metric>> {
    let found = vertices::find(&context, &job, &id).await?;
    let vertex = found.vertex()?;
    let (now, mut metrics) = (Timestamp::now(), Metrics::new());
    for subtask in vertex.subtasks() {
        let named = vertex.metrics(subtask, now).into_iter();
        metrics.extend(named.map(|(name, value)| (format!("{}.{name}", subtask.subtask), value)));
    }
    Ok(plain(metrics, &query).into())
}

pub(super) async fn subtasks(
    State(context): Shared,
    Path((job, id)): Path<(String, String)>,
    query: Params,
) -> Answer<Vec<AggregatedMetric>> {
    let found = vertices::find(&context, &job, &id).await?;
    let vertex = found.vertex()?;
    let ranges = query.get("subtasks").map(parse_ranges).transpose()?;
    let chosen = |subtask: u32| {
        ranges.as_ref().is_none_or(|ranges| ranges.iter().any(|range| range.contains(&subtask)))
    };
    let now = Timestamp::now();
    let members = vertex.subtasks().iter().filter(|subtask| chosen(subtask.subtask));
    aggregated(members.map(|subtask| vertex.metrics(subtask, now)).collect(), &query)
}

pub(super) async fn subtask(
    State(context): Shared,
    Path((job, id, index)): Path<(String, String, String)>,
    query: Params,
) -> Answer<Vec<Metric>> {
    let found = vertices::find(&context, &job, &id).await?;
    let (vertex, subtask) = found.subtask(&index)?;
    Ok(plain(vertex.metrics(subtask, Timestamp::now()), &query).into())
}

/// Reads `0,2-3`.
fn parse_ranges(text: &str) -> Result<Vec<std::ops::RangeInclusive<u32>>, RestError> {
    let parse = |number: &str| {
        let error = |_| RestError::bad("subtasks are numbers and ranges, such as 0,2-3");
        number.trim().parse::<u32>().map_err(error)
    };
    let range = |part: &str| match part.split_once('-') {
        Some((from, to)) => Ok(parse(from)?..=parse(to)?),
        None => Ok(parse(part)?..=parse(part)?),
    };
    names(text).into_iter().map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aggregates_are_right() {
        let values = [1.0, 3.0];
        let all = ["min", "max", "avg", "sum", "skew"];
        let got = all.map(|name| aggregate_of(name, &values));
        assert_eq!(got, [1.0, 3.0, 2.0, 4.0, 50.0]);
        assert_eq!(aggregate_of("skew", &[5.0]), 0.0);
    }

    #[test]
    fn ranges_are_read_and_nonsense_is_refused() {
        assert_eq!(parse_ranges("0,2-3").unwrap(), [0..=0, 2..=3]);
        assert!(parse_ranges("a-b").is_err());
        assert!(parse_ranges("-1").is_err());
    }
}
