//! Sizes of what a channel has in flight: sent, and its credits not granted again.

/// The bytes of batches in flight at which a channel sends no more, unless it is only one batch.
/// With more, what is sent has left the cache before it is read: texts of 1 KB moved at 0.7 times
/// the rate with 2 MB.
pub(crate) const FLIGHT_BYTES: usize = 512 << 10;

/// The sizes of the last batches and events that were sent, the newest in the lowest byte, in
/// units of which [`FLIGHT_BYTES`] is 64.
#[derive(Debug, Default)]
pub(crate) struct Flight(u64);

impl Flight {
    const FULL: usize = 64;

    pub(crate) const fn add(&mut self, bytes: usize) {
        let units = bytes / (FLIGHT_BYTES / Self::FULL);
        let units = if units < Self::FULL { units } else { Self::FULL };
        self.0 = self.0 << 8 | units as u64;
    }

    /// The units of so many batches and events in flight.
    fn units(&self, in_flight: u32) -> usize {
        let sizes = self.0.to_le_bytes();
        sizes.iter().take(in_flight as usize).map(|units| usize::from(*units)).sum()
    }

    pub(crate) fn is_full(&self, in_flight: u32) -> bool {
        in_flight >= 2 && self.units(in_flight) >= Self::FULL
    }

    /// Whether the consumer may have taken everything: consumers in other processes grant in
    /// halves.
    pub(crate) fn is_low(&self, in_flight: u32) -> bool {
        self.units(in_flight) * 2 < Self::FULL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_batches_of_any_size_are_in_flight_and_more_up_to_the_limit() {
        let mut flight = Flight::default();
        assert!(!flight.is_full(0) && flight.is_low(0));
        flight.add(usize::MAX);
        assert!(!flight.is_full(1) && !flight.is_low(1));
        flight.add(1);
        assert!(flight.is_full(2));
        // The large one was the first, and was granted again.
        assert!(!flight.is_full(1) && flight.is_low(1));
        for _ in 0..8 {
            flight.add(FLIGHT_BYTES / 8);
        }
        assert!(!flight.is_full(7) && flight.is_full(8));
        assert!(flight.is_low(3) && !flight.is_low(4));
        assert!(flight.is_full(1_000), "older ones are not counted");
    }
}
