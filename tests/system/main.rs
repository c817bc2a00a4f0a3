//! Whole-system tests.

fn main() {}
