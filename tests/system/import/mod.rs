//! Files of wg-quick's: what `taltun import` makes of them, against what `wg-quick` does.

mod cases;
mod compare;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use taltun_tests::command::output_of;
use taltun_tests::programs;
use taltun_tests::topology::{Pair, WIRE_A, private_prefix};

use crate::support::{Case, taltun};
use cases::{Expected, File};

pub const CASES: &[Case] = &[
    Case {
        name: "import: files mean to Taltun what they mean to wg-quick",
        programs: &["wg-quick", "wireguard-go", "unshare", "nft", "bash"],
        run: || against_wg_quick(cases::LINES),
    },
    Case {
        name: "import: addresses, routes and name servers are those that wg-quick makes",
        programs: &["wg-quick", "wireguard-go", "unshare", "nft", "bash"],
        run: || against_wg_quick(cases::NETWORK),
    },
    Case {
        name: "import: hooks run when wg-quick runs them, and by bash",
        programs: &["wg-quick", "wireguard-go", "unshare", "nft", "bash"],
        run: || against_wg_quick(cases::HOOKS),
    },
    Case {
        name: "import: what can't be taken over is refused with the file and its line",
        programs: &["wg"],
        run: || {
            let directory = directory("refused")?;
            for file in cases::REFUSED {
                refuse(file, &directory).with_context(|| format!("in {}", file.name))?;
            }
            Ok(fs::remove_dir_all(directory)?)
        },
    },
    Case {
        name: "import: wg-quick runs on Taltun where `ip link add` is led to it",
        programs: &["wg-quick", "unshare", "nft", "bash"],
        run: wg_quick_on_taltun,
    },
];

/// Runs in a mount namespace of its own: `DIRECTORY TALTUN`. Both programs find the same
/// sockets, names and resolver, which is a stand-in that writes down what it is told.
const SCRIPT: &str = r#"
dir=$1 taltun=$2
mkdir -p /run/wireguard && mount -t tmpfs none /run/wireguard
[ ! -d /run/systemd/resolve ] || mount -t tmpfs none /run/systemd
mount --bind "$dir/hosts" /etc/hosts
mount --bind "$dir/resolv.conf" "$(readlink -f /etc/resolv.conf)"
if there=$(command -v resolvconf); then mount --bind "$dir/bin/resolvconf" "$there"; fi
export PATH="$dir/bin:$PATH"

routes() {
    { ip -4 route show table all dev wg0; ip -6 route show table all dev wg0; } 2> /dev/null |
        grep -v -e '^local' -e '^multicast' -e '^broadcast' -e '^anycast' -e '^fe80::/64 '
}
report() {
    echo '[mtu]'; cat /sys/class/net/wg0/mtu
    echo '[address]'; ip -o addr show dev wg0 scope global
    echo '[route]'; routes
    echo '[wg]'; wg showconf wg0
    echo '[dns]'; cat /run/wireguard/dns 2> /dev/null
    echo '[hooks]'; cat /run/wireguard/log 2> /dev/null
}
down() {
    echo '[hooks]'; cat /run/wireguard/log 2> /dev/null
    echo '[link]'; ip link show dev wg0 2> /dev/null
    echo '[rule]'; ip rule show; ip -6 rule show
    rm -f /run/wireguard/log /run/wireguard/dns
}

cp "$dir/wg0.conf" "$dir/quick/wg0.conf"
wg-quick up "$dir/quick/wg0.conf" > "$dir/quick/err" 2>&1
echo $? > "$dir/quick/code"
if [ "$(cat "$dir/quick/code")" = 0 ]; then
    report > "$dir/quick/up"
    cp /run/wireguard/log "$dir/quick/log" 2> /dev/null || : > "$dir/quick/log"
    routes | wc -l > "$dir/quick/routes"
    wg-quick down "$dir/quick/wg0.conf" >> "$dir/quick/err" 2>&1
fi
down > "$dir/quick/down"

"$taltun" import "$dir/wg0.conf" > "$dir/taltun/wg0.toml" 2> "$dir/taltun/err"
echo $? > "$dir/taltun/code"
[ "$(cat "$dir/taltun/code")" = 0 ] && [ -e "$dir/quick/up" ] || exit 0
export TALTUN_RUNTIME_DIR="$dir/taltun/run" TALTUN_UAPI_DIR=/run/wireguard
"$taltun" run --config "$dir/taltun/wg0.toml" > "$dir/taltun/log" 2>&1 &
pid=$!
# Its hooks run beside it; more than these nobody waits for.
for _ in $(seq 300); do
    kill -0 $pid 2> /dev/null || break
    touch /run/wireguard/log
    "$taltun" status > /dev/null 2>&1 && cmp -s /run/wireguard/log "$dir/quick/log" &&
        [ "$(routes | wc -l)" = "$(cat "$dir/quick/routes")" ] && break
    sleep 0.05
