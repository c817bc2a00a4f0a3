//! `taltun undo`

use clap::Args;

use super::failure::Failure;
use super::output;
use crate::config;
use crate::control::{self, ControlError, ControlSocket};
use crate::system::{self, Scope, Undone};

/// Undo what a killed tunnel left on this host.
///
/// This removes its kill switch and other firewall rules, policy rules, name servers and kernel
/// settings, as an orderly end does. While a tunnel of this name runs, it touches nothing: stop
/// the tunnel instead, which undoes all of it.
///
/// Exit codes: 0 all of it is undone, or there was nothing to undo; 1 the tunnel runs, or
/// something couldn't be undone; 2 wrong usage.
#[derive(Args)]
pub(super) struct Undo {
    /// The tunnel's interface.
    #[arg(value_name = "NAME")]
    name: String,
}

impl Undo {
    pub(super) fn run(self) -> Result<(), Failure> {
        let name = config::interface_name(&self.name).map_err(Failure::Usage)?;
        undo(&name)
    }
}

/// Takes back what a tunnel that doesn't run left, and prints what that was.
pub(super) fn undo(name: &str) -> Result<(), Failure> {
    let scope = match control::holder(name) {
        Some(holder) if runs_elsewhere(&holder) => Scope::Here,
        Some(holder) => return Err(runs(name, &holder)),
        None => Scope::Anywhere,
    };
    super::logging::start(false);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Other(format!("cannot start: {error}")))?;
    let undone = runtime.block_on(async {
        // Nobody can start meanwhile: the socket is what tells that a tunnel runs.
        let _socket = match scope {
            Scope::Here => None,
            Scope::Anywhere => Some(ControlSocket::bind(name).map_err(|error| match error {
                ControlError::Taken { .. } => runs(name, &error),
                other => other.into(),
            })?),
        };
        let directory = control::runtime_dir();
        Ok::<_, Failure>(system::undo(&directory, name, scope).await?)
    })?;
    output::print(&told(name, &undone, scope))
}

fn told(name: &str, undone: &Undone, scope: Scope) -> String {
    let mut done: Vec<&str> = Vec::new();
    for what in &undone.done {
        if !done.contains(&what.as_str()) {
            done.push(what);
        }
    }
    let place = match scope {
        Scope::Anywhere => "on this host",
        Scope::Here => "in this network namespace; the one that runs is in another",
    };
    let mut text = if done.is_empty() && undone.left.is_empty() {
        format!("nothing of {name} is left {place}\n")
    } else if done.is_empty() {
        String::new()
    } else {
        format!("undone for {name}: {}\n", done.join(", "))
    };
    for left in &undone.left {
        text.push_str("left as it is: ");
        text.push_str(left);
        text.push('\n');
    }
    text
}

/// Whether a tunnel runs in another network namespace than ours.
fn runs_elsewhere(holder: &ControlError) -> bool {
    let namespace = holder.namespace();
    namespace.is_some() && namespace != system::network_namespace().ok()
}

fn runs(name: &str, holder: &ControlError) -> Failure {
    let pid = holder.pid();
    let pid = pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
    Failure::Other(format!(
        "{name} is running{pid}, so nothing was undone; stop it with SIGTERM or `systemctl \
         stop`, which takes everything back"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_told_once_with_its_remedy() {
        let holder = |pid| ControlError::Taken {
            path: "/run/taltun/t0.sock".into(),
            pid,
        };
        assert_eq!(
            runs("t0", &holder(Some(3467))).to_string(),
            "t0 is running (pid 3467), so nothing was undone; stop it with SIGTERM or \
             `systemctl stop`, which takes everything back"
        );
        let text = runs("t0", &holder(None)).to_string();
        assert!(text.starts_with("t0 is running, so nothing"), "{text}");
    }

    #[test]
    fn what_stays_is_told_beside_what_was_undone() {
        let undone = |done: &[&str], left: &[&str]| {
            let mut undone = Undone::default();
            undone.done = done.iter().map(ToString::to_string).collect();
            undone.left = left.iter().map(ToString::to_string).collect();
            undone
        };
        let said = |done: &[&str], left: &[&str]| told("t0", &undone(done, left), Scope::Anywhere);
        assert_eq!(said(&[], &[]), "nothing of t0 is left on this host\n");
        assert_eq!(said(&["a", "b", "a"], &[]), "undone for t0: a, b\n");
        assert_eq!(said(&[], &["c"]), "left as it is: c\n");
        assert_eq!(said(&["a"], &["c"]), "undone for t0: a\nleft as it is: c\n");
    }
}
