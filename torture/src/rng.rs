//! SplitMix64 (Steele, Lea and Flood, 2014): small, and the same everywhere, so that a seed repeats a run.

#[derive(Debug, Clone)]
pub struct Rng(pub u64);

impl Rng {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.draw() % n.max(1) as u64) as usize
    }

    pub fn coin(&mut self) -> bool {
        self.draw() & 1 == 1
    }
}

/// One number from several: what a payload is made of.
pub(crate) fn mix(parts: &[u64]) -> u64 {
    parts.iter().fold(0, |seed, part| Rng(seed ^ part.wrapping_mul(0xd6e8_feb8_6659_fd93)).draw())
}
