//! Random graphs as plain data, each made from a seed.

use std::fmt;

/// A number of its source and the operators that it went through.
pub type Record = (u64, Vec<u8>);

/// The partitioning of an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Unsaid,
    Forward,
    Rebalance,
    Rescale,
    Broadcast,
    Global,
    /// The key is the number modulo this.
    Hash(u64),
    /// The subtask is the number times the first plus the second.
    Custom(u64, u64),
}

/// The output of a node that an edge reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Out {
    Main,
    Left,
    Right,
}

#[derive(Debug, Clone)]
pub struct Edge {
    pub from: usize,
    pub out: Out,
    pub by: By,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Numbers of its own.
    Source(u64),
    Map,
    /// Without the multiples of three.
    Filter,
    /// As many as the number modulo three.
    FlatMap,
    /// Odd numbers are refused and go to the side output `Left`.
    Refuse,
    /// By key: multiples of three stay, the others go to `Left` and `Right`.
    Process,
    /// Two inputs.
    Connect,
    Sink,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chain {
    Always,
    Head,
    Never,
}

#[derive(Debug, Clone)]
pub struct Node {
    pub kind: Kind,
    pub parallelism: u32,
    pub chain: Chain,
    pub group: Option<&'static str>,
    /// The edges of each input.
    pub inputs: Vec<Vec<Edge>>,
}

#[derive(Debug, Clone)]
pub struct Graph {
    pub nodes: Vec<Node>,
    pub chaining: bool,
    pub batch: bool,
    pub serialize_always: bool,
    /// Number of TaskManagers that share the slots; two of them exchange records over the network.
    pub workers: u32,
    /// Whether every node names its slot sharing group.
    pub grouped: bool,
    /// 0, or the milliseconds that a buffer may wait.
    pub buffer_timeout: u64,
}

/// xorshift64*
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

/// Broadcasts multiply: a graph with more records than this at one node has one taken away.
const RECORDS_MAX: usize = 4_000;

impl Graph {
    pub fn random(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let count = 2 + random.below(7);
        let mut graph = Self {
            nodes: Vec::new(),
            chaining: !random.one_in(5),
            batch: random.one_in(3),
            serialize_always: random.one_in(2),
            workers: random.pick(&[1, 1, 2, 3]),
            grouped: random.one_in(4),
            buffer_timeout: random.pick(&[0, 1, 100]),
        };
        for at in 0..count {
            let source = at == 0 || random.one_in(8);
            let last = at + 1 == count;
            let kind = match random.below(9) {
                _ if source && !last => Kind::Source(random.pick(&[0, 1, 7, 30])),
                _ if last => Kind::Sink,
                0 | 1 => Kind::Map,
                2 => Kind::Filter,
                3 => Kind::FlatMap,
                4 => Kind::Refuse,
                5 => Kind::Process,
                6 | 7 => Kind::Connect,
                _ => Kind::Sink,
            };
            graph.add(&mut random, kind);
        }
        graph.end_in_sinks(&mut random);
        while crate::interpreter::most_records(&graph) > RECORDS_MAX {
            let edges = graph.nodes.iter_mut().flat_map(|node| node.inputs.iter_mut().flatten());
            let broadcast = edges.filter(|edge| edge.by == By::Broadcast).last();
            match broadcast {
                Some(edge) => edge.by = By::Global,
                None => break,
            }
        }
        graph
    }

    fn add(&mut self, random: &mut Random, kind: Kind) {
        let parallelism = if random.one_in(3) { 1 } else { 1 + random.below(4) as u32 };
        let inputs = match kind {
            Kind::Source(_) => 0,
            Kind::Connect => 2,
            _ => 1,
        };
        // Every third operator reads one node by several edges.
        let mut inputs: Vec<Vec<Edge>> = (0..inputs)
            .map(|_| {
                let one = random.one_in(3).then(|| self.any_output(random));
                let edges = 1 + random.pick(&[0, 0, 0, 1, 1, 2]);
                (0..edges).map(|_| self.edge(random, parallelism, one)).collect()
            })
            .collect();
        if kind == Kind::Process {
            // `key_by` comes last and is that of all edges.
            let by = By::Hash(1 + random.below(9));
            inputs.iter_mut().flatten().for_each(|edge| edge.by = by);
        }
        self.nodes.push(Node {
            kind,
            parallelism,
            chain: random.pick(&[Chain::Always, Chain::Always, Chain::Head, Chain::Never]),
            group: self.group(random),
            inputs,
        });
    }

    fn any_output(&self, random: &mut Random) -> (usize, Out) {
        loop {
            let from = usize::try_from(random.below(self.nodes.len() as u64)).unwrap();
            match self.nodes[from].kind {
                Kind::Sink => {}
                Kind::Refuse => return (from, random.pick(&[Out::Main, Out::Left])),
                Kind::Process => return (from, random.pick(&[Out::Main, Out::Left, Out::Right])),
                _ => return (from, Out::Main),
            }
        }
    }

    fn edge(&self, random: &mut Random, parallelism: u32, one: Option<(usize, Out)>) -> Edge {
        let (from, out) = one.unwrap_or_else(|| self.any_output(random));
        let by = match random.below(9) {
            0 | 1 => By::Unsaid,
            2 if self.nodes[from].parallelism == parallelism => By::Forward,
            2 | 3 => By::Rebalance,
            4 => By::Rescale,
            5 => By::Broadcast,
            6 => By::Global,
            7 => By::Hash(1 + random.below(9)),
            _ => By::Custom(random.below(3), random.below(4)),
        };
        Edge { from, out, by }
    }

    fn group(&self, random: &mut Random) -> Option<&'static str> {
        self.grouped.then(|| random.pick(&["default", "a"]))
    }

    /// A sink for every node that nothing reads.
    fn end_in_sinks(&mut self, random: &mut Random) {
        for at in 0..self.nodes.len() {
            let mut edges = self.nodes.iter().flat_map(|node| node.inputs.iter().flatten());
            if self.nodes[at].kind == Kind::Sink || edges.any(|edge| edge.from == at) {
                continue;
            }
            let parallelism = 1 + random.below(4) as u32;
            let edge = self.edge(random, parallelism, Some((at, Out::Main)));
            self.nodes.push(Node {
                kind: Kind::Sink,
                parallelism,
                chain: Chain::Always,
                group: self.group(random),
                inputs: vec![vec![edge]],
            });
        }
    }
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "chaining {}, batch {}, {} workers", self.chaining, self.batch, self.workers)?;
        for (at, node) in self.nodes.iter().enumerate() {
            write!(f, "{at}: {:?} x{} {:?}", node.kind, node.parallelism, node.chain)?;
            for (input, edges) in node.inputs.iter().enumerate() {
                for edge in edges {
                    write!(f, " <-{input}- {}.{:?} {:?}", edge.from, edge.out, edge.by)?;
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
