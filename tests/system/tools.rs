//! `wg` and `wg-quick` on interfaces that Taltun made, and Taltun in wireguard-go's place.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use taltun_tests::command::{finish_within, output_of};
use taltun_tests::lab::{PORT, Role};
use taltun_tests::netns::Namespace;
use taltun_tests::node::{Keys, RUNTIME_DIR, Site};
use taltun_tests::topology::{Pair, WIRE_A, private_prefix};

use crate::support::{Case, ensure_answers, eventually, taltun};
use crate::wireguard::{Program, Wg, WgKeys, WgPeer, at, preshared_key, socket};

/// How long something may take that happens at once, on an emulated machine as well.
const SOON: Duration = Duration::from_secs(20);

pub const CASES: &[Case] = &[
    Case {
        name: "interop: wg shows, sets, adds, syncs and tells the configuration of an interface made by name",
        programs: &["wg"],
        run: wg_verbs,
    },
    Case {
        name: "interop: keys are set and taken away, our own is no peer's, and a prefix has one owner",
        programs: &["wg"],
        run: keys_and_owners,
    },
    Case {
        name: "interop: wg works on an interface made from TOML, and status and reload stay right",
        programs: &["wg"],
        run: wg_on_toml,
    },
    Case {
        name: "interop: a running tunnel is exported, and wg makes the same of it",
        programs: &["wg", "wg-quick"],
        run: export_running,
    },
    Case {
        name: "interop: a fleet of 250 peers with 256 allowed IPs each is set and read back equal",
        programs: &["wg"],
        run: fleet,
    },
    Case {
        name: "interop: 130,000 allowed IPs are told in one answer",
        programs: &["wg"],
        run: many_allowed_ips,
    },
    Case {
        name: "interop: wg-quick brings an ordinary file up and down",
        programs: &["wg-quick", "nft"],
        run: wg_quick,
    },
    Case {
        name: "interop: a second process for an interface is told who holds it",
        programs: &["wg"],
        run: second_process,
    },
    Case {
        name: "interop: deleting the interface ends the process and leaves nothing",
        programs: &["wg"],
        run: || goes_with(true),
    },
    Case {
        name: "interop: removing the socket ends the process and leaves nothing",
        programs: &["wg"],
        run: || goes_with(false),
    },
    Case {
        name: "interop: the interface moves to another namespace while the sockets stay, and its MTU changes there",
        programs: &["wg"],
        run: moves_away,
    },
];

fn wg_verbs() -> Result<()> {
    let namespace = Namespace::create(&private_prefix())?;
    let wg = Wg::start(Program::Taltun, &namespace)?;
    let (keys, a, b) = (
        WgKeys::generate()?,
        WgKeys::generate()?,
        WgKeys::generate()?,
    );
    let secret = preshared_key()?;
    ensure!(wg.wg("show", &["private-key"])?.contains("(none)"));
    wg.configure(
        &keys,
        5000,
        &[WgPeer {
            public_key: a.public.clone(),
            preshared_key: Some(secret.clone()),
            endpoint: Some("192.0.2.1:7".to_owned()),
            allowed_ips: "10.0.0.2/32, fd00::2/128, 10.7.0.0/16".to_owned(),
            keepalive: Some(25),
        }],
    )?;
    ensure!(wg.wg("show", &["public-key"])?.trim() == keys.public);
    wg.wg("show", &[])?;
    let dump = wg.wg("show", &["dump"])?;
    ensure!(dump.starts_with(&format!("{}\t{}\t5000\toff\n", keys.private, keys.public)));
    let peer = wg.peer()?;
    ensure!(peer[0] == a.public && peer[1] == secret && peer[2] == "192.0.2.1:7");
    ensure!(
        peer[3] == "10.0.0.2/32,10.7.0.0/16,fd00::2/128",
        "{}",
        peer[3]
    );
    ensure!(peer[7] == "25", "{peer:?}");

    // What showconf tells, setconf understands, and it comes out the same.
    let told = wg.wg("showconf", &[])?;
    wg.setconf(&told)?;
    ensure!(wg.wg("showconf", &[])? == told);

    // A peer more by addconf, one less by syncconf, one changed by set.
    let second = format!(
        "[Peer]\nPublicKey = {}\nAllowedIPs = 10.0.0.3/32\n",
        b.public
    );
    let file = wg.directory().join("add.conf");
    std::fs::write(&file, &second)?;
    let path = file.to_str().context("an odd path")?;
    wg.wg("addconf", &[path])?;
    ensure!(wg.wg("show", &["peers"])?.lines().count() == 2);
    std::fs::write(
        &file,
        format!(
            "[Interface]\nPrivateKey = {}\nListenPort = 5000\n{second}",
            keys.private
        ),
    )?;
    wg.wg("syncconf", &[path])?;
    ensure!(wg.wg("show", &["peers"])?.trim() == b.public);
    wg.wg(
        "set",
        &[
            "fwmark",
            "0xca6c",
            "peer",
            &b.public,
            "persistent-keepalive",
            "7",
            "allowed-ips",
            "10.0.0.4/32",
        ],
    )?;
    ensure!(wg.wg("show", &["fwmark"])?.trim() == "0xca6c");
    let peer = wg.peer()?;
    ensure!(peer[3] == "10.0.0.4/32" && peer[7] == "7", "{peer:?}");

    Ok(())
}

