//! Which requests come from our own pages, in a browser that means us.
//!
//! A foreign page can make a browser send requests here, with its cookies where those aren't held
//! back, and can have a name of its own lead here (DNS rebinding), which makes it one of our own
//! pages for the browser. So who asks must name us by an address, which no foreign page can take,
//! or by a name that is ours; and a form must come from a page at just that place.

use std::net::IpAddr;

use hyper::HeaderMap;
use hyper::header::{HOST, HeaderName, ORIGIN};

/// Where a request comes from, in the words of the browser.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether the browser means us: by an address, as this machine, or by one of the names `hosts`.
pub(super) fn means_us(headers: &HeaderMap, hosts: &[String]) -> bool {
    let Some(host) = only(headers, &HOST) else {
        return false;
    };
    let name = without_port(host).to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name);
    let inner = name.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let is_address = match inner {
        Some(inner) => inner.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()),
        None => name.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4()),
    };
    is_address || name == "localhost" || hosts.iter().any(|host| host == name)
}

/// Whether a form was sent by one of our own pages: the browser names the page's origin, which no
/// page can change.
pub(super) fn is_own_form(headers: &HeaderMap) -> bool {
    let (Some(host), Some(origin)) = (only(headers, &HOST), only(headers, &ORIGIN)) else {
        return false;
    };
    // A proxy before us may have HTTPS.
    let of_page = ["http://", "https://"].into_iter();
    let of_page = of_page.filter_map(|scheme| origin.strip_prefix(scheme));
    let is_same = of_page
        .into_iter()
        .any(|place| place.eq_ignore_ascii_case(host));
    is_same && is_own_fetch(headers)
}

/// Whether nothing says that a foreign page asks. Browsers tell only where it is HTTPS or this
/// machine.
pub(super) fn is_own_fetch(headers: &HeaderMap) -> bool {
    match only(headers, &SEC_FETCH_SITE) {
        Some(site) => site == "same-origin" || site == "none",
        None => !headers.contains_key(SEC_FETCH_SITE),
    }
}

/// A header that is there once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut all = headers.get_all(name).iter();
    let value = all.next()?.to_str().ok()?;
    all.next().is_none().then_some(value)
}

fn without_port(host: &str) -> &str {
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    match host.rsplit_once(':') {
        Some((name, port)) if is_port(port) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn names_that_are_not_ours_are_foreign() {
        let hosts = ["vpn.example.org".to_owned()];
        for (host, ours) in [
            ("10.0.0.1:8080", true),
            ("10.0.0.1", true),
            ("[fd00::1]:8080", true),
            ("[fd00::1]", true),
            ("localhost:1234", true),
            ("LOCALHOST", true),
            ("VPN.example.org:443", true),
            ("vpn.example.org.", true),
            ("fd00::1", false),
            ("[10.0.0.1]", false),
            ("evil.example", false),
            ("evil.example:8080", false),
            ("vpn.example.org.evil.example", false),
            ("localhost.evil.example", false),
            ("10.0.0.1.evil.example", false),
            ("evil.example@10.0.0.1", false),
            ("10.0.0.1:80x", false),
            ("", false),
        ] {
            assert_eq!(means_us(&headers(&[(HOST, host)]), &hosts), ours, "{host}");
        }
        assert!(!means_us(&HeaderMap::new(), &hosts));
        let twice = headers(&[(HOST, "10.0.0.1"), (HOST, "10.0.0.1")]);
        assert!(!means_us(&twice, &hosts));
    }

    #[test]
    fn forms_come_from_our_own_pages() {
        let host = (HOST, "10.0.0.1:8080");
        for (origin, own) in [
            ("http://10.0.0.1:8080", true),
            ("https://10.0.0.1:8080", true),
            ("http://10.0.0.1", false),
            ("http://10.0.0.1:8081", false),
            ("http://10.0.0.1:8080.evil.example", false),
            ("http://evil.example", false),
            ("null", false),
            ("", false),
            ("10.0.0.1:8080", false),
            ("ftp://10.0.0.1:8080", false),
        ] {
            let headers = headers(&[host.clone(), (ORIGIN, origin)]);
            assert_eq!(is_own_form(&headers), own, "{origin}");
        }
        assert!(!is_own_form(&headers(std::slice::from_ref(&host))));
        let own = (ORIGIN, "http://10.0.0.1:8080");
        for (site, fine) in [
            ("same-origin", true),
            ("none", true),
            ("same-site", false),
            ("cross-site", false),
            ("", false),
        ] {
            let headers = headers(&[host.clone(), own.clone(), (SEC_FETCH_SITE, site)]);
            assert_eq!(is_own_form(&headers), fine, "{site}");
        }
    }
}
