//! Attaching TC programs to an interface.
//!
//! By tcx, which runs beside other programs and whose links end with this process; or by a clsact
//! filter where the kernel has no tcx. A filter outlives its process, so our old filters are found
//! by name and removed first.

use aya::Ebpf;
use aya::programs::links::LinkOrder;
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, qdisc_add_clsact, qdisc_detach_program,
};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};

use super::explain::explain;
use crate::report::TcAttachment;

/// A program, and which way of the packets it sees.
pub(super) type Hooked = (&'static str, TcAttachType);

/// Programs on an interface, until this is dropped.
pub(super) struct Filter {
    _links: Vec<SchedClassifierLink>,
}

/// Where in the kernel programs are attached.
#[derive(Clone, Copy)]
enum Hook {
    Tcx,
    Clsact,
}

/// Loads the programs, or says why not.
pub(super) fn load(ebpf: &mut Ebpf, programs: &[Hooked]) -> Result<(), String> {
    for (name, _) in programs {
        program(ebpf, name)
            .and_then(SchedClassifier::load)
            .map_err(|error| format!("{name} can't be loaded: {}", explain(&error)))?;
    }
    Ok(())
}

/// Attaches programs, which are loaded, to an interface: how, and why so. The error is a sentence.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    interface: &str,
    programs: &[Hooked],
) -> Result<(TcAttachment, String, Filter), String> {
    let refusal = match attach_as(ebpf, interface, programs, Hook::Tcx) {
        Ok(filter) => return Ok((TcAttachment::Tcx, "the kernel has it".into(), filter)),
        Err(error) => format!("tcx refused: {}", explain(&error)),
    };
    match attach_as(ebpf, interface, programs, Hook::Clsact) {
        Ok(filter) => Ok((TcAttachment::Clsact, refusal, filter)),
        Err(error) => Err(format!("{refusal}; clsact refused: {}", explain(&error))),
    }
}

fn attach_as(
    ebpf: &mut Ebpf,
    interface: &str,
    programs: &[Hooked],
    hook: Hook,
) -> Result<Filter, ProgramError> {
    if matches!(hook, Hook::Clsact) {
        // It may be there; if it can't be there, attaching says so.
        if let Err(error) = qdisc_add_clsact(interface) {
            tracing::debug!(%error, "clsact");
        }
    }
    let mut links = Vec::new();
    for &(name, direction) in programs {
        let options = match hook {
            Hook::Tcx => TcAttachOptions::TcxOrder(LinkOrder::default()),
            Hook::Clsact => {
                if let Err(error) = qdisc_detach_program(interface, direction, name) {
                    tracing::debug!(%error, name, "nothing of ours is left there");
                }
                TcAttachOptions::Netlink(NlOptions::default())
            }
        };
        let program = program(ebpf, name)?;
        let id = program.attach_with_options(interface, direction, options)?;
        links.push(program.take_link(id)?);
    }
    Ok(Filter { _links: links })
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier, ProgramError> {
    ebpf.program_mut(name)
        .ok_or(ProgramError::UnexpectedProgramType)?
        .try_into()
}