fn keys_and_owners() -> Result<()> {
    let namespace = Namespace::create(&private_prefix())?;
    let wg = Wg::start(Program::Taltun, &namespace)?;
    let (keys, a, b) = (
        WgKeys::generate()?,
        WgKeys::generate()?,
        WgKeys::generate()?,
    );
    let secret = preshared_key()?;
    wg.wg("set", &["peer", &b.public, "allowed-ips", "10.0.0.4/32"])?;

    // Keys are taken away by an empty file, and clamped as the kernel does.
    wg.set_with_secret(&["peer", &b.public, "preshared-key", "FILE"], &secret)?;
    ensure!(wg.peer()?[1] == secret);
    wg.wg(
        "set",
        &[
            "private-key",
            "/dev/null",
            "peer",
            &b.public,
            "preshared-key",
            "/dev/null",
        ],
    )?;
    ensure!(wg.peer()?[1] == "(none)");
    ensure!(wg.wg("show", &["public-key"])?.trim() == "(none)");
    let unclamped = format!("{}8=", "/".repeat(42));
    wg.set_with_secret(&["private-key", "FILE"], &unclamped)?;
    ensure!(wg.wg("show", &["private-key"])?.starts_with('+'));

    // Our own key as a peer: it isn't added, and a peer that has it goes when we get it.
    wg.set_with_secret(&["private-key", "FILE"], &keys.private)?;
    wg.wg("set", &["peer", &keys.public, "allowed-ips", "10.0.0.9/32"])?;
    ensure!(wg.wg("show", &["peers"])?.trim() == b.public);
    wg.set_with_secret(&["private-key", "FILE"], &b.private)?;
    ensure!(wg.wg("show", &["peers"])?.is_empty());

    // A prefix belongs to whoever was given it last.
    wg.wg(
        "set",
        &["peer", &a.public, "allowed-ips", "10.1.0.0/16,10.2.0.0/16"],
    )?;
    wg.wg("set", &["peer", &keys.public, "allowed-ips", "10.2.0.0/16"])?;
    let owners = wg.wg("show", &["allowed-ips"])?;
    ensure!(
        owners.contains(&format!("{}\t10.1.0.0/16\n", a.public)),
        "{owners}"
    );
    ensure!(
        owners.contains(&format!("{}\t10.2.0.0/16\n", keys.public)),
        "{owners}"
    );
    wg.wg("set", &["peer", &a.public, "remove"])?;
    ensure!(wg.wg("show", &["peers"])?.trim() == keys.public);
    let nobody = Command::new("wg").args(["show", "doesnotexist"]).output()?;
    ensure!(!nobody.status.success());
    Ok(())
}

