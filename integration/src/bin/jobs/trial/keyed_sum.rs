//! The job of the workload `keyed-sum`: for each record it writes `key sequence sum` of its key's
//! records so far.

use millstream::prelude::*;

use super::Line;
use super::entries::{Entry, Input};

pub(super) fn lines(env: &mut Environment, input: &Input) -> Stream<Line> {
    let entries = input.untimed(env, "entries").key_by(|entry| entry.key);
    entries.process("sums", |states| Ok(Sums(states.value("total")?)))
}

/// Counts and sums the records of each key.
struct Sums(ValueState<(u64, u64)>);

impl KeyedProcess<u64, Entry> for Sums {
    type Out = Line;

    fn process(
        &mut self,
        entry: Entry,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, Line>,
    ) -> Result<()> {
        let total = self.0.get_or_insert_with(ctx, || (0, 0))?;
        total.0 += 1;
        total.1 += entry.amount;
        out.emit(vec![entry.key as i64, total.0 as i64, total.1 as i64]);
        Ok(())
    }
}
