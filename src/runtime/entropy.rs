//! Randomness: the operating system's, or a seed's.

use std::sync::Arc;

use parking_lot::Mutex;

/// Source of random numbers. Clones share the stream.
#[derive(Clone, Debug)]
pub struct Entropy {
    seeded: Option<Arc<Mutex<u64>>>,
}

impl Entropy {
    /// The operating system's generator.
    #[must_use]
    pub const fn system() -> Self {
        Self { seeded: None }
    }

    /// A reproducible stream.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self { seeded: Some(Arc::new(Mutex::new(seed))) }
    }

    /// A random number.
    #[must_use]
    pub fn next_u64(&self) -> u64 {
        match &self.seeded {
            // Version 4 leaves 122 random bits; fold both halves so that the fixed bits do not show.
            None => {
                let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
                high.rotate_left(17) ^ low
            }
            Some(state) => splitmix(&mut state.lock()),
        }
    }

    /// A random number below `bound`; 0 when `bound` is 0.
    #[must_use]
    pub fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next_u64() % bound }
    }

    /// Fills `bytes`.
    pub fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let random = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
    }
}

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_stream_and_another_seed_another() {
        let draw = |seed| {
            let entropy = Entropy::seeded(seed);
            (0..8).map(|_| entropy.next_u64()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }
}
