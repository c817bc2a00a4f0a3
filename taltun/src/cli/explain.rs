//! `taltun explain`

use std::fmt::Write;
use std::net::IpAddr;

use clap::Args;

use super::failure::Failure;
use super::output;
use super::target::Target;
use crate::control::request;
use crate::report::Explanation;

/// Say what would happen to a packet, and why.
///
/// The packet is the first one of something: answers to what may start pass without being asked.
/// FROM and TO are a peer's name or public key, an address inside the tunnel, or `hub` for this
/// machine. What comes from an address that is no peer's comes from this machine or what is behind
/// it. Nothing is sent. The exit code is 0 if the packet passes, 1 if it doesn't, and 2 if there is no
/// answer.
#[derive(Args)]
pub(super) struct Explain {
    /// Who sends it.
    #[arg(value_name = "FROM")]
    from: String,

    /// Whom it is for.
    #[arg(value_name = "TO")]
    to: String,

    /// What it is: tcp/443, udp/53, icmp, gre, ip/47.
    #[arg(value_name = "PROTO/PORT")]
    service: String,

    /// Its source inside the tunnel [default: the sender's first address of the same family].
    #[arg(long, value_name = "ADDRESS")]
    source: Option<IpAddr>,

    /// Where its datagram comes from, outside [default: where the peer was last heard].
    #[arg(long, value_name = "ADDRESS")]
    outer: Option<IpAddr>,

    /// Print JSON.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    target: Target,
}

impl Explain {
    pub(super) fn run(self) -> Result<(), Failure> {
        let explanation = self.target.ask(request::Explain {
            from: self.from,
            to: self.to,
            service: self.service,
            source: self.source,
            outer: self.outer,
        });
        // 1 is for a packet that doesn't pass.
        let explanation = explanation.map_err(|error| match error.into() {
            Failure::Other(why) => Failure::Usage(why),
            failure => failure,
        })?;
        if self.json {
            output::print_json(&explanation)?;
        } else {
            output::print(&self.target.advice(&render(&explanation)))?;
        }
        if explanation.passes {
            Ok(())
        } else {
            Err(Failure::Told)
        }
    }
}

fn render(explanation: &Explanation) -> String {
    let verdict = match (explanation.passes, explanation.reason) {
        (true, _) => "passes".to_owned(),
        (false, Some(reason)) => format!("dropped, counted as {}", reason.label()),
        (false, None) => "dropped".to_owned(),
    };
    let mut text = format!(
        "{}: {} from {} to {}: {verdict}\n",
        explanation.interface, explanation.service, explanation.source, explanation.destination
    );
    let width = explanation.steps.iter().map(|step| step.step.word().len());
    let width = width.max().unwrap_or_default();
    for step in &explanation.steps {
        let mark = if step.passes { ' ' } else { '!' };
        let _ = write!(text, "{mark} {:<width$}  {}", step.step, step.why);
        if let Some(origin) = &step.origin {
            let _ = write!(text, " ({origin})");
        }
        text.push('\n');
    }
    text
}
