//! Reads `[fleet]`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::document::{Field, Section};
use super::error::{ConfigError, Spot};
use super::keys::fleet;
use super::{Fleet, RangedEndpoint, values};

/// Members of etcd, or endpoints, at the most.
const MOST: usize = 16;

/// `[fleet]`, as it is in `file`.
pub(super) fn read(section: &Section, file: &str) -> Result<Fleet, ConfigError> {
    section.allow_only()?;
    let required = |key, example: &str| {
        let spot = section.spot(key);
        let missing = || spot.error(format!("missing; add such as {} = {example}", key.name));
        section.get(key).ok_or_else(missing)
    };
    let text = |key| {
        let given = section.get(key);
        given
            .map(|field| field.string().map(str::to_owned))
            .transpose()
    };
    let called = |key| match section.get(key) {
        Some(field) => {
            let name = field.string()?;
            values::label(name).map_err(|reason| field.spot().error(reason))?;
            Ok(Some(name.to_owned()))
        }
        None => Ok(None),
    };
    let path = |key| -> Result<Option<PathBuf>, ConfigError> { Ok(text(key)?.map(PathBuf::from)) };
    let (name, hub) = (called(&fleet::NAME)?, called(&fleet::HUB)?);
    let (Some(name), Some(hub)) = (name, hub) else {
        required(&fleet::NAME, "\"example\"")?;
        return Err(match required(&fleet::HUB, "\"madrid\"") {
            Err(missing) => missing,
            Ok(field) => field.spot().error("not understood"),
        });
    };
    let etcd = required(&fleet::ETCD, "[\"https://10.1.0.1:2379\"]")?;
    let members = several(etcd.one_or_list()?, &etcd.spot())?;
    if members.is_empty() {
        return Err(etcd
            .spot()
            .error("the list is empty; name the members of etcd"));
    }
    let (ca, cert, key) = (path(&fleet::CA)?, path(&fleet::CERT)?, path(&fleet::KEY)?);
    for member in &members {
        let is_tls = member.starts_with("https://");
        if !is_tls && !member.starts_with("http://") {
            return Err(etcd.spot().error(format!(
                "expected such as \"https://10.1.0.1:2379\", found {member:?}"
            )));
        }
        if is_tls && ca.is_none() {
            return Err(section.spot(&fleet::CA).error(format!(
                "missing; {member} needs the file with the authority that signed its \
                 certificate: add such as ca = \"etcd-ca.pem\""
            )));
        }
    }
    match (&cert, &key) {
        (Some(_), None) => {
            let spot = section.spot(&fleet::KEY);
            return Err(spot.error("missing; cert needs the file with its private key"));
        }
        (None, Some(_)) => {
            let spot = section.spot(&fleet::CERT);
            return Err(spot.error("missing; key needs the file with its certificate"));
        }
        _ => {}
    }
    let field = section.value(&fleet::ENDPOINT)?;
    let endpoints = several(field.one_or_list()?, &field.spot())?;
    for text in &endpoints {
        values::endpoint(text, None).map_err(|reason| field.spot().error(reason))?;
    }
    let group = called(&fleet::GROUP)?;
    let shared_address = shared_address(section, group.is_some())?;
    Ok(Fleet {
        name,
        hub,
        etcd: members,
        // Wherever the program was started.
        directory: Path::new(file).parent().unwrap_or(Path::new("")).to_owned(),
        ca,
        cert,
        key,
        endpoints,
        group,
        shared_address,
        text: Arc::default(),
    })
}

/// Where another hub says that it is reached. What isn't understood is left out.
pub fn hub_endpoints(texts: &[String]) -> Vec<RangedEndpoint> {
    let read = |text: &String| values::endpoint(text, None).ok();
    texts.iter().filter_map(read).collect()
}

/// The address that hubs of a group share.
fn shared_address(section: &Section, in_group: bool) -> Result<Option<IpAddr>, ConfigError> {
    let Some(field) = section.get(&fleet::SHARED_ADDRESS) else {
        return Ok(None);
    };
    let text = field.string()?;
    let read = text.parse::<IpAddr>().ok();
    let of_a_host = |it: &IpAddr| !it.is_unspecified() && !it.is_multicast() && !it.is_loopback();
    let address = read.filter(of_a_host).ok_or_else(|| {
        field.spot().error(format!(
            "expected an address of this host's network such as \"203.0.113.10\", found {text:?}"
        ))
    })?;
    if !in_group {
        return Err(field
            .spot()
            .error("it needs group: the hubs that share an address are those of a group"));
    }
    Ok(Some(address.to_canonical()))
}

fn several(fields: Vec<Field>, spot: &Spot) -> Result<Vec<String>, ConfigError> {
    if fields.len() > MOST {
        return Err(spot.error(format!("expected at most {MOST}, found {}", fields.len())));
    }
    let texts = fields
        .into_iter()
        .map(|field| field.string().map(str::to_owned));
    texts.collect()
}