done
report > "$dir/taltun/up" 2> /dev/null
# What is exported means the same to wg.
"$taltun" export --config "$dir/taltun/wg0.toml" > "$dir/taltun/exported/wg0.conf" 2> /dev/null
wg-quick strip "$dir/taltun/exported/wg0.conf" > "$dir/taltun/stripped" 2> "$dir/taltun/strip.err"
wg setconf wg0 "$dir/taltun/stripped" >> "$dir/taltun/strip.err" 2>&1
wg showconf wg0 > "$dir/taltun/again" 2> /dev/null
kill -TERM $pid 2> /dev/null
wait $pid
echo $? > "$dir/taltun/ended"
down > "$dir/taltun/down"
"#;

const RESOLVCONF: &str =
    "#!/bin/sh\necho \"$1\" >> /run/wireguard/dns\n[ \"$1\" != -a ] || cat >> /run/wireguard/dns\n";

fn directory(name: &str) -> Result<PathBuf> {
    let directory = std::env::temp_dir().join(format!("{}-import-{name}", private_prefix()));
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory)?;
    Ok(directory)
}

fn against_wg_quick(files: &[File]) -> Result<()> {
    let mut wrong = Vec::new();
    for file in files {
        println!("{}", file.name);
        if let Err(error) = one(file) {
            wrong.push(format!("{}: {error:#}", file.name));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    Ok(())
}

/// One file, by both, one after the other in the same network.
fn one(file: &File) -> Result<()> {
    let net = Pair::create(&private_prefix())?;
    net.left
        .ip(&format!("route add default via {}", WIRE_A.far_v4()))?;
    net.left
        .ip(&format!("-6 route add default via {}", WIRE_A.far_v6()))?;
    let directory = directory("both")?;
    prepare(&directory, file)?;
    let script = directory.join("script");
    let mut command = net.left.command("unshare");
    command.args(["-m", "--propagation", "private", "bash"]);
    output_of(command.arg(&script).arg(&directory).arg(taltun()?))?;
    compare::outcome(file, &directory)?;
    fs::remove_dir_all(&directory)?;
    Ok(())
}

fn prepare(directory: &Path, file: &File) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    for name in ["quick", "taltun", "taltun/run", "taltun/exported", "bin"] {
        fs::create_dir_all(directory.join(name))?;
    }
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    fs::write(directory.join("wg0.conf"), file.bytes())?;
    fs::write(directory.join("script"), SCRIPT)?;
    fs::write(directory.join("resolv.conf"), "nameserver 127.0.0.1\n")?;
    fs::write(
        directory.join("hosts"),
        format!("{} my_router.example.net\n", WIRE_A.far_v4()),
    )?;
    programs::write(&directory.join("bin/resolvconf"), RESOLVCONF)
}

fn refuse(file: &File, directory: &Path) -> Result<()> {
    let Expected::Refused(line, text) = file.expected else {
        anyhow::bail!("nothing is expected of it");
    };
    let path = directory.join("wg0.conf");
    fs::write(&path, file.bytes())?;
    let output = std::process::Command::new(taltun()?)
        .arg("import")
        .arg(&path)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(2), "{}: {said}", output.status);
    ensure!(output.stdout.is_empty(), "it printed something");
    let place = format!("{}:{line}: ", path.display());
    let last = said.lines().last().unwrap_or_default();
    ensure!(last.contains(&place) && last.contains(text), "{said}");
    Ok(())
}

/// The recipe of the manual: a function of bash leads wg-quick to Taltun, whatever the kernel
/// has.
fn wg_quick_on_taltun() -> Result<()> {
    let net = Pair::create(&private_prefix())?;
    let directory = directory("quick")?;
    let file = &cases::LINES[0];
    prepare(&directory, file)?;
    let script = r#"
        set -e
        mkdir -p /run/wireguard && mount -t tmpfs none /run/wireguard
        export TALTUN_RUNTIME_DIR="$1/taltun/run" TALTUN_UAPI_DIR=/run/wireguard
        taltun() { command "$TALTUN" "$@"; }; export -f taltun
        export TALTUN=$2
        ip() {
            case "$*" in
                "link add "*" type wireguard") taltun interface "$3" ;;
                *) command ip "$@" ;;
            esac
        }
        export -f ip
        wg-quick up "$1/wg0.conf"
        taltun status wg0 --json | grep -q 10.77.0.2/32
        test "$(wg show wg0 listen-port)" = 51899
        wg-quick down "$1/wg0.conf"
        ! command ip link show wg0 2> /dev/null
    "#;
    let mut command = net.left.command("unshare");
    command.args([
        "-m",
        "--propagation",
        "private",
        "bash",
        "-c",
        script,
        "bash",
    ]);
    output_of(command.arg(&directory).arg(taltun()?))?;
    fs::remove_dir_all(&directory)?;
    Ok(())
}
