//! The capabilities of a thread: which it has, and giving up all or most of them for good.

use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// Those that this thread has, or could switch on.
pub(crate) fn held() -> io::Result<CapabilitySet> {
    let sets = capabilities(None)?;
    Ok(sets.effective | sets.permitted)
}

/// Their names, as `capabilities(7)` has them.
pub(crate) fn names(set: CapabilitySet) -> Vec<String> {
    let names = set.iter_names();
    names.map(|(name, _)| format!("CAP_{name}")).collect()
}

/// Gives up all that this thread has. Nothing that it starts, a program that root owns neither, gets
/// any back.
pub(crate) fn give_up() -> io::Result<()> {
    keep(CapabilitySet::empty())
}

/// Gives up all that this thread has but `some`, likewise.
pub(crate) fn keep(some: CapabilitySet) -> io::Result<()> {
    set_no_new_privs(true)?;
    clear_ambient_capability_set()?;
    // Only who has CAP_SETPCAP may, and without new rights it adds nothing.
    for (_, capability) in CapabilitySet::all().difference(some).iter_names() {
        let _ = remove_capability_from_bounding_set(capability);
    }
    let kept = held()? & some;
    let kept = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    Ok(set_capabilities(None, kept)?)
}

/// What it takes to load eBPF programs.
pub(crate) const OF_LOADING: CapabilitySet = CapabilitySet::BPF.union(CapabilitySet::PERFMON);

/// Gives up these, which neither this thread nor any that it starts gets back. Programs that root starts may have them where
/// this thread may not forbid that, and none has given up new rights.
pub(crate) fn lose(these: CapabilitySet) -> io::Result<()> {
    for (_, capability) in these.iter_names() {
        let _ = remove_capability_from_bounding_set(capability);
    }
    let before = capabilities(None)?;
    let after = CapabilitySets {
        effective: before.effective - these,
        permitted: before.permitted - these,
        inheritable: before.inheritable - these,
    };
    // Of the ambient set goes what goes of the permitted one.
    Ok(set_capabilities(None, after)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_gave_them_up_has_none_and_others_keep_theirs() {
        let before = held().unwrap();
        let status = std::thread::spawn(|| {
            give_up().unwrap();
            assert!(held().unwrap().is_empty());
            std::fs::read_to_string("/proc/thread-self/status").unwrap()
        });
        let status = status.join().unwrap();
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            let line = format!("{set}:\t0000000000000000");
            assert!(status.lines().any(|it| it == line), "{set} in {status}");
        }
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
        assert_eq!(held().unwrap(), before);
    }

    #[test]
    fn they_have_the_names_that_people_know() {
        let some = CapabilitySet::NET_ADMIN | CapabilitySet::BPF;
        assert_eq!(names(some), ["CAP_NET_ADMIN", "CAP_BPF"]);
    }
}