fn wg_on_toml() -> Result<()> {
    let taltun = taltun()?;
    let namespace = Namespace::create(&private_prefix())?;
    let (own, peer) = (Keys::generate(&taltun)?, Keys::generate(&taltun)?);
    let stranger = WgKeys::generate()?;
    let name = format!("tt{}t", std::process::id());
    let config = format!(
        "[interface]\nmode = \"server\"\ntun_name = \"{name}\"\nvip = \"10.0.0.1/24\"\nprivate_key = \"{}\"\n\n[[peers]]\nname = \"office\"\npublic_key = \"{}\"\nvip = \"10.0.0.2\"\nallowed_ips = [\"10.3.0.0/16\"]\n",
        own.private, peer.public
    );
    let site = Site::prepare(&namespace, &taltun, &config)?;
    let mut process = site
        .run_command(&namespace, &[])
        .env("TALTUN_UAPI_DIR", "/var/run/wireguard")
        .stderr(Stdio::null())
        .spawn()?;
    let ask = |words: &[&str]| {
        output_of(
            Command::new(&taltun)
                .args(words)
                .env(RUNTIME_DIR, site.directory()),
        )
    };
    let wg = |words: &[&str]| {
        let answer = output_of(Command::new("wg").args(words));
        println!(
            "$ wg {}\n{}",
            words.join(" "),
            answer.as_deref().unwrap_or("failed")
        );
        answer
    };
    let checks = || -> Result<()> {
        eventually("taltun answers", SOON, || Ok(ask(&["status"]).is_ok()))?;
        let dump = wg(&["show", &name, "dump"])?;
        ensure!(
            dump.contains(&format!(
                "{}\t(none)\t(none)\t10.0.0.2/32,10.3.0.0/16\t0\t0\t0\toff",
                peer.public
            )),
            "{dump}"
        );
        // A prefix goes from the file's peer to a stranger, and another port is listened on.
        wg(&[
            "set",
            &name,
            "listen-port",
            "9777",
            "peer",
            &stranger.public,
            "allowed-ips",
            "10.3.0.0/16",
        ])?;
        let status = ask(&["status", "--long"])?;
        ensure!(status.contains("[::]:9777"), "{status}");
        ensure!(
            status.contains("peer: office") && status.contains("allowed ips:      10.0.0.2/32\n"),
            "{status}"
        );
        ensure!(status.contains(&stranger.public), "{status}");
        let exported = ask(&["export", &name])?;
        ensure!(
            exported.contains("# taltun: name = \"office\"\n")
                && exported.contains("Address = 10.0.0.1/24\nListenPort = 9777\n")
                && exported.contains(&own.private)
                && exported.contains(&stranger.public),
            "{exported}"
        );
        // And all is as the file says again.
        println!("{}", ask(&["reload"])?);
        let status = ask(&["status", "--long"])?;
        ensure!(status.contains("[::]:9000"), "{status}");
        ensure!(status.contains("10.0.0.2/32, 10.3.0.0/16"), "{status}");
        ensure!(!status.contains(&stranger.public), "{status}");
        Ok(())
    };
    let outcome = checks();
    process.kill()?;
    process.wait()?;
    let _ = std::fs::remove_file(socket(&name));
    outcome
}

fn export_running() -> Result<()> {
    let namespace = Namespace::create(&private_prefix())?;
    let (one, two) = (
        Wg::start(Program::Taltun, &namespace)?,
        Wg::start(Program::Taltun, &namespace)?,
    );
    let peers = [
        WgPeer {
            public_key: WgKeys::generate()?.public,
            preshared_key: Some(preshared_key()?),
            endpoint: Some("192.0.2.1:7".to_owned()),
            allowed_ips: "10.0.0.2/32, fd00::2/128, 10.7.0.0/16".to_owned(),
            keepalive: Some(25),
        },
        WgPeer {
            public_key: WgKeys::generate()?.public,
            ..WgPeer::default()
        },
    ];
    one.configure(&WgKeys::generate()?, 5000, &peers)?;
    one.wg("set", &["fwmark", "0xca6c"])?;
    let export = |words: &[&str], directory: &std::path::Path| {
        let mut command = Command::new(taltun()?);
        command.arg("export").args(words);
        Ok::<_, anyhow::Error>(command.env(RUNTIME_DIR, directory).output()?)
    };
    let exported = export(&[one.interface()], one.directory())?;
    ensure!(exported.status.success(), "{exported:?}");
    // wg-quick reads it, and wg what is for wg in it.
    let file = two.directory().join(format!("{}.conf", two.interface()));
    std::fs::write(&file, &exported.stdout)?;
    let stripped = output_of(Command::new("wg-quick").arg("strip").arg(&file))?;
    let told = one.wg("showconf", &[])?;
    one.wg("set", &["listen-port", "5001"])?;
    two.setconf(&stripped)?;
    ensure!(two.wg("showconf", &[])? == told, "it isn't the same");

    let refusals: [(&[&str], i32, &str); 3] = [
        (&["doesnotexist"], 1, "no tunnel doesnotexist is running"),
        (
            &["--config", "a.toml", one.interface()],
            2,
            "cannot be used with",
        ),
        (&["no/name"], 2, "expected an interface name"),
    ];
    for (words, code, expected) in refusals {
        let refused = export(words, one.directory())?;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        ensure!(
            refused.status.code() == Some(code),
            "{words:?}: {refused:?}"
        );
        ensure!(said.contains(expected), "{words:?}: {said}");
    }
    Ok(())
}

