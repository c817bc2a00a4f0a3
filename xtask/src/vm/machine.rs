//! A virtual machine that runs one command and ends: QEMU, which translates each instruction, so
//! that it needs no virtualization of the machine that it runs on. Good for what is right, not for
//! how fast.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use taltun_tests::command::wait_for;

use super::kernels::Kernel;
use super::{kernels, qemu};
use crate::apt;
use crate::setup::{self, Program, step};
use crate::workspace::{keep_written, must_succeed, target};

/// What making and running one takes.
const PROGRAMS: &[Program] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("debootstrap", "debootstrap"),
    ("depmod", "kmod"),
    ("mkfs.ext4", "e2fsprogs"),
    ("xz", "xz-utils"),
    ("zstd", "zstd"),
];

/// The first program in the initramfs, what the machine does once its root is there, and what
/// makes all that a machine starts from.
const INIT: &str = include_str!("init.sh");
const START: &str = include_str!("start.sh");
const PREPARE: &str = include_str!("prepare.sh");

/// How often a machine is started that doesn't come to its command.
const STARTS: usize = 3;

/// Where all that virtual machines are made of is kept.
pub struct Machines {
    cache: PathBuf,
    mirror: String,
}

/// How a command in a machine ended.
pub struct Ended {
    /// What it printed.
    pub stdout: String,
    /// What it complained of, and what ended the machine instead of it.
    pub stderr: String,
    /// Whether it ended with 0.
    pub success: bool,
    /// Whether the machine came as far as to run it, or took all its time.
    begun: bool,
}

impl Machines {
    /// Installs what is missing for it.
    pub fn new() -> Result<Self> {
        setup::programs(PROGRAMS)?;
        let codename = apt::codename().context(
            "virtual machines are made of Debian's packages, and this machine isn't a Debian",
        )?;
        let cache = target().join("vm");
        fs::create_dir_all(&cache).with_context(|| format!("can't make {}", cache.display()))?;
        Ok(Self {
            cache,
            mirror: apt::mirror(&codename)?,
        })
    }

    /// Fetches the kernel that is called so, if it isn't there, and makes what a machine with it
    /// starts from.
    pub fn get(&self, kernel: &str) -> Result<Kernel> {
        let kernel = kernels::get(kernel, &self.cache, &self.mirror)?;
        self.prepare(&kernel)?;
        Ok(kernel)
    }

    /// Runs `command` with the kernel that is called so, in `share`, for at most `limit` seconds;
    /// `append` goes to the kernel's command line. Where the machine ended before it came to the
    /// command, it is started again: on a busy host a kernel now and then runs into an instruction
    /// that it is just patching on its other processor, and panics.
    pub fn run(
        &self,
        kernel: &str,
        share: &Path,
        command: &str,
        limit: u32,
        append: &str,
    ) -> Result<Ended> {
        for _ in 1..STARTS {
            let ended = self.run_once(kernel, share, command, limit, append)?;
            if ended.begun {
                return Ok(ended);
            }
            step(&format!(
                "{kernel} didn't start, and is started again; it said:\n{}",
                ended.stderr
            ));
        }
        self.run_once(kernel, share, command, limit, append)
    }

