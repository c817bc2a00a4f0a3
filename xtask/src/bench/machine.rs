//! The machine that measured, and how busy it was with other things.

use std::fs;

use serde::Serialize;

/// A load average above this before the bench says that others are at work.
const QUIET: f64 = 0.5;

/// What has to be known to make sense of the figures.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// The model of its CPU.
    pub cpu: String,
    /// How many cores we may use.
    pub cores: usize,
    /// The kernel's release.
    pub kernel: String,
    /// How TCP paces itself here.
    pub tcp_congestion_control: String,
    /// How many processes wanted to run in the minute before the bench.
    pub load_before: f64,
    /// Whether the scheduler weighs sessions against each other rather than processes.
    pub groups_by_session: bool,
}

impl Machine {
    /// This machine, now.
    pub fn look() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let word = |path: &str| match read(path).trim() {
            "" => "unknown".to_owned(),
            word => word.to_owned(),
        };
        Self {
            cpu: cpu_model(&read("/proc/cpuinfo")),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: word("/proc/sys/kernel/osrelease"),
            tcp_congestion_control: word("/proc/sys/net/ipv4/tcp_congestion_control"),
            load_before: read("/proc/loadavg")
                .split_whitespace()
                .next()
                .and_then(|load| load.parse().ok())
                .unwrap_or_default(),
            groups_by_session: word("/proc/sys/kernel/sched_autogroup_enabled") == "1",
        }
    }

    /// Whether others were at work, so that the figures say little.
    pub fn is_busy(&self) -> bool {
        self.load_before > QUIET
    }

    /// In a line.
    pub fn line(&self) -> String {
        format!(
            "{}, {} cores, Linux {}, TCP by {}, load {:.2} before",
            self.cpu, self.cores, self.kernel, self.tcp_congestion_control, self.load_before
        )
    }
}

fn cpu_model(cpuinfo: &str) -> String {
    // Arm's has no model name.
    let model = cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == "model name")
        .map(|(_, value)| value.split_whitespace().collect::<Vec<_>>().join(" "));
    model.unwrap_or_else(|| format!("{} CPU of unknown model", std::env::consts::ARCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_named() {
        let cpuinfo = "processor\t: 0\nmodel\t\t: 1\nmodel name\t: AMD  EPYC 7003\n";
        assert_eq!(cpu_model(cpuinfo), "AMD EPYC 7003");
        assert!(cpu_model("processor\t: 0\n").contains("unknown"));
    }
}
