//! The scenarios, each in each order.

use taltun_interleavings::{counters, known_flows, requested, xsk};

#[test]
fn no_counter_is_given_out_twice_nor_beyond_the_limit() {
    counters::none_is_given_out_twice_nor_beyond_the_limit();
}

#[test]
fn nobody_sees_another_flows_state_as_its_own() {
    known_flows::nobody_sees_another_flows_state_as_its_own();
}

#[test]
fn two_flows_that_want_one_slot_both_find_one() {
    known_flows::two_that_want_one_slot_both_find_one();
}

#[test]
fn what_a_worker_asks_for_while_the_controller_looks_is_done_or_wakes_it() {
    requested::what_a_worker_asks_for_while_the_controller_looks_is_done_or_wakes_it();
}

#[test]
fn of_two_workers_that_ask_at_once_one_wakes_the_controller() {
    requested::of_two_workers_that_ask_at_once_one_wakes_the_controller();
}

#[test]
fn what_is_put_into_a_ring_comes_out_once_and_in_order() {
    xsk::what_is_put_in_comes_out_once_and_in_order();
}

#[test]
fn an_entry_in_a_ring_is_seen_or_the_kernel_is_woken() {
    xsk::an_entry_is_seen_or_the_kernel_is_woken();
}
