//! A hub and its spokes on a virtual clock: the model in `tests/model`, with all that it checks.

pub(crate) fn run(input: &[u8]) {
    taltun_model::run(input);
}
