//! `taltun capture`: what it writes, opened by tshark, is what went through the hub.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use taltun_tests::command::{finish_within, output_of, wait_for};
use taltun_tests::lab::{Lab, Options, PORT, Role};
use taltun_tests::node::Node;
use taltun_tests::sys::{Signal, send_signal};
use taltun_tests::traffic::ping::Pinger;
use taltun_tests::traffic::stream::Stream;

use crate::support::{ANSWER_LIMIT, Case, ensure_answers, lab, take_down};

pub const CASES: &[Case] = &[
    Case {
        name: "capture: one relayed ping is four messages outside and two packets inside",
        programs: &["tshark"],
        run: one_relayed_ping,
    },
    Case {
        name: "capture: a handshake and what a rule drops are there with their peer and reason",
        programs: &["tshark"],
        run: handshakes_and_drops,
    },
    Case {
        name: "capture: a peer, a side and a filter choose, each file is the owner's, and limits end it",
        programs: &["tshark", "tcpdump"],
        run: what_is_chosen,
    },
    Case {
        name: "capture: what can't be is said before anything is written",
        programs: &["tcpdump", "script"],
        run: mistakes,
    },
    Case {
        name: "capture: of a row of files the last ones are kept, each whole",
        programs: &["tshark"],
        run: row_of_files,
    },
    Case {
        name: "capture: a disk that fills ends it with whole packets and a reason",
        programs: &["tshark", "unshare"],
        run: full_disk,
    },
    Case {
        name: "capture: it ends with the tunnel, and says so",
        programs: &["tshark"],
        run: ends_with_the_tunnel,
    },
];

/// Those that move much.
pub const ALONE: &[Case] = &[Case {
    name: "capture: a reader that stops reading loses packets, and nobody else does",
    programs: &["tshark"],
    run: stopped_reader,
}];

/// How long a command may take to end.
const END_LIMIT: Duration = Duration::from_secs(15);

/// A capture that runs.
struct Running {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Running {
    /// Starts `taltun capture` with these words on the hub and waits until it captures.
    fn start(hub: &Node, words: &[&str]) -> Result<Self> {
        Self::spawn(hub.command().arg("capture").args(words))
    }

    fn spawn(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().context("no standard error")?;
        let mut running = Self {
            child,
            stderr: BufReader::new(stderr),
        };
        let mut line = String::new();
        running.stderr.read_line(&mut line)?;
        ensure!(line.contains("on taltun0; Ctrl-C"), "{line}");
        Ok(running)
    }

    fn stdout(&mut self) -> Result<ChildStdout> {
        self.child.stdout.take().context("standard output is taken")
    }

    /// Ends it as Ctrl-C does; what it says then.
    fn end(self) -> Result<String> {
        send_signal(self.child.id(), Signal::Interrupt)?;
        self.ended(0)
    }

