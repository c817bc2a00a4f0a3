//! Loaded programs and maps, by their names in the eBPF object.

use aya::Ebpf;
use aya::maps::{Map, MapError};
use aya::programs::{ProgramError, Xdp};

/// An XDP program.
pub(super) fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, ProgramError> {
    ebpf.program_mut(name)
        .ok_or(ProgramError::UnexpectedProgramType)?
        .try_into()
}

/// A map, which is the caller's from now on.
pub(super) fn map(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, MapError> {
    ebpf.take_map(name)
        .ok_or_else(|| MapError::InvalidName { name: name.into() })
}