fn fleet() -> Result<()> {
    let namespace = Namespace::create(&private_prefix())?;
    let wg = Wg::start(Program::Taltun, &namespace)?;
    let mut text = format!(
        "[Interface]\nPrivateKey = {}\n",
        WgKeys::generate()?.private
    );
    let mut fleet = BTreeMap::new();
    for peer in 0..250 {
        let key = WgKeys::generate()?.public;
        let mut nets: Vec<String> = (0..256).map(|n| format!("10.{peer}.{n}.0/24")).collect();
        let _ = writeln!(
            text,
            "[Peer]\nPublicKey = {key}\nAllowedIPs = {}",
            nets.join(", ")
        );
        nets.sort();
        fleet.insert(key, nets);
    }
    let before = wg.cpu_ticks()?;
    wg.setconf(&text)?;
    let told = output_of(Command::new("wg").args(["show", wg.interface(), "allowed-ips"]))?;
    // Set on top of itself, nothing is different.
    wg.setconf(&text)?;
    let again = output_of(Command::new("wg").args(["show", wg.interface(), "allowed-ips"]))?;
    let ticks = wg.cpu_ticks()? - before;
    for told in [told, again] {
        let read: BTreeMap<String, Vec<String>> = told
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .map(|(key, nets)| {
                let mut nets: Vec<String> = nets.split(' ').map(str::to_owned).collect();
                nets.sort();
                (key.to_owned(), nets)
            })
            .collect();
        ensure!(read == fleet, "{} peers read back differ", read.len());
    }
    println!("twice 64,000 allowed IPs set and read: {ticks} ticks of 10 ms CPU time");
    ensure!(ticks < 400, "{ticks} ticks of CPU time for doing it twice");
    Ok(())
}

fn many_allowed_ips() -> Result<()> {
    let namespace = Namespace::create(&private_prefix())?;
    let wg = Wg::start(Program::Taltun, &namespace)?;
    let nets: Vec<String> = (0..130_000)
        .map(|n| format!("10.{}.{}.{}/32", n / 65_536, n / 256 % 256, n % 256))
        .collect();
    wg.setconf(&format!(
        "[Interface]\nPrivateKey = {}\n[Peer]\nPublicKey = {}\nAllowedIPs = {}\n",
        WgKeys::generate()?.private,
        WgKeys::generate()?.public,
        nets.join(",")
    ))?;
    let told = output_of(Command::new("wg").args(["show", wg.interface(), "allowed-ips"]))?;
    let count = told.split_whitespace().count() - 1;
    ensure!(count == nets.len(), "{count} were told");
    Ok(())
}

fn wg_quick() -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    let (ours, theirs) = (WgKeys::generate()?, WgKeys::generate()?);
    let far = Wg::start(Program::Taltun, &pair.right)?;
    far.configure(
        &theirs,
        PORT,
        &[WgPeer {
            public_key: ours.public.clone(),
            allowed_ips: "10.200.0.1/32, fd00:200::1/128".to_owned(),
            ..WgPeer::default()
        }],
    )?;
    far.bring_up(&["10.200.0.2/24", "fd00:200::2/64"])?;
    let name = format!("tt{}q", std::process::id());
    let file = far.directory().join(format!("{name}.conf"));
    // Everything goes through the tunnel: wg-quick's rules and our mark keep our own
    // datagrams out of it.
    std::fs::write(
        &file,
        format!(
            "[Interface]\nPrivateKey = {}\nAddress = 10.200.0.1/24, fd00:200::1/64\nMTU = 1380\n\n[Peer]\nPublicKey = {}\nAllowedIPs = 0.0.0.0/0, ::/0\nEndpoint = {}\n",
            ours.private,
            theirs.public,
            at(WIRE_A.far_v4(), PORT)
        ),
    )?;
    let quick = |verb: &str| -> Result<()> {
        let mut command = pair.left.command("wg-quick");
        command
            .arg(verb)
            .arg(&file)
            .env("WG_QUICK_USERSPACE_IMPLEMENTATION", taltun()?)
            .env("TALTUN_UAPI_DIR", "/var/run/wireguard")
            .env(RUNTIME_DIR, far.directory());
        let output = finish_within(&mut command, Duration::from_secs(20))?;
        println!(
            "$ wg-quick {verb} {name}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        ensure!(output.status.success(), "wg-quick {verb} failed");
        Ok(())
    };
    quick("up")?;
    let reached = ensure_answers(&pair.left, Role::A.v4()).and_then(|()| {
        // Over the tunnel, although there is a wire to it.
        ensure_answers(&pair.left, Role::A.v6())
    });
    quick("down")?;
    reached?;
    ensure!(
        pair.left
            .ip("link show")
            .is_ok_and(|links| !links.contains(&name))
    );
    eventually("its socket is gone", SOON, || Ok(!socket(&name).exists()))?;
    // And once more: nothing is in the way.
    quick("up")?;
    quick("down")
}

