//! The TC programs on the tunnel interface.
//!
//! By tcx, which runs beside other programs and whose links end with this process; or by a clsact
//! filter where the kernel has no tcx. A filter outlives its process, but goes with the tunnel
//! interface. On an interface that existed before, our old filters are found by name and removed
//! first.

use aya::Ebpf;
use aya::programs::links::LinkOrder;
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, qdisc_add_clsact, qdisc_detach_program,
};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};

use super::explain::explain;
use crate::report::{TcAttachment, TcStatus};

/// The programs, and which way of the packets each judges.
const PROGRAMS: [(&str, TcAttachType); 2] = [
    // What the kernel sends out of the interface goes into the tunnel.
    ("taltun_tun_out", TcAttachType::Egress),
    ("taltun_tun_in", TcAttachType::Ingress),
];

/// Both programs on the tunnel interface, until this is dropped.
pub(super) struct TunnelFilter {
    _links: Vec<SchedClassifierLink>,
}

/// Where in the kernel the programs are attached.
#[derive(Clone, Copy)]
enum TcHook {
    Tcx,
    Clsact,
}

/// Loads and attaches both, or says why not.
pub(super) fn attach(ebpf: &mut Ebpf, tun_name: &str) -> (TcStatus, Option<TunnelFilter>) {
    for (name, _) in PROGRAMS {
        if let Err(error) = program(ebpf, name).and_then(SchedClassifier::load) {
            return (
                off(format!("{name} can't be loaded: {}", explain(&error))),
                None,
            );
        }
    }
    let refusal = match attach_as(ebpf, tun_name, TcHook::Tcx) {
        Ok(filter) => return (on(TcAttachment::Tcx, "the kernel has it"), Some(filter)),
        Err(error) => format!("tcx refused: {}", explain(&error)),
    };
    match attach_as(ebpf, tun_name, TcHook::Clsact) {
        Ok(filter) => (on(TcAttachment::Clsact, &refusal), Some(filter)),
        Err(error) => {
            let reason = format!("{refusal}; clsact refused: {}", explain(&error));
            (off(reason), None)
        }
    }
}

/// What to say where no program is attached.
pub(super) fn off(reason: impl Into<String>) -> TcStatus {
    TcStatus {
        mode: TcAttachment::Off,
        reason: reason.into(),
    }
}

fn on(mode: TcAttachment, reason: &str) -> TcStatus {
    TcStatus {
        mode,
        reason: reason.into(),
    }
}

fn attach_as(ebpf: &mut Ebpf, tun_name: &str, hook: TcHook) -> Result<TunnelFilter, ProgramError> {
    if matches!(hook, TcHook::Clsact) {
        // It may be there; if it can't be there, attaching says so.
        if let Err(error) = qdisc_add_clsact(tun_name) {
            tracing::debug!(%error, "clsact");
        }
    }
    let mut links = Vec::new();
    for (name, direction) in PROGRAMS {
        let options = match hook {
            TcHook::Tcx => TcAttachOptions::TcxOrder(LinkOrder::default()),
            TcHook::Clsact => {
                if let Err(error) = qdisc_detach_program(tun_name, direction, name) {
                    tracing::debug!(%error, name, "nothing of ours is left there");
                }
                TcAttachOptions::Netlink(NlOptions::default())
            }
        };
        let program = program(ebpf, name)?;
        let id = program.attach_with_options(tun_name, direction, options)?;
        links.push(program.take_link(id)?);
    }
    Ok(TunnelFilter { _links: links })
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier, ProgramError> {
    ebpf.program_mut(name)
        .ok_or(ProgramError::UnexpectedProgramType)?
        .try_into()
}
