//! Small things proved: over all there is where that is possible, else against a reference that is as
//! simple as can be. They are in `tests/`, a file for each crate; `taltun/docs/proofs.md` lists them with
//! those that crates have beside their own code, and `tests/list.rs` compares that list with the sources.

#[cfg(kani)]
mod kani;
