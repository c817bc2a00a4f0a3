//! The lab toolkit.
