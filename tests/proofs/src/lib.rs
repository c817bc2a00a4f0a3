//! Small things proved: over all there is where that is possible, else against a reference that is as
//! simple as can be. They are in `tests/`, a file for each crate; `taltun/docs/proofs.md` lists them with
//! those that crates have beside their own code, and `tests/list.rs` compares that list with the sources.

/// The next number of a series that looks like chance, and is the same in each run (splitmix64).
pub fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}
