//! The reader's end of a watch.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::ring::{self, Reader};
use super::seen::Observed;
use super::taps::{Shared, Taps, WATCHES, Wants, lock};

/// What somebody sees; dropping it ends that.
#[derive(Debug)]
pub struct Watch {
    taps: Arc<Taps>,
    shared: Arc<Shared>,
    rings: Vec<Reader>,
    scratch: Vec<u8>,
}

impl Watch {
    /// Begins; `None` where too many watch already.
    pub fn begin(taps: &Arc<Taps>, wants: Wants) -> Option<Self> {
        let mut watches = lock(&taps.watches);
        if watches.len() >= WATCHES {
            return None;
        }
        let (writer, reader) = ring::new(wants.room);
        let shared = Arc::new(Shared {
            wants,
            left_out: AtomicU64::new(0),
            readers: Mutex::new(vec![reader]),
            beside: Mutex::new(writer),
        });
        watches.push(Arc::clone(&shared));
        taps.changed(&watches);
        drop(watches);
        Some(Self {
            taps: Arc::clone(taps),
            shared,
            rings: Vec::new(),
            scratch: Vec::new(),
        })
    }

    /// Gives what has come to `each`, and not more than `most` of it: the oldest of all threads
    /// first. Returns how many there were.
    pub fn drain(&mut self, most: usize, each: &mut dyn FnMut(&Observed<'_>)) -> usize {
        self.rings.append(&mut lock(&self.shared.readers));
        let mut count = 0;
        while count < most {
            let waiting = self.rings.iter_mut().filter_map(|ring| {
                let at = ring.peek()?;
                Some((at, ring))
            });
            let Some((_, ring)) = waiting.min_by_key(|(at, _)| *at) else {
                break;
            };
            count += usize::from(ring.next(&mut self.scratch, each));
        }
        self.rings.retain(|ring| !ring.has_ended());
        count
    }

    /// How many there was no room for since this was last asked.
    pub fn take_left_out(&self) -> u64 {
        self.shared.left_out.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.taps.end(&self.shared);
    }
}
