//! Zig's C compiler and linker, which has a C library for every target with it: what static programs
//! are built by, also those for another CPU.
//!
//! It comes as a package of Python's, in a version and with sums that are pinned here. Cargo and build
//! scripts call it by small scripts, as it doesn't take every argument of theirs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use taltun_tests::command::output_of;

use crate::setup::step;
use crate::workspace::{must_succeed, tools};

const VERSION: &str = "0.15.2";
/// SHA-256 of what there is for Linux on `x86_64` and on `aarch64`.
const SUMS: [&str; 2] = [
    "806316453d1ede7174ed3fefb8e5348154629089c3bb5fe812dfd0e172fac130",
    "edc0aa60ec964a4cf462d40f68d7de242ddf37fd9a80f2afaee6397059463230",
];

/// Zig, as it is installed.
pub struct Zig(PathBuf);

impl Zig {
    /// Finds it, or installs it by pip into our own directory.
    pub fn find_or_install() -> Result<Self> {
        let directory = tools().join(format!("ziglang-{VERSION}"));
        let zig = Self(directory.join("ziglang"));
        if zig.0.join("zig").is_file() {
            step(&format!("zig {VERSION} is there"));
            return Ok(zig);
        }
        output_of(Command::new("python3").args(["-m", "pip", "--version"])).context(
            "there is no pip for python3 to install zig with; on Debian and Ubuntu: \
             sudo apt-get install python3-pip",
        )?;
        step(&format!("installing zig {VERSION} by pip (once)"));
        let unfinished = directory.with_extension("new");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished)?;
        }
        fs::create_dir_all(&unfinished)?;
        let required = unfinished.join("requirements.txt");
        fs::write(&required, requirement())?;
        must_succeed(
            Command::new("python3")
                .args(["-m", "pip", "install", "--quiet", "--no-cache-dir"])
                .args(["--disable-pip-version-check", "--root-user-action=ignore"])
                .args(["--require-hashes", "--only-binary=:all:", "--no-deps"])
                .arg("--requirement")
                .arg(&required)
                .arg("--target")
                .arg(&unfinished),
            &format!("install ziglang {VERSION} by pip"),
        )?;
        fs::rename(&unfinished, &directory)?;
        ensure!(
            zig.0.join("zig").is_file(),
            "the package ziglang {VERSION} has no zig"
        );
        Ok(zig)
    }

    /// Writes the scripts for a CPU to `directory`.
    pub fn write_tools(&self, cpu: &str, directory: &Path) -> Result<Tools> {
        fs::create_dir_all(directory)?;
        let zig = self.0.join("zig");
        let zig = zig.to_str().context("a path that isn't UTF-8")?;
        let tools = Tools {
            cc: directory.join(format!("{cpu}-cc")),
            ar: directory.join(format!("{cpu}-ar")),
        };
        write_script(&tools.cc, &cc(zig, cpu))?;
        write_script(&tools.ar, &format!("#!/bin/sh\nexec '{zig}' ar \"$@\"\n"))?;
        Ok(tools)
    }

    /// Licences of what it links in, and what their files are called with ours.
    pub fn licenses(&self) -> Vec<(PathBuf, &'static str)> {
        vec![
            (self.0.join("lib/libc/musl/COPYRIGHT"), "LICENSE-OF-MUSL"),
            (self.0.join("lib/libunwind/LICENSE.TXT"), "LICENSE-OF-LLVM"),
        ]
    }
}

/// What cargo and build scripts call.
pub struct Tools {
    pub cc: PathBuf,
    pub ar: PathBuf,
}

/// The compiler, and the linker. The target that others name isn't Zig's name for it.
fn cc(zig: &str, cpu: &str) -> String {
    format!(
        "#!/bin/sh\n\
         for argument; do\n\
         \tshift\n\
         \tcase $argument in\n\
         \t--target=*) ;;\n\
         \t-static-pie) set -- \"$@\" -static -pie ;;\n\
         \t-lc|-lgcc|-lgcc_s|-lgcc_eh) ;;\n\
         \t*) set -- \"$@\" \"$argument\" ;;\n\
         \tesac\n\
         done\n\
         exec '{zig}' cc -target {cpu}-linux-musl -fno-sanitize=all \"$@\"\n"
    )
}

fn write_script(path: &Path, text: &str) -> Result<()> {
    // Not written again where it is the same: build scripts would run again.
    if !fs::read_to_string(path).is_ok_and(|there| there == text) {
        fs::write(path, text)?;
    }
    Ok(fs::set_permissions(
        path,
        fs::Permissions::from_mode(0o755),
    )?)
}

fn requirement() -> String {
    let sums = SUMS.map(|sum| format!(" --hash=sha256:{sum}"));
    format!("ziglang=={VERSION}{}\n", sums.concat())
}
