//! Makes random temperatures of some sensors and prints the highest of each sensor whenever it
//! rises.
//!
//! ```text
//! cargo run --example datagen_print -- [--sensors 5] [--seconds 10] [--rate 1000]
//! ```

use millstream::prelude::*;

/// A sensor's number and a temperature in tenths of a degree.
type Reading = (u64, i64);

#[millstream::main]
fn datagen_print(env: &mut Environment, args: Args) -> Result<()> {
    let sensors: u64 = args.optional("sensors")?.unwrap_or(5);
    let seconds: u64 = args.optional("seconds")?.unwrap_or(10);
    let rate: u64 = args.optional("rate")?.unwrap_or(1_000);
    args.finish()?;

    // The seed makes every run see the same readings.
    let readings = Datagen::random(42, move |_, random| -> Reading {
        (random.below(sensors), random.below(500) as i64 - 100)
    });
    env.source("readings", readings.count(rate * seconds).rate_per_second(rate))
        .key_by(|(sensor, _)| *sensor)
        .process("highest", |states| Ok(Highest { so_far: states.value("highest")? }))
        .sink("print", PrintSink::new());
    env.execute("highest temperatures")?;
    Ok(())
}

/// Emits a reading that is higher than all of its sensor before.
struct Highest {
    so_far: ValueState<i64>,
}

impl KeyedProcess<u64, Reading> for Highest {
    type Out = String;

    fn process(
        &mut self,
        (sensor, tenths): Reading,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        if self.so_far.get(ctx)?.is_none_or(|so_far| tenths > *so_far) {
            self.so_far.set(ctx, tenths)?;
            out.emit(format!("sensor {sensor}: {:.1}", tenths as f64 / 10.0));
        }
        Ok(())
    }
}
