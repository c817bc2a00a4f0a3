//! Recipe A: services of the hub that can be reached through the tunnel, and by nobody else.
//!
//! ```text
//!  laptop 10.7.0.2 ═══ internet ═══ hub 10.7.0.1: ssh, a database
//!                        ║
//!                     outsider, who routes 10.7.0.1 to the hub
//! ```

use anyhow::{Result, ensure};

use super::internet::{HERE, HUB, THERE};
use super::{Deployment, Findings, answers, closed, sees};
use crate::traffic::service::Service;

const SSH: &str = "10.7.0.1:22";
const DATABASE: &str = "10.7.0.1:5432";

pub(super) fn build(lab: &mut Deployment) -> Result<()> {
    lab.add_machine("hub", HUB)?;
    lab.add_machine("laptop", HERE)?;
    lab.add_machine("outsider", THERE)?;
    lab.internet.ip("route add 10.7.0.0/24 via 203.0.113.1")?;
    lab.start_node("hub", "hub")?;
    lab.start_node("laptop", "laptop")
}

pub(super) fn check(lab: &mut Deployment, findings: &mut Findings<'_>) {
    findings.look("the laptop reaches the hub", || {
        answers(lab.namespace("laptop")?, "10.7.0.1")
    });
    findings.look("ssh and the database answer the laptop", || {
        let _services = services(lab)?;
        let laptop = lab.namespace("laptop")?;
        let ssh = sees(laptop, SSH, "10.7.0.2")?;
        Ok(format!("{ssh}, {}", sees(laptop, DATABASE, "10.7.0.2")?))
    });
    findings.look("they aren't on the hub's public address", || {
        let _services = services(lab)?;
        let outsider = lab.namespace("outsider")?;
        let ssh = closed(outsider, "203.0.113.1:22")?;
        Ok(format!("{ssh}, {}", closed(outsider, "203.0.113.1:5432")?))
    });
    findings.look(
        "an outsider who routes the vip to the hub gets no answer",
        || {
            let _services = services(lab)?;
            let outsider = lab.namespace("outsider")?;
            let ssh = closed(outsider, SSH)?;
            Ok(format!("{ssh}, {}", closed(outsider, DATABASE)?))
        },
    );
    findings.look("without protect_vip that outsider would get in", || {
        let text = lab.files.text("hub")?;
        let bare = text.replace("protect_vip = true", "protect_vip = false");
        ensure!(bare != text, "the hub's file has no protect_vip");
        lab.start_node_with("hub", &bare)?;
        let seen = {
            let _services = services(lab)?;
            sees(lab.namespace("outsider")?, SSH, "192.0.2.2")
        };
        lab.start_node("hub", "hub")?;
        seen
    });
}

/// Both services. Their sockets have to be closed before the hub's address can go.
fn services(lab: &Deployment) -> Result<[Service; 2]> {
    let hub = lab.namespace("hub")?;
    Ok([
        Service::start(hub, SSH.parse()?)?,
        Service::start(hub, DATABASE.parse()?)?,
    ])
}