    /// Waits for its end with this exit code; what it says then.
    fn ended(mut self, code: i32) -> Result<String> {
        let status = wait_for(&mut self.child, END_LIMIT)?.context("it doesn't end")?;
        let mut said = String::new();
        self.stderr.read_to_string(&mut said)?;
        ensure!(status.code() == Some(code), "{status}: {said}");
        Ok(said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail when it has ended, which is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A packet as tshark reads it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    interface: String,
    source: String,
    destination: String,
    icmp: String,
    wireguard: String,
    receiver: String,
    length: usize,
    captured: usize,
    comment: String,
}

/// What tshark reads of a packet, in the order of [`Packet`].
const FIELDS: [&str; 13] = [
    "frame.interface_name",
    "ip.src",
    "ip.dst",
    "ipv6.src",
    "ipv6.dst",
    "icmp.type",
    "icmpv6.type",
    "wg.type",
    "wg.receiver",
    "frame.len",
    "frame.cap_len",
    "frame.comment",
    "udp.checksum.status",
];

/// Has tshark read a file; each checksum that it finds has to be right. tcpdump can read it, too.
fn read(file: &Path) -> Result<Vec<Packet>> {
    output_of(Command::new("tcpdump").args(["-n", "-r"]).arg(file))?;
    let mut tshark = Command::new("tshark");
    tshark.args(["-n", "-o", "ip.check_checksum:TRUE"]);
    tshark.args(["-o", "udp.check_checksum:TRUE"]);
    tshark.args(["-d", &format!("udp.port=={PORT},wg")]);
    tshark.args(["-T", "fields", "-E", "separator=|", "-E", "occurrence=f"]);
    for field in FIELDS {
        tshark.args(["-e", field]);
    }
    let read = output_of(tshark.arg("-r").arg(file))?;
    let packet = |line: &str| {
        let fields: Vec<&str> = line.split('|').collect();
        let [
            interface,
            source,
            destination,
            source_v6,
            destination_v6,
            icmp,
            icmp_v6,
            wireguard,
            receiver,
            length,
            captured,
            comment,
            udp_checksum,
        ] = fields[..]
        else {
            anyhow::bail!("tshark has other fields: {line}");
        };
        let is_whole = length == captured;
        if !wireguard.is_empty() && is_whole {
            ensure!(udp_checksum == "1", "a wrong UDP checksum: {line}");
        }
        Ok(Packet {
            interface: interface.to_owned(),
            source: [source, source_v6].concat(),
            destination: [destination, destination_v6].concat(),
            icmp: [icmp, icmp_v6].concat(),
            wireguard: wireguard.to_owned(),
            receiver: receiver.to_owned(),
            length: length.parse()?,
            captured: captured.parse()?,
            comment: comment.to_owned(),
        })
    };
    read.lines().map(packet).collect()
}

/// A datagram of an empty message: headers and 32 bytes.
const KEEPALIVE: usize = 20 + 8 + 32;

fn connected() -> Result<Lab> {
    connected_with("")
}

fn connected_with(more: &'static str) -> Result<Lab> {
    let lab = lab(Options {
        more,
        ..Options::default()
    })?;
    ensure_answers(&lab.net.a, Role::B.v4())?;
    ensure_answers(&lab.net.b, Role::Hub.v4())?;
    Ok(lab)
}

fn in_lab(lab: &Lab, name: &str) -> (PathBuf, String) {
    let path = lab.hub.directory().join(name);
    let text = path.display().to_string();
    (path, text)
}

fn one_relayed_ping() -> Result<()> {
    let lab = connected()?;
    let (path, name) = in_lab(&lab, "ping.pcapng");
    let capture = Running::start(&lab.hub, &["-w", &name])?;
    // Another one at once, of one peer.
    let (other_path, other_name) = in_lab(&lab, "other.pcapng");
    let other = Running::start(&lab.hub, &["--relayed", "-w", &other_name, "b"])?;
    let answers = Pinger::new(&lab.net.a, Role::B.v4())?.count_answers(1, ANSWER_LIMIT)?;
    ensure!(answers == 1, "no answer");
    for running in [capture, other] {
        let said = running.end()?;
        ensure!(!said.contains("lost"), "{said}");
    }

    let packets = read(&path)?;
    let (a, b) = (Role::A.v4().to_string(), Role::B.v4().to_string());
    let inside = |packet: &&Packet| packet.interface != "taltun0 outer";
    let mut inner: Vec<_> = packets.iter().filter(inside).collect();
    inner.sort_by_key(|packet| packet.icmp != "8");
    let [request, reply] = inner[..] else {
        anyhow::bail!("inside are {inner:?}");
    };
    for (packet, from, to, comment) in [
        (request, &a, &b, "a to b: passed"),
        (reply, &b, &a, "b to a: passed"),
    ] {
        ensure!(packet.interface == "taltun0 relayed", "{packet:?}");
        ensure!(
            packet.source == *from && packet.destination == *to,
            "{packet:?}"
        );
        ensure!(packet.comment == comment, "{packet:?}");
    }
    ensure!(
        (&request.icmp[..], &reply.icmp[..]) == ("8", "0"),
        "{inner:?}"
    );

    let messages: Vec<_> = packets
        .iter()
        .filter(|packet| packet.interface == "taltun0 outer" && packet.length > KEEPALIVE)
        .collect();
    let mut ways: Vec<_> = messages
        .iter()
        .map(|it| (&it.source[..], &it.destination[..], &it.comment[..]))
        .collect();
    ways.sort_unstable();
    ensure!(
        ways == [
            ("10.99.1.1", "10.99.1.2", "this host to a: passed"),
            ("10.99.1.2", "10.99.1.1", "a to this host: passed"),
            ("10.99.2.1", "10.99.2.2", "this host to b: passed"),
            ("10.99.2.2", "10.99.2.1", "b to this host: passed"),
        ],
        "outside are {messages:#?}"
    );
    ensure!(
        messages.iter().all(|it| it.wireguard == "4"),
        "{messages:?}"
    );
    let mut receivers: Vec<_> = messages.iter().map(|it| &it.receiver).collect();
    receivers.sort();
    receivers.dedup();
    ensure!(receivers.len() == 4, "{messages:?}");

    // Both see the same packets.
    ensure!(read(&other_path)? == inner.into_iter().cloned().collect::<Vec<_>>());
    take_down(lab)
}

/// What a may not do.
const NO_HUB_PINGS: &str = "[[rules]]\nfrom = \"a\"\nto = \"hub\"\ndeny = \"icmp\"\n";

fn handshakes_and_drops() -> Result<()> {
    let mut lab = connected()?;
    let file = fs::read_to_string(lab.hub.config())?;
    fs::write(lab.hub.config(), format!("{file}{NO_HUB_PINGS}"))?;
    lab.hub.tell(&["reload"])?;
    let (path, name) = in_lab(&lab, "a.pcapng");
    let capture = Running::start(&lab.hub, &["-w", &name, "a"])?;
    // A new process has no session.
    lab.a.end(Signal::Terminate)?;
    lab.a.start_again(&lab.net.a)?;
    ensure_answers(&lab.net.a, Role::B.v4())?;
    let answers = Pinger::new(&lab.net.a, Role::Hub.v4())?;
    let answers = { answers }.count_answers(2, Duration::from_millis(300))?;
    ensure!(answers == 0, "the rule is without effect");
    capture.end()?;

    let packets = read(&path)?;
    let outer = |kind: &str, comment: &str| {
        let is_it = |it: &&Packet| it.wireguard == kind && it.comment == comment;
        packets.iter().filter(is_it).count()
    };
    ensure!(
        outer("1", &format!("10.99.1.2:{PORT} to this host: passed")) >= 1,
        "{packets:#?}"
    );
    ensure!(
        outer("2", &format!("this host to 10.99.1.2:{PORT}: passed")) >= 1,
        "{packets:#?}"
    );
    let dropped: Vec<_> = packets
        .iter()
        .filter(|it| it.comment.contains("dropped") && it.interface == "taltun0 inner")
        .collect();
    ensure!(dropped.len() == 2, "{packets:#?}");
    for packet in dropped {
        let start = "a to this host: dropped, counted as rule (";
        ensure!(packet.comment.starts_with(start), "{packet:?}");
        ensure!(packet.comment.contains("config.toml:"), "{packet:?}");
        ensure!(packet.icmp == "8", "{packet:?}");
    }
    take_down(lab)
}

fn what_is_chosen() -> Result<()> {
    let lab = connected()?;
    let (path, name) = in_lab(&lab, "chosen.pcapng");
    fs::write(&path, "what was there")?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
    let (few, few_name) = in_lab(&lab, "few.pcapng");
    let chosen = Running::start(
        &lab.hub,
        &[
            "--inner", "-w", &name, "a", "icmp6", "and", "ip6[40]", "==", "128",
        ],
    )?;
    let limited = Running::start(
        &lab.hub,
        &[
            "--inner",
            "--count",
            "3",
            "--snaplen",
            "40",
            "-w",
            &few_name,
            "icmp",
        ],
    )?;
    for (from, to) in [
        (&lab.net.a, Role::Hub.v6()),
        (&lab.net.a, Role::Hub.v4()),
        (&lab.net.b, Role::Hub.v6()),
        (&lab.net.b, Role::Hub.v4()),
    ] {
        let answers = Pinger::new(from, to)?.count_answers(2, ANSWER_LIMIT)?;
        ensure!(answers == 2, "{answers} answers from {to}");
    }
    let said = limited.ended(0)?;
    ensure!(said.contains("3 packets captured"), "{said}");
    let said = chosen.end()?;
    ensure!(said.contains("2 packets captured to"), "{said}");

    let mode = fs::metadata(&path)?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "{mode:o}");
    for packet in read(&path)? {
        ensure!(packet.source == Role::A.v6().to_string(), "{packet:?}");
        ensure!(packet.icmp == "128", "{packet:?}");
        ensure!(packet.interface == "taltun0 inner", "{packet:?}");
    }
    let packets = read(&few)?;
    ensure!(packets.len() == 3, "{packets:?}");
    for packet in packets {
        ensure!(packet.captured == 40 && packet.length > 40, "{packet:?}");
    }

    // To standard output, for a second.
    let mut piped = Running::start(&lab.hub, &["--outer", "--seconds", "1"])?;
    let mut bytes = Vec::new();
    let mut stdout = piped.stdout()?;
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    stdout.read_to_end(&mut bytes)?;
    piped.ended(0)?;
    fs::write(&path, &bytes)?;
    let packets = read(&path)?;
    let data = packets.iter().filter(|packet| packet.wireguard == "4");
    ensure!(data.count() >= 10, "{packets:?}");
    take_down(lab)
}

fn mistakes() -> Result<()> {
    let lab = connected()?;
    let (path, name) = in_lab(&lab, "none.pcapng");
    let without_tcpdump: &[(&str, &str)] = &[("PATH", "/nowhere")];
    for (words, environment, code, expected) in [
        (
            &["-w", &name, "nobody"][..],
            &[][..],
            2,
            &["\"nobody\" is no peer of taltun0", "doesn't compile"][..],
        ),
        (
            &["-w", &name, "a", "icmp", "and"],
            &[],
            2,
            &["the filter \"icmp and\" doesn't compile: ", "syntax error"],
        ),
        (
            &["-w", &name, "a", "icmp"],
            without_tcpdump,
            1,
            &["tcpdump, which is not installed"],
        ),
        (&["--files", "3"], &[], 2, &["--file-size"]),
        (
            &["-w", "/nowhere/x"],
            &[],
            1,
            &["cannot write /nowhere/x: No such file"],
        ),
    ] {
        let mut command = lab.hub.command();
        command.arg("capture").args(words);
        command.envs(environment.iter().copied());
        let output = finish_within(&mut command, END_LIMIT)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(code), "{words:?}: {said}");
        for words in expected {
            ensure!(said.contains(words), "{said}");
        }
        ensure!(!path.exists(), "{words:?} made a file");
    }
    // A terminal isn't for bytes.
    let mut command = lab.hub.command();
    let taltun = command
        .get_program()
        .to_str()
        .context("no name")?
        .to_owned();
    let directory = lab.hub.directory().display().to_string();
    command = Command::new("script");
    command.args(["-qec", &format!("{taltun} capture"), "/dev/null"]);
    command.env("TALTUN_RUNTIME_DIR", directory);
    let output = finish_within(&mut command, END_LIMIT)?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(said.contains("isn't for a terminal"), "{said}");
    ensure!(output.status.code() == Some(2), "{said}");
    take_down(lab)
}

fn row_of_files() -> Result<()> {
    let lab = connected()?;
    let (path, name) = in_lab(&lab, "row.pcapng");
    let words = [
        "--inner",
        "-w",
        &name,
        "--file-size",
        "3 kB",
        "--files",
        "3",
    ];
    let capture = Running::start(&lab.hub, &words)?;
    let answers = Pinger::new(&lab.net.a, Role::B.v4())?.count_answers(60, ANSWER_LIMIT)?;
    ensure!(answers == 60, "{answers} answers");
    capture.end()?;
    let directory = path.parent().context("no directory")?;
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == "pcapng") {
            files.push(path);
        }
    }
    files.sort();
    ensure!(files.len() == 3, "{files:?}");
    ensure!(
        !files.contains(&directory.join("row-00001.pcapng")),
        "{files:?}"
    );
    let mut packets = 0;
    for file in &files {
        let length = fs::metadata(file)?.len();
        ensure!(
            (500..=3500).contains(&length),
            "{} has {length}",
            file.display()
        );
        packets += read(file)?.len();
    }
    ensure!((20..120).contains(&packets), "{packets} packets");
    take_down(lab)
}

