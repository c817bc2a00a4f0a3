//! The eBPF programs, seen from user space: loads and attaches them, fills their maps and
//! reads their counters. Any failure here means "run without", never "don't run".
