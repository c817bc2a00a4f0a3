//! What can't be found out by trying: kernels with a known fault, by their version.

use std::fs;

/// Whether this kernel may mangle datagrams that it cuts out of one payload if all of them
/// have the same size: 7.0 up to 7.1.4. Which of them are mangled is up to the network card
/// and its driver, so nothing shows it but the packets that get lost on their way.
pub fn mangles_equal_segments() -> bool {
    fs::read_to_string("/proc/sys/kernel/osrelease").is_ok_and(|release| is_faulty(&release))
}

fn is_faulty(release: &str) -> bool {
    version(release).is_some_and(|version| ((7, 0, 0)..=(7, 1, 4)).contains(&version))
}

/// The three numbers at the beginning of a release such as `7.0.2-6-pve`. One that isn't
/// there, as in `7.1-rc3`, is zero.
fn version(release: &str) -> Option<(u32, u32, u32)> {
    let end = release.find(|c: char| !c.is_ascii_digit() && c != '.');
    let mut numbers = release[..end.unwrap_or(release.len())].split('.');
    let major = numbers.next()?.parse().ok()?;
    let mut next = || numbers.next().map_or(Ok(0), str::parse).ok();
    Some((major, next()?, next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_between_the_fault_and_its_mending_are_known() {
        for faulty in ["7.0.0", "7.0.2-6-pve", "7.0-rc1", "7.1.4-arch1-1", "7.1.0+"] {
            assert!(is_faulty(faulty), "{faulty}");
        }
        for sound in [
            "6.18.44",
            "6.99.9-generic",
            "7.1.5",
            "7.2",
            "7.10.1",
            "8.0.0",
            "5.10.0-30-amd64",
        ] {
            assert!(!is_faulty(sound), "{sound}");
        }
        for odd in ["", "linux", "7", "seven.1.4", "7..1"] {
            assert_eq!(is_faulty(odd), odd == "7", "{odd}");
        }
    }
}
