//! What a peer has and may, to be changed: networks behind it, its last day, quota and rates.

use ipnet::IpNet;
use maud::{Markup, html};
use taltun_usage::Quota;

use super::layout::{Frame, held};
use crate::config::Rate;
use crate::report::{PeerStatus, QuotaStatus, RateStatus};
use crate::web::changes::before;

/// Networks of a longer text than this aren't for a form: all of it is limited.
const NETS_MAX: usize = 4096;

/// The form, closed until somebody opens it or it was refused.
pub(super) fn form(frame: &Frame<'_>, peer: &PeerStatus) -> Markup {
    let words = frame.language.words();
    let nets = behind(peer);
    let rate = |status: &Option<RateStatus>| {
        let bits = status.as_ref().and_then(|status| status.bits_per_second);
        let rate = bits.and_then(Rate::of_bits);
        rate.map(|rate| rate.to_string()).unwrap_or_default()
    };
    let fields = [
        (
            "quota",
            words.quota,
            quota(peer.quota.as_ref()),
            "100 GB/month",
        ),
        ("rate_up", words.limit_up, rate(&peer.rate_up), "20 Mbit/s"),
        (
            "rate_down",
            words.limit_down,
            rate(&peer.rate_down),
            "20 Mbit/s",
        ),
    ];
    let day = peer.expires.as_deref().unwrap_or_default();
    html! {
        details open[frame.typed.get("quota").is_some()] {
            summary { (words.set_this) }
            p { (words.set_hint) }
            form.row method="post" action="/set" {
                (held(frame))
                input type="hidden" name="key" value=(peer.public_key);
                @if nets.len() <= NETS_MAX {
                    (field(frame, "text", "allowed", words.behind, &nets, "192.168.50.0/24"))
                }
                (field(frame, "date", "expires", words.expires, day, ""))
                @for (name, label, now, hint) in &fields {
                    (field(frame, "text", name, label, now, hint))
                }
                button type="submit" aria-label=(words.change) { (words.change) }
            }
        }
    }
}

/// A field with what it holds now beside it: whoever leaves it alone changes nothing.
fn field(frame: &Frame<'_>, kind: &str, name: &str, label: &str, now: &str, hint: &str) -> Markup {
    let value = frame.typed.get(name).unwrap_or(now);
    html! {
        div { label for=(name) { (label) }
            input type="hidden" name=(before(name)) value=(now);
            input id=(name) type=(kind) name=(name) autocomplete="off" value=(value) maxlength=(NETS_MAX)
                autocapitalize="none" spellcheck="false" placeholder=(hint); }
    }
}

/// The networks behind a peer, with commas between them.
fn behind(peer: &PeerStatus) -> String {
    let own: Vec<IpNet> = peer.vip.iter().copied().map(IpNet::from).collect();
    let nets = peer.allowed_ips.iter().filter(|net| !own.contains(net));
    let nets: Vec<String> = nets.map(ToString::to_string).collect();
    nets.join(", ")
}

/// A quota, as the file may have it.
fn quota(status: Option<&QuotaStatus>) -> String {
    let exact = status.map(|status| format!("{} B/{}", status.bytes, status.period));
    let quota = exact.and_then(|text| text.parse::<Quota>().ok());
    quota.map(|quota| quota.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::UnixTime;

    #[test]
    fn a_quota_reads_as_it_is_written() {
        let of = |bytes, period: &str| QuotaStatus {
            bytes,
            period: period.to_owned(),
            used_bytes: 0,
            ends_at: UnixTime::default(),
        };
        assert_eq!(quota(Some(&of(100_000_000_000, "month"))), "100 GB/month");
        assert_eq!(quota(Some(&of(3 << 29, "day"))), "1536 MiB/day");
        assert_eq!(quota(None), "");
    }
}
