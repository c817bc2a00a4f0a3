//! `[web]`, checked against the rest: the page has no encryption of its own, so that it is for those
//! in the tunnel and for this machine.

use std::net::SocketAddr;

use super::draft::{Draft, WebDraft, Written};
use super::error::ConfigError;
use super::places::{overlap, refuse_twice};
use super::{ListenAt, Metrics, Udpgw, Web};

/// The section, if there is one.
pub(super) fn finish(
    draft: &mut Draft,
    gateway: Option<&Udpgw>,
    metrics: Option<&Metrics>,
    warnings: &mut Vec<String>,
) -> Result<Option<Web>, ConfigError> {
    let Some(WebDraft { listen, mut rest }) = draft.web.take() else {
        return Ok(None);
    };
    let of_gateway = || gateway.into_iter().flat_map(|it| it.listen.iter().copied());
    let of_metrics = || metrics.into_iter().flat_map(|it| &it.listen);
    for Written { value, spot } in listen {
        refuse_twice(value, &spot, "[udpgw]", overlap, of_gateway())?;
        let others = of_metrics().filter_map(ListenAt::address);
        refuse_twice(value, &spot, "[metrics]", overlap, others)?;
        let before = rest.listen.iter().copied();
        refuse_twice(value, &spot, "[web]", overlap, before)?;
        let is_guarded = is_guarded(value, draft);
        if !is_guarded && !rest.force {
            return Err(spot.error(format!(
                "{value} is neither 127.0.0.1 nor our vip: tokens would cross a network in the \
                 clear; listen there, or add force = true where something else guards the way"
            )));
        }
        if !is_guarded {
            warnings.push(spot.say(format!(
                "all who reach {value} can try to log in, and who sees the traffic sees tokens: \
                 HTTP isn't encrypted; listen on our vip or on 127.0.0.1"
            )));
        }
        rest.listen.push(value);
    }
    Ok(Some(rest))
}

/// Whether the tunnel or this machine is all that it can be reached by.
fn is_guarded(address: SocketAddr, draft: &Draft) -> bool {
    let ip = address.ip().to_canonical();
    ip.is_loopback() || draft.vip.iter().any(|vip| vip.value.addr() == ip)
}
