//! The function for the records of the main stream cannot change broadcast state.

//~ error[E0308]
//~ types differ in mutability
//~ `&mut millstream::BroadcastMaps`

use millstream::prelude::*;

struct Rules(BroadcastState<u64, u64>);

impl BroadcastProcess<u64, u64> for Rules {
    type Out = u64;

    fn process(
        &mut self,
        number: u64,
        maps: &BroadcastMaps,
        _: &mut Collector<'_, u64>,
    ) -> Result<()> {
        Ok(self.0.put(maps, number, number)?)
    }

    fn process_broadcast(
        &mut self,
        rule: u64,
        maps: &mut BroadcastMaps,
        _: &mut Collector<'_, u64>,
    ) -> Result<()> {
        Ok(self.0.put(maps, rule, rule)?)
    }
}

fn main() {}
