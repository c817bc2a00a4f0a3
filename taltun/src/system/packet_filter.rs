//! A filter in the language of tcpdump, compiled by tcpdump.

use std::process::{Command, Stdio};

use taltun_capture::Filter;

use super::program;

/// What compiles filters.
const COMPILER: &str = "tcpdump";

/// Why there is no filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoFilter {
    /// It isn't one; what tcpdump says of it.
    Refused(String),
    /// It couldn't be compiled.
    Failed(String),
}

/// Compiles a filter for packets that begin with their IP header.
pub fn compile_filter(words: &str) -> Result<Filter, NoFilter> {
    let Some(compiler) = program::find(COMPILER) else {
        return Err(NoFilter::Failed(format!(
            "a filter is compiled by {COMPILER}, which is not installed; install it, or capture \
             without a filter and filter in Wireshark"
        )));
    };
    // It takes no packet, and so opens no interface. A snap length cuts after the filter.
    let run = Command::new(&compiler)
        .args(["-y", "RAW", "-ddd", "--", words])
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| NoFilter::Failed(format!("cannot run {}: {error}", compiler.display())))?;
    if !run.status.success() {
        return Err(NoFilter::Refused(complaint(&run.stderr)));
    }
    let listing = String::from_utf8_lossy(&run.stdout);
    Filter::parse(&listing).map_err(|error| NoFilter::Refused(error.to_string()))
}

/// What a failed tcpdump says in the end, warnings come before.
fn complaint(stderr: &[u8]) -> String {
    let said = String::from_utf8_lossy(stderr);
    let last = said.lines().rfind(|line| !line.trim().is_empty());
    let last = last.unwrap_or("no reason given").trim();
    let prefix = format!("{COMPILER}: ");
    last.strip_prefix(&prefix).unwrap_or(last).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_the_last_line_without_the_name() {
        let said = b"tcpdump: WARNING: x\ntcpdump: can't parse filter expression: syntax error\n\n";
        assert_eq!(
            complaint(said),
            "can't parse filter expression: syntax error"
        );
        assert_eq!(complaint(b""), "no reason given");
    }

    #[test]
    fn filters_are_compiled_for_packets_without_ethernet_headers() {
        if program::find(COMPILER).is_none() {
            let error = compile_filter("icmp").unwrap_err();
            let NoFilter::Failed(text) = error else {
                panic!("{error:?}");
            };
            assert!(text.contains("not installed"), "{text}");
            return;
        }
        let filter = compile_filter("icmp6 or udp port 53").unwrap();
        let mut packet = vec![0; 48];
        packet[0] = 0x60;
        packet[6] = 58;
        assert!(filter.matches(&packet, 48));
        packet[6] = 17;
        assert!(!filter.matches(&packet, 48));
        packet[43] = 53;
        assert!(filter.matches(&packet, 48));
        for nonsense in ["icmp and", "-w /tmp/x", "ether host 0:0:0:0:0:0"] {
            let refused = compile_filter(nonsense);
            assert!(matches!(refused, Err(NoFilter::Refused(_))), "{refused:?}");
        }
    }
}