fn full_disk() -> Result<()> {
    let lab = connected()?;
    let (path, name) = in_lab(&lab, "full.pcapng");
    let (_, disk) = in_lab(&lab, "disk");
    fs::create_dir(&disk)?;
    let command = lab.hub.command();
    let taltun = command.get_program().to_str().context("no name")?;
    // The file has to be taken away before the disk goes with its namespace.
    let script = format!(
        "mount -t tmpfs -o size=32k none {disk} && {{ {taltun} capture -w {disk}/x; code=$?; \
         cp {disk}/x {name}; exit $code; }}"
    );
    let mut unshare = Command::new("unshare");
    unshare.args(["-m", "sh", "-c", &script]);
    unshare.env("TALTUN_RUNTIME_DIR", lab.hub.directory());
    let capture = Running::spawn(&mut unshare)?;
    let mut pinger = Pinger::new(&lab.net.a, Role::B.v4())?;
    let answers = pinger.count_answers(100, ANSWER_LIMIT)?;
    ensure!(answers == 100, "{answers} answers");
    let said = capture.ended(1)?;
    ensure!(said.contains("No space left on device"), "{said}");
    ensure!(said.contains("make room, or keep less"), "{said}");
    let packets = read(&path)?;
    ensure!((40..600).contains(&packets.len()), "{}", packets.len());
    ensure!(fs::metadata(&path)?.len() > 20_000, "the disk wasn't full");
    ensure_answers(&lab.net.a, Role::B.v4())?;
    take_down(lab)
}