    fn run_once(
        &self,
        kernel: &str,
        share: &Path,
        command: &str,
        limit: u32,
        append: &str,
    ) -> Result<Ended> {
        let kernel = self.get(kernel)?;
        let run = tempfile_directory(&self.cache)?;
        fs::write(run.0.join("start.sh"), START)?;
        fs::write(run.0.join("command"), command)?;
        let (through, cards) = qemu::cards(share);
        let mut words: Vec<OsString> = through.into_iter().map(Into::into).collect();
        words.push("qemu-system-x86_64".into());
        let mut qemu = Command::new(&words[0]);
        qemu.args(&words[1..]).args(cards);
        self.arguments(&mut qemu, &kernel, &run.0, share, append);
        qemu.stdin(Stdio::null())
            .stdout(File::create(run.0.join("qemu"))?)
            .stderr(File::create(run.0.join("qemu.err"))?);
        let mut child = qemu.spawn().context("can't run qemu-system-x86_64")?;
        let ended = wait_for(&mut child, std::time::Duration::from_secs(limit.into()))?;
        if ended.is_none() {
            child.kill()?;
            child.wait()?;
        }
        let read = |name: &str| {
            let bytes = fs::read(run.0.join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let code = read("code");
        let mut stderr = read("err");
        if code.is_empty() {
            stderr.push_str(&read("qemu.err"));
            let console = read("console");
            let tail: Vec<_> = console.lines().rev().take(20).collect();
            for line in tail.iter().rev() {
                stderr.push_str(line);
                stderr.push('\n');
            }
            let reason = match ended {
                None => format!("not done within {limit} s"),
                Some(status) => format!("the machine ended without an exit code ({status})"),
            };
            stderr.push_str(&reason);
        }
        Ok(Ended {
            stdout: read("out"),
            stderr,
            success: code.trim() == "0",
            begun: ended.is_none() || run.0.join("begun").exists(),
        })
    }

    /// Makes the root file system and the initramfs, where they are missing.
    fn prepare(&self, kernel: &Kernel) -> Result<()> {
        step("preparing the machine's disks");
        let (init, script) = (self.cache.join("init.sh"), self.cache.join("prepare.sh"));
        // By its age the initramfs is made anew or not.
        keep_written(&init, INIT)?;
        keep_written(&script, PREPARE)?;
        must_succeed(
            Command::new("sh")
                .arg(&script)
                .arg(&self.mirror)
                .arg(&self.cache)
                .arg(&kernel.directory)
                .arg(&init),
            "prepare the machine's disks",
        )
    }

    fn arguments(
        &self,
        qemu: &mut Command,
        kernel: &Kernel,
        run: &Path,
        share: &Path,
        append: &str,
    ) {
        let shown = |path: &Path| path.display().to_string();
        let shared = |id: &str, path: &Path, more: &str| {
            let path = shown(path);
            let device = format!("virtio-9p-pci,fsdev={id},mount_tag={id}");
            let file = format!("local,id={id},path={path},security_model=none{more}");
            ["-fsdev".to_owned(), file, "-device".to_owned(), device]
        };
        let output = |number: u32, name: &str| {
            let device = format!("virtserialport,nr={number},chardev={name},name={name}");
            let file = format!("file,id={name},path={}", shown(&run.join(name)));
            ["-chardev".to_owned(), file, "-device".to_owned(), device]
        };
        qemu.args(["-nodefaults", "-no-user-config", "-no-reboot"])
            .args(["-display", "none", "-machine", "pc"])
            // qemu64 has no instructions that take long to translate. Its CPUs take turns: kernels patch
            // their own code while they run, and where both run at once the other may meet an int3 that
            // is already gone, which is a panic. It takes no longer, as two machines run side by side.
            .args([
                "-accel",
                "tcg,thread=single",
                "-cpu",
                "qemu64",
                "-smp",
                "2",
                "-m",
                "4G",
            ])
            .arg("-kernel")
            .arg(&kernel.vmlinux)
            .arg("-initrd")
            .arg(kernel.directory.join("initramfs"))
            .args(["-serial", &format!("file:{}", shown(&run.join("console")))])
            .args([
                "-drive",
                &format!(
                    "if=none,id=root,file={},format=raw,readonly=on,cache=unsafe",
                    shown(&self.cache.join("root.ext4"))
                ),
                "-device",
                "virtio-blk-pci,drive=root",
                "-device",
                "virtio-serial-pci,max_ports=4",
            ])
            .args(output(1, "out"))
            .args(output(2, "err"))
            .args(shared("run", run, ""))
            .args(shared("host", share, ",multidevs=remap"))
            .args(shared(
                "mods",
                &kernel.directory.join("guest/lib/modules"),
                ",readonly=on",
            ))
            .args(["-object", "rng-random,id=rng,filename=/dev/urandom"])
            .args(["-device", "virtio-rng-pci,rng=rng"])
            .arg("-append")
            // The clock is ACPI's timer, whose rate is known. The rate of the emulated TSC is measured
            // at boot, and on a busy host the guest has run three times too fast by it.
            .arg(format!(
                "console=ttyS0 panic=-1 no_timer_check random.trust_cpu=on mitigations=off \
                 clocksource=acpi_pm audit=0 quiet {append}"
            ));
    }
}

/// A directory that goes with the value.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn tempfile_directory(cache: &Path) -> Result<Directory> {
    for number in 0..1000 {
        let path = cache.join(format!("run-{}-{number}", std::process::id()));
        if fs::create_dir(&path).is_ok() {
            return Ok(Directory(path));
        }
    }
    bail!("can't make a directory in {}", cache.display())
}