fn second_process() -> Result<()> {
    let namespace = Namespace::create(&private_prefix())?;
    let first = Wg::start(Program::Taltun, &namespace)?;
    let mut second = namespace.command(taltun()?);
    second
        .arg(first.interface())
        .env("TALTUN_UAPI_DIR", "/var/run/wireguard")
        .env(RUNTIME_DIR, first.directory());
    let output = finish_within(&mut second, Duration::from_secs(10))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    print!("{said}");
    ensure!(!output.status.success(), "it started");
    ensure!(said.lines().count() == 1, "{said}");
    ensure!(said.contains(", pid "), "{said}");
    first.wg("show", &[])?;
    Ok(())
}

fn goes_with(interface: bool) -> Result<()> {
    let namespace = Namespace::create(&private_prefix())?;
    let mut wg = Wg::start(Program::Taltun, &namespace)?;
    let name = wg.interface().to_owned();
    if interface {
        wg.ip(&format!("link delete {name}"))?;
    } else {
        std::fs::remove_file(socket(&name))?;
    }
    wg.ends_by_itself(SOON)?;
    ensure!(!socket(&name).exists(), "its socket is left");
    ensure!(
        !namespace.ip("link show")?.contains(&name),
        "its interface is left"
    );
    Ok(())
}

fn moves_away() -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    let inner = Namespace::create(&format!("{}-inner", private_prefix()))?;
    let (ours, theirs) = (WgKeys::generate()?, WgKeys::generate()?);
    let (near, far) = (
        Wg::start(Program::Taltun, &pair.left)?,
        Wg::start(Program::Taltun, &pair.right)?,
    );
    let peer = |keys: &WgKeys, number: u8, endpoint| WgPeer {
        public_key: keys.public.clone(),
        allowed_ips: format!("10.200.0.{number}/32, fd00:200::{number}/128"),
        endpoint,
        ..WgPeer::default()
    };
    near.configure(
        &ours,
        PORT,
        &[peer(&theirs, 2, Some(at(WIRE_A.far_v4(), PORT)))],
    )?;
    far.configure(&theirs, PORT, &[peer(&ours, 1, None)])?;
    far.bring_up(&["10.200.0.2/24", "fd00:200::2/64"])?;
    let name = near.interface();
    near.ip(&format!("link set {name} netns {}", inner.name()))?;
    inner.ip(&format!("addr add 10.200.0.1/24 dev {name}"))?;
    inner.ip(&format!("addr add fd00:200::1/64 dev {name} nodad"))?;
    inner.ip(&format!("link set {name} mtu 1300 up"))?;
    ensure_answers(&inner, Role::A.v4())?;
    ensure_answers(&inner, Role::A.v6())?;
    for mtu in ["1300", "65000", "1420"] {
        inner.ip(&format!("link set {name} mtu {mtu}"))?;
        eventually("the new MTU is known", SOON, || {
            let status = output_of(
                Command::new(taltun()?)
                    .args(["status", name, "--long"])
                    .env(RUNTIME_DIR, near.directory()),
            )?;
            Ok(status.contains(&format!("mtu:              {mtu}\n")))
        })?;
        let mut ping = inner.command("ping");
        // As large as the far side's MTU lets through unfragmented, and far larger.
        for size in ["1272", "20000"] {
            let output = ping
                .args(["-c", "1", "-W", "5", "-s", size, "10.200.0.2"])
                .output()?;
            ensure!(
                output.status.success(),
                "no answer to {size} bytes at MTU {mtu}"
            );
            ping = inner.command("ping");
        }
    }
    // Another port, still in the first namespace.
    near.wg("set", &["listen-port", "9123"])?;
    ensure_answers(&inner, Role::A.v4())?;
    ensure!(far.endpoint()? == at(WIRE_A.near_v4(), 9123));
    Ok(())
}
