//! `taltun fleet export` and `import`: the records of a fleet as a text, and back. They talk with etcd themselves, so
//! that the tunnel needn't run.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use taltun_fleet::edit::{self, Outcome};
use taltun_fleet::export::{self, Export};
use taltun_fleet::key::prefix;
use taltun_fleet::record::Peer;
use taltun_fleet::{Key, Ledger, Refusal, Signed, Store, Trust, Verdict, etcd, snapshot};

use super::edits::not_made;
use super::hub::milliseconds;
use super::membership::{self, Files, Membership};
use super::operator::{of, run};
use super::settings::Settings;
use crate::config::Config;
use crate::control::state_file::wall_clock;

/// An export, and what to say about it.
#[derive(Debug)]
pub struct Exported {
    /// The text.
    pub text: String,
    /// Why it may not be all.
    pub warning: Option<String>,
}

/// What became of an import.
#[derive(Debug, Default)]
pub struct Imported {
    /// In a sentence.
    pub done: String,
    /// What wasn't taken, a sentence each.
    pub refused: Vec<String>,
}

/// How often a record is tried, and the pause between.
const TRIES: usize = 5;
const AGAIN: Duration = Duration::from_secs(1);
/// Records that are told one by one, at the most.
const MOST_TOLD: usize = 8;

/// All that is known of the fleet here and in etcd.
pub fn export(config: &Config) -> anyhow::Result<Exported> {
    let (fleet, files, settings) = of(config)?;
    let Some(membership) = Membership::read(&files).map_err(anyhow::Error::msg)? else {
        bail!("this hub isn't in the fleet {} itself yet", fleet.name);
    };
    let mut ledger = on_disk(&files, membership.trust);
    let store = settings.store()?;
    let listed = run(offer_all(&store, &mut ledger))?;
    let warning = listed
        .err()
        .map(|error| format!("etcd: {error}; so it is what this hub saved last on its disk"));
    ensure!(
        ledger.all().next().is_some(),
        "nothing is known of the fleet here, and etcd doesn't answer"
    );
    Ok(Exported {
        text: export::write(&ledger),
        warning,
    })
}

/// Gives etcd what it doesn't have of an export. What is known here or there and is newer stays.
pub fn import(config: &Config, text: &str) -> anyhow::Result<Imported> {
    let (fleet, files, settings) = of(config)?;
    let exported = export::read(text)?;
    ensure!(
        exported.trust.network == settings.network,
        "the export is of the fleet {}, and [fleet] says name = \"{}\"",
        exported.trust.network,
        fleet.name
    );
    let membership = Membership::read(&files).map_err(anyhow::Error::msg)?;
    let trust = match &membership {
        Some(membership) => membership.trust.clone(),
        None => trusted(&exported, &files)?,
    };
    let store = settings.store()?;
    let mut ledger = on_disk(&files, trust);
    run(async {
        offer_all(&store, &mut ledger).await?;
        let mut imported = Imported::default();
        take_all(&store, &mut ledger, exported, &mut imported).await?;
        if membership.is_none() {
            begin_again(&store, &mut ledger, &settings, &files).await?;
            imported.done = format!(
                "{}; this machine is the hub {} of the fleet {}",
                imported.done, fleet.hub, fleet.name
            );
        }
        Ok(imported)
    })?
}

/// Whom an export is by, where this machine is no hub yet, but has the admin's key.
fn trusted(exported: &Export, files: &Files) -> anyhow::Result<Trust> {
    let admin = membership::admin_of(files, &exported.trust).map_err(anyhow::Error::msg)?;
    let Some(admin) = admin else {
        bail!(
            "this machine is no hub of the fleet {}: `taltun fleet join` makes it one; if all hubs are lost, put the \
             copy of the admin's key where it was, {}, and try again (nothing was changed)",
            exported.trust.network,
            files.admin().display()
        );
    };
    // Whom else the text names may be made up: nobody signed that.
    let network = exported.trust.network.clone();
    Ok(Trust::new(network, admin.key.verifying_key()))
}

/// What this hub saved last.
fn on_disk(files: &Files, trust: Trust) -> Ledger {
    let loaded = snapshot::load(&files.snapshot(), trust.clone(), wall_clock());
    loaded.map_or_else(|_| Ledger::new(trust), |loaded| loaded.ledger)
}

