//! The source of the core's random bytes, which the caller passes in.
//!
//! Each ephemeral key and each index takes fresh bytes. In a virtual machine that is rolled back
//! or cloned, a generator that was seeded once would repeat itself. The operating system's
//! generator doesn't, because the hypervisor notifies the kernel.

use std::fmt;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// There are no random bytes now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct NoRandomness;

type Fill = dyn FnMut(&mut [u8]) -> Result<(), NoRandomness> + Send;

/// A source of random bytes.
pub struct Randomness(Box<Fill>);

impl Randomness {
    /// Calls `fill` for each key and index.
    pub fn new(fill: impl FnMut(&mut [u8]) -> Result<(), NoRandomness> + Send + 'static) -> Self {
        Self(Box::new(fill))
    }

    /// The same bytes each time, for tests and benches.
    pub fn seeded(seed: [u8; 32]) -> Self {
        let mut rng = ChaCha20Rng::from_seed(seed);
        Self::new(move |bytes| {
            rng.fill_bytes(bytes);
            Ok(())
        })
    }

    /// Fills `bytes`. After an error they must not be used.
    pub fn fill(&mut self, bytes: &mut [u8]) -> Result<(), NoRandomness> {
        (self.0)(bytes)
    }

    /// So many random bytes.
    pub fn bytes<const N: usize>(&mut self) -> Result<[u8; N], NoRandomness> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }
}

impl fmt::Debug for Randomness {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Randomness")
    }
}
