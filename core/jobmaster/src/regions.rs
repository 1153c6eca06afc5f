//! The regions of a job: tasks that channels connect, directly or over others. No channel leads
//! from one region to another, so that one can begin again while the others run.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use millstream_graph::{JobGraph, Partitioner};

use crate::execution_graph::Subtask;

/// The regions of a job.
#[derive(Debug)]
pub(crate) struct Regions {
    /// The tasks of each region.
    tasks: Vec<Vec<Subtask>>,
    /// The region of each task.
    of: BTreeMap<Subtask, usize>,
}

/// Sets of tasks that grow together; each is known by one of its tasks.
struct Sets {
    /// The number of a vertex's first task.
    first: Vec<usize>,
    parents: Vec<usize>,
}

impl Sets {
    fn root(&mut self, mut task: usize) -> usize {
        while self.parents[task] != task {
            self.parents[task] = self.parents[self.parents[task]];
            task = self.parents[task];
        }
        task
    }

    fn join(&mut self, (vertex, index): (usize, usize), (other, at): (usize, usize)) {
        let one = self.root(self.first[vertex] + index);
        let two = self.root(self.first[other] + at);
        self.parents[one.max(two)] = one.min(two);
    }
}

impl Regions {
    /// The regions of `graph`, in the order of their first tasks.
    pub(crate) fn new(graph: &JobGraph) -> Self {
        let widths: Vec<usize> = graph.vertices.iter().map(|it| it.parallelism as usize).collect();
        let starts = widths.iter().scan(0, |next, width| {
            let first = *next;
            *next += width;
            Some(first)
        });
        let first: Vec<usize> = starts.collect();
        let mut sets = Sets { first, parents: (0..widths.iter().sum()).collect() };
        let numbered = graph.vertices.iter().enumerate();
        let places: HashMap<_, usize> =
            numbered.map(|(place, vertex)| (vertex.id, place)).collect();
        for edge in &graph.edges {
            let ends = (places.get(&edge.source), places.get(&edge.target));
            let (Some(source), Some(target)) = ends else { continue };
            let (source, target) = (*source, *target);
            if edge.partitioner == Partitioner::Forward {
                (0..widths[source].min(widths[target]))
                    .for_each(|index| sets.join((source, index), (target, index)));
            } else {
                // Other channels reach all subtasks; those of a rescale edge, a part of them.
                (0..widths[source]).for_each(|index| sets.join((source, index), (target, 0)));
                (0..widths[target]).for_each(|index| sets.join((source, 0), (target, index)));
            }
        }
        let mut regions = Self { tasks: Vec::new(), of: BTreeMap::new() };
        let mut numbers = HashMap::new();
        for (vertex, width) in widths.iter().enumerate() {
            for index in 0..*width {
                let root = sets.root(sets.first[vertex] + index);
                let region = *numbers.entry(root).or_insert_with(|| {
                    regions.tasks.push(Vec::new());
                    regions.tasks.len() - 1
                });
                regions.tasks[region].push(Subtask { vertex, index });
                regions.of.insert(Subtask { vertex, index }, region);
            }
        }
        regions
    }

    /// All tasks of the regions of these ones.
    pub(crate) fn around(&self, tasks: &[Subtask]) -> BTreeSet<Subtask> {
        let regions: BTreeSet<usize> =
            tasks.iter().filter_map(|task| self.of.get(task).copied()).collect();
        regions.into_iter().filter_map(|it| self.tasks.get(it)).flatten().copied().collect()
    }

    /// The number of tasks of all regions.
    pub(crate) fn task_count(&self) -> usize {
        self.of.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::fixture::connected;

    fn regions(graph: &JobGraph) -> Vec<Vec<(usize, usize)>> {
        let regions = Regions::new(graph).tasks.into_iter();
        regions.map(|it| it.into_iter().map(|task| (task.vertex, task.index)).collect()).collect()
    }

    #[test]
    fn tasks_without_channels_are_regions_of_their_own() {
        let apart = connected(&[("a", 2, "default"), ("b", 1, "default")], &[]);
        assert_eq!(regions(&apart), [vec![(0, 0)], vec![(0, 1)], vec![(1, 0)]]);
    }

    #[test]
    fn forward_edges_connect_subtask_to_subtask_and_all_others_connect_everything() {
        let vertices = [("a", 2, "default"), ("b", 2, "default"), ("c", 3, "default")];
        let forward = connected(&vertices, &[(0, 1, Partitioner::Forward)]);
        let all = [vec![(0, 0), (1, 0)], vec![(0, 1), (1, 1)], vec![(2, 0)], vec![(2, 1)]];
        assert_eq!(regions(&forward)[..4], all);
        for partitioner in [Partitioner::Hash, Partitioner::Rebalance, Partitioner::Rescale] {
            let edges = [(0, 1, Partitioner::Forward), (1, 2, partitioner)];
            assert_eq!(regions(&connected(&vertices, &edges)).len(), 1, "{partitioner:?}");
        }
    }

    #[test]
    fn the_tasks_around_some_are_those_of_their_regions() {
        let forward =
            connected(&[("a", 3, "default"), ("b", 3, "default")], &[(0, 1, Partitioner::Forward)]);
        let regions = Regions::new(&forward);
        let at = |vertex, index| Subtask { vertex, index };
        let around = regions.around(&[at(1, 2), at(0, 2), at(0, 0)]);
        assert_eq!(around, BTreeSet::from([at(0, 0), at(1, 0), at(0, 2), at(1, 2)]));
        assert_eq!(regions.task_count(), 6);
    }
}
