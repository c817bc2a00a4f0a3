//! Lists of numbered things, each in one of them at most, linked by an array of their successors.

/// No number.
pub(crate) const NONE: u32 = u32::MAX;

/// The ends of a list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct List {
    head: u32,
    tail: u32,
}

/// Something that has a successor in its list.
pub(crate) trait Linked {
    fn next(&self) -> u32;
    fn set_next(&mut self, next: u32);
}

impl Default for List {
    fn default() -> Self {
        Self {
            head: NONE,
            tail: NONE,
        }
    }
}

impl List {
    /// The first one.
    pub(crate) fn head(self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }

    /// Adds one, which is in no list, at the end.
    pub(crate) fn push(&mut self, all: &mut [impl Linked], number: u32) {
        if let Some(it) = all.get_mut(number as usize) {
            it.set_next(NONE);
        }
        match all.get_mut(self.tail as usize) {
            Some(tail) if self.head != NONE => tail.set_next(number),
            _ => self.head = number,
        }
        self.tail = number;
    }

    /// Takes the first one.
    pub(crate) fn pop(&mut self, all: &[impl Linked]) -> Option<u32> {
        let head = self.head()?;
        self.head = all.get(head as usize).map_or(NONE, Linked::next);
        Some(head)
    }
}