fn ends_with_the_tunnel() -> Result<()> {
    let mut lab = connected()?;
    let (path, name) = in_lab(&lab, "end.pcapng");
    let capture = Running::start(&lab.hub, &["--inner", "-w", &name])?;
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    lab.hub.end(Signal::Terminate)?;
    let said = capture.ended(1)?;
    ensure!(said.contains("taltun0 ended the capture"), "{said}");
    let packets = read(&path)?;
    ensure!(
        packets.len() >= 10,
        "the packets before the end are missing"
    );
    Ok(())
}

/// What a stopped reader misses: many times what waits for it anywhere.
const MUCH: u64 = 256 << 20;

fn stopped_reader() -> Result<()> {
    let lab = connected()?;
    let mut stopped = Running::start(&lab.hub, &["--inner"])?;
    let mut stdout = stopped.stdout()?;
    let stream = Stream::start(
        &lab.net.a,
        &lab.net.b,
        format!("{}:0", Role::B.v4()).parse()?,
    )?;
    stream.wait_for_more_than(MUCH, Duration::from_secs(60))?;
    ensure_answers(&lab.net.b, Role::Hub.v4())?;
    let moved = stream.finish()?;
    ensure!(moved.bytes > MUCH, "{} bytes", moved.bytes);
    send_signal(stopped.child.id(), Signal::Terminate)?;
    let mut bytes = Vec::new();
    stdout.read_to_end(&mut bytes)?;
    let said = stopped.ended(0)?;
    ensure!(
        said.contains(" lost, as they weren't taken in time"),
        "{said}"
    );
    let lost = said
        .split(", ")
        .find_map(|part| part.strip_suffix(" packets lost"))
        .with_context(|| said.clone())?
        .replace(',', "");
    let lost: u64 = lost.parse()?;

    let (path, _) = in_lab(&lab, "stopped.pcapng");
    fs::write(&path, &bytes)?;
    let packets = read(&path)?;
    ensure!(!packets.is_empty(), "nothing was captured");
    let (received, dropped) = statistics(&bytes)?;
    ensure!(dropped == lost, "{dropped} in the file, and {said}");
    ensure!(
        lost > packets.len() as u64,
        "{lost} lost, {} captured",
        packets.len()
    );
    ensure!(
        received == packets.len() as u64 + dropped,
        "{received} received, {dropped} lost, {} captured",
        packets.len()
    );
    take_down(lab)
}

/// What the statistics of a file come to: received and dropped.
fn statistics(file: &[u8]) -> Result<(u64, u64)> {
    let word = |at: usize| -> Result<u32> {
        let bytes = file.get(at..at + 4).context("half a block")?;
        Ok(u32::from_le_bytes(bytes.try_into()?))
    };
    let (mut received, mut dropped) = (0, 0);
    let mut block = 0;
    while block < file.len() {
        let length = word(block + 4)? as usize;
        if word(block)? == 5 {
            // Behind type, length, interface and time.
            let mut option = block + 20;
            while word(option)? != 0 {
                let head = word(option)?;
                let (code, length) = (head & 0xffff, (head >> 16) as usize);
                if code == 4 || code == 5 {
                    let value = file.get(option + 4..option + 12).context("half a count")?;
                    let count = u64::from_le_bytes(value.try_into()?);
                    let sum = if code == 4 {
                        &mut received
                    } else {
                        &mut dropped
                    };
                    *sum += count;
                }
                option += 4 + length.next_multiple_of(4);
            }
        }
        block += length;
    }
    Ok((received, dropped))
}