async fn offer_all(store: &Store, ledger: &mut Ledger) -> Result<(), etcd::Error> {
    let prefix = prefix(&ledger.trust().network);
    for entry in store.list(&prefix).await?.entries {
        if let Some(key) = etcd::key_of(&entry.key, &prefix)
            && key.is_signed()
        {
            ledger.offer(&key, &entry.value);
        }
    }
    Ok(())
}

async fn take_all(
    store: &Store,
    ledger: &mut Ledger,
    exported: Export,
    imported: &mut Imported,
) -> anyhow::Result<()> {
    let (mut written, mut known, mut refused) = (0, 0, 0);
    for (key, signed) in exported.records {
        let why = match ledger.take(&key, signed.clone()) {
            Verdict::New => match write_surely(store, ledger.trust(), &key, &signed).await {
                Ok(None) => {
                    written += 1;
                    continue;
                }
                Ok(Some(why)) => why,
                Err(error) => bail!(
                    "{}; {written} records were written before",
                    not_made(&error)
                ),
            },
            Verdict::Same | Verdict::Older => {
                known += 1;
                continue;
            }
            Verdict::Refused(Refusal::Former) => {
                "it is signed by an admin's key that was rotated away since the export".to_owned()
            }
            Verdict::Refused(refusal) => refusal.to_string(),
        };
        refused += 1;
        if refused <= MOST_TOLD {
            imported
                .refused
                .push(format!("the record {key} isn't taken: {why}"));
        }
    }
    if refused > MOST_TOLD {
        let more = refused - MOST_TOLD;
        imported
            .refused
            .push(format!("{more} more records aren't taken"));
    }
    imported.done = format!(
        "wrote {written} records to etcd; {known} were known already, or are newer there or here"
    );
    Ok(())
}

/// The same as [`write()`], again where etcd is slow: somebody waits for thousands of records, not for one.
async fn write_surely(
    store: &Store,
    trust: &Trust,
    key: &Key,
    signed: &Signed,
) -> Result<Option<String>, etcd::Error> {
    for _ in 1..TRIES {
        if let Ok(done) = write(store, trust, key, signed).await {
            return Ok(done);
        }
        tokio::time::sleep(AGAIN).await;
    }
    write(store, trust, key, signed).await
}

/// Writes a record; a peer's with its name and its addresses. Why it wasn't, if that isn't etcd's fault.
async fn write(
    store: &Store,
    trust: &Trust,
    key: &Key,
    signed: &Signed,
) -> Result<Option<String>, etcd::Error> {
    let peer = signed.record::<Peer>().and_then(Result::ok);
    if let (Key::Peer(public_key), Some(peer)) = (key, peer) {
        let network = &trust.network;
        return Ok(
            match edit::add_peer(store, network, *public_key, &peer, signed).await? {
                // It is there in an older form, with its name and addresses.
                Outcome::Taken(keys) if keys == [key.clone()] => {
                    edit::write_again(store, trust, key, signed).await?;
                    None
                }
                Outcome::Taken(keys) => {
                    let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
                    Some(format!("another peer has {}", keys.join(" and ")))
                }
                _ => None,
            },
        );
    }
    edit::write_again(store, trust, key, signed).await?;
    Ok(None)
}

/// Makes this machine the first hub again, where all hubs are lost.
async fn begin_again(
    store: &Store,
    ledger: &mut Ledger,
    settings: &Settings,
    files: &Files,
) -> anyhow::Result<()> {
    let trust = ledger.trust().clone();
    let admin = membership::admin_of(files, &trust).map_err(anyhow::Error::msg)?;
    let admin = admin.context("the admin's key is gone")?;
    let generation = ledger.next_generation(milliseconds());
    let generation =
        generation.context("the fleet's records have reached their last generation")?;
    let key = Key::Hub(settings.hub.clone());
    let hub = Signed::new(&admin.key, &trust.network, &key, generation, &settings.says);
    // Its admin is the first one again, as nothing but the text knows of those before.
    edit::forget_rotations(store, &trust.network).await?;
    edit::write_again(store, &trust, &key, &hub).await?;
    let membership = Membership {
        trust,
        hub: settings.hub.clone(),
        token: None,
    };
    membership.write(files).map_err(anyhow::Error::msg)
}
