//! Interfaces that come and go, and other people's programs on them.

use std::thread::sleep;
use std::time::Duration;

use aya::Ebpf;
use aya::programs::Xdp;
use aya::programs::xdp::XdpMode as Flag;
use libtest_mimic::Failed;
use taltun::accel::Shield;
use taltun::config::XdpMode;
use taltun::layer::Layer;
use taltun_common::drops::DropReason;

use super::lab::{Lab, ip, start, start_on};
use crate::frames::{handshake, message};

pub(super) fn leaves_others_programs_alone(lab: &Lab) -> Result<(), Failed> {
    let mut other = Ebpf::load(taltun::accel::OBJECT)?;
    let program = loaded_program(&mut other)?;
    program.attach("hub0", Flag::Skb)?;
    let id = program.info()?.id();
    for mode in [XdpMode::Auto, XdpMode::Driver, XdpMode::Generic] {
        let mut shield = start(mode, &[]);
        let status = shield.status();
        assert_eq!(status[0].mode.word(), "off");
        assert_eq!(
            status[0].reason,
            format!("another XDP program is attached: id {id} `taltun_xdp`")
        );
        assert!(shield.ban(Layer::Outer, "192.0.2.2/32".parse()?).is_err());
        drop(shield);
        assert!(ip(&["link", "show", "hub0"])?.contains(&format!("id {id}")));
    }
    lab.send(&message(9, 64, 0))?;
    assert_eq!(lab.received()?, 1);
    Ok(())
}

pub(super) fn takes_over_when_others_programs_leave(lab: &Lab) -> Result<(), Failed> {
    let mut other = Ebpf::load(taltun::accel::OBJECT)?;
    let program = loaded_program(&mut other)?;
    let link = program.attach("hub0", Flag::Skb)?;
    let mut shield = start(XdpMode::Auto, &[]);
    assert_eq!(shield.status()[0].mode.word(), "off");
    program.detach(link)?;
    // The kernel may take a moment to let go of it.
    for _ in 0..50 {
        shield.refresh();
        if shield.status()[0].mode.word() != "off" {
            break;
        }
        sleep(Duration::from_millis(20));
    }
    assert_eq!(
        shield.status()[0].mode.word(),
        "generic",
        "{:?}",
        shield.status()
    );
    lab.send(&message(9, 64, 0))?;
    assert_eq!(lab.received()?, 0);
    Ok(())
}

pub(super) fn attaches_to_interfaces_that_appear(lab: &Lab) -> Result<(), Failed> {
    let mut shield = start(XdpMode::Auto, &[]);
    let modes = |shield: &Shield| -> Vec<(String, String)> {
        let status = shield.status().into_iter();
        status
            .map(|status| (status.interface, status.mode.to_string()))
            .collect()
    };
    let pair = |name: &str, mode: &str| (name.to_owned(), mode.to_owned());
    assert_eq!(modes(&shield), [pair("hub0", "generic")]);

    ip(&[
        "link", "add", "late0", "type", "veth", "peer", "name", "late1",
    ])?;
    shield.refresh();
    assert_eq!(
        modes(&shield),
        [pair("hub0", "generic")],
        "it has no address"
    );
    ip(&["addr", "add", "198.51.100.1/24", "dev", "late0"])?;
    ip(&["link", "set", "late0", "up"])?;
    shield.refresh();
    assert_eq!(
        modes(&shield),
        [pair("hub0", "generic"), pair("late0", "generic")]
    );
    assert!(ip(&["link", "show", "late0"])?.contains("xdp"));

    ip(&["link", "del", "late0"])?;
    shield.refresh();
    assert_eq!(modes(&shield), [pair("hub0", "generic")]);
    lab.send(&message(9, 64, 0))?;
    lab.send(&handshake(1, 0))?;
    assert_eq!(lab.received()?, 1, "the first interface goes on");
    Ok(())
}

pub(super) fn waits_for_its_first_interface(lab: &Lab) -> Result<(), Failed> {
    ip(&["link", "set", "hub0", "down"])?;
    ip(&["link", "set", "hub0", "name", "parked0"])?;
    let mut shield = start_on(&["hub0"], XdpMode::Driver, &[]);
    let [status] = &shield.status()[..] else {
        return Err(format!("{:?}", shield.status()).into());
    };
    assert_eq!(status.reason, "there is no such interface");
    let stranger = "192.0.2.2/32".parse()?;
    let refusal = shield.ban(Layer::Outer, stranger);
    assert!(refusal.is_err(), "nothing enforces it yet");

    ip(&["link", "set", "parked0", "name", "hub0"])?;
    ip(&["link", "set", "hub0", "up"])?;
    shield.refresh();
    assert_eq!(
        shield.status()[0].mode.word(),
        "driver",
        "{:?}",
        shield.status()
    );
    // The wire takes a moment to come back.
    let arrived_until = |done: &dyn Fn(usize) -> bool| -> Result<usize, Failed> {
        let mut arrived = 0;
        for _ in 0..25 {
            lab.send(&handshake(1, 0))?;
            arrived += lab.received()?;
            if done(arrived) {
                return Ok(arrived);
            }
        }
        Err("the wire stays silent".into())
    };
    let denied = |_| shield.drops()[DropReason::Denied] > 0;
    assert_eq!(arrived_until(&denied)?, 0, "a ban from before is kept");
    shield.unban(Layer::Outer, stranger)?;
    arrived_until(&|arrived| arrived != 0)?;
    Ok(())
}

/// The program of somebody else's, ready to be attached.
fn loaded_program(other: &mut Ebpf) -> Result<&mut Xdp, Failed> {
    let program: &mut Xdp = other
        .program_mut("taltun_xdp")
        .ok_or("no program")?
        .try_into()?;
    program.load()?;
    Ok(program)
}
