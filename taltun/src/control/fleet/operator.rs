//! What makes a fleet and its hubs: `taltun fleet init`, `join` and `token`. They talk with etcd
//! themselves, so that the tunnel needn't run.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use taltun_fleet::edit::{self, Outcome};
use taltun_fleet::record::{self, Extra};
use taltun_fleet::token::Right;
use taltun_fleet::{Key, Signed, Token, Trust};

use super::edits::not_made;
use super::hub::milliseconds;
use super::membership::{self, Admin, Files, Membership, random};
use super::settings::Settings;
use crate::config::{Config, Fleet};
use crate::control::state_file::wall_clock;
use crate::secret::SecretText;

/// The section to write before this machine can join.
const SECTION: &str = "the configuration has no [fleet]; write it first";

/// A token that was made.
#[derive(Debug)]
pub struct NewToken {
    /// Its text.
    pub text: SecretText,
    /// The fleet.
    pub network: String,
}

/// Makes the fleet that a configuration is in, with this hub as its first.
pub fn init(config: &Config) -> anyhow::Result<String> {
    let (fleet, files, settings) = of(config)?;
    refuse_members(&files)?;
    ensure!(
        membership::read_admin(&files)
            .map_err(anyhow::Error::msg)?
            .is_none(),
        "{} is there already: an admin's key, which another fleet may need; move it away first",
        files.admin().display()
    );
    let admin = Admin::new(None).map_err(anyhow::Error::msg)?;
    let trust = Trust::new(settings.network.clone(), admin.key.verifying_key());
    let nets = config.interface.vip.iter().map(ipnet::IpNet::trunc);
    let shared = record::Config {
        networks: nets.collect(),
        extra: Extra::new(),
    };
    let now = milliseconds();
    let shared = Signed::new(&admin.key, &settings.network, &Key::Config, now, &shared);
    let key = Key::Hub(settings.hub.clone());
    let hub = Signed::new(&admin.key, &settings.network, &key, now, &settings.says);
    // Before etcd has anything that only this key can change.
    membership::write_admin(&files, &admin, &trust).map_err(anyhow::Error::msg)?;
    let store = settings.store()?;
    let found = edit::found(&store, &settings.network, &shared, (&settings.hub, &hub));
    let outcome = run(found)?;
    match outcome {
        Ok(Outcome::Done) => {}
        Ok(_) => {
            let _ = std::fs::remove_file(files.admin());
            bail!(
                "etcd has a fleet called {} already; to add this hub to it, run `taltun fleet token \
                 {}` on one of its hubs and `taltun fleet join TOKEN` here (nothing was changed)",
                fleet.name,
                fleet.hub
            );
        }
        Err(error @ taltun_fleet::etcd::Error::Uncertain(_)) => bail!(
            "{error}; to try again, move {} away first; if `taltun fleet init` says then that etcd has \
             the fleet already, and no other hub is in one of that name, remove what is below \
             /taltun/v1/{}/ there, and repeat it",
            files.admin().display(),
            fleet.name
        ),
        Err(error) => {
            let _ = std::fs::remove_file(files.admin());
            bail!("etcd: {error} (nothing was changed)");
        }
    }
    let membership = Membership {
        trust,
        hub: settings.hub,
        token: None,
    };
    membership.write(&files).map_err(anyhow::Error::msg)?;
    Ok(format!(
        "made the fleet {} with the hub {}; its admin's key is {}: keep a copy elsewhere, as nobody \
         can change the fleet without it; `taltun fleet token NAME` makes a token for another hub",
        fleet.name,
        fleet.hub,
        files.admin().display()
    ))
}

/// Makes this machine a hub of the fleet that a token is for.
pub fn join(config: &Config, text: &str) -> anyhow::Result<String> {
    let token = Token::parse(text)?;
    let (fleet, files, settings) = of(config).map_err(|error| match config.fleet {
        None => anyhow!(
            "{error}, with name = \"{}\", hub = \"{}\" and etcd = {:?}",
            token.trust.network,
            token.hub,
            token.endpoints
        ),
        Some(_) => error,
    })?;
    refuse_members(&files)?;
    ensure!(
        token.trust.network == settings.network,
        "the token is for the fleet {}, and [fleet] says name = \"{}\"",
        token.trust.network,
        fleet.name
    );
    ensure!(
        token.hub == settings.hub,
        "the token is for the hub {}, and [fleet] says hub = \"{}\"",
        token.hub,
        fleet.hub
    );
    ensure!(
        token.expires > wall_clock(),
        "the token has expired; ask for another one: `taltun fleet token {}`",
        token.hub
    );
    membership::admin_of(&files, &token.trust)
        .map_err(|reason| anyhow!("{reason} (nothing was changed)"))?;
    let store = settings.store()?;
    let outcome = run(edit::join(&store, &token, &settings.says, milliseconds()))?;
    match outcome {
        Ok(Outcome::Done) => {}
        Ok(Outcome::NoToken) => bail!(
            "the token was used already, or has expired; ask for another one: `taltun fleet token \
             {}` (nothing was changed)",
            fleet.hub
        ),
        Ok(Outcome::Rotated) => bail!(
            "the admin's key was rotated since the token was made; ask for another one: `taltun fleet token \
             {}` (nothing was changed)",
            fleet.hub
        ),
        Ok(Outcome::Taken(_)) => bail!(
            "the fleet has a hub called {} already; choose another name (nothing was changed)",
            fleet.hub
        ),
        Err(error) => bail!("{}", not_made(&error)),
    }
    let membership = Membership {
        trust: token.trust.clone(),
        hub: settings.hub,
        token: Some(token),
    };
    membership.write(&files).map_err(anyhow::Error::msg)?;
    Ok(format!(
        "this machine is the hub {} of the fleet {}; a running tunnel with [fleet] takes its peers \
         over now",
        fleet.hub, fleet.name
    ))
}

/// What a token gives.
#[derive(Debug, Clone, Copy)]
pub struct Gives {
    /// The admin's key.
    pub admin: bool,
    /// The name of a hub that there is: who has had that is none any more.
    pub replaces: bool,
}

/// Makes a token for another hub, which can be used once.
pub fn token(
    config: &Config,
    hub: &str,
    lasting: Duration,
    gives: Gives,
) -> anyhow::Result<NewToken> {
    let (fleet, files, settings) = of(config)?;
    let hub = hub.parse().with_context(|| format!("{hub:?}"))?;
    let Some(membership) = Membership::read(&files).map_err(anyhow::Error::msg)? else {
        bail!("this hub isn't in the fleet {} itself yet", fleet.name);
    };
    let key = membership::admin_of(&files, &membership.trust).map_err(anyhow::Error::msg)?;
    let Some(key) = key else {
        bail!(
            "this hub hasn't the admin's key ({}), which signs tokens; make the token on a hub that \
             has it",
            files.admin().display()
        );
    };
    let seconds = u32::try_from(lasting.as_secs()).context("that is too long")?;
    let right = Right {
        expires: wall_clock().saturating_add(lasting.as_secs()),
        admin: gives.admin,
        generation: milliseconds(),
    };
    let seed = random().map_err(anyhow::Error::msg)?;
    let id = crate::secret::random::<16>()?;
    let made = Token::new(
        &key.key,
        membership.trust,
        hub,
        fleet.etcd.clone(),
        right,
        (*id, *seed),
    );
    let store = settings.store()?;
    let path = format!(
        "{}{}",
        taltun_fleet::key::prefix(&settings.network),
        Key::Hub(made.hub.clone())
    );
    let offer = async {
        let known = store.get(&path).await?;
        let is_removed = known
            .as_ref()
            .is_some_and(|entry| Signed::parse(&entry.value).is_ok_and(|known| known.removed));
        if (known.is_some() && !is_removed) != gives.replaces {
            return Ok(false);
        }
        edit::offer_token(&store, &made, seconds)
            .await
            .map(|()| true)
    };
    match run(offer)? {
        Ok(true) => {}
        Ok(false) if gives.replaces => {
            bail!(
                "the fleet has no hub called {}; leave out --replace",
                made.hub
            )
        }
        Ok(false) => bail!(
            "the fleet has a hub called {} already; if that one lost its disk, --replace makes a token \
             by which it joins again",
            made.hub
        ),
        Err(error) => bail!("etcd: {error}; so there is no token"),
    }
    Ok(NewToken {
        text: made.to_text().to_string().into(),
        network: fleet.name.clone(),
    })
}

pub(super) fn of(config: &Config) -> anyhow::Result<(&Fleet, Files, Settings)> {
    let fleet = config.fleet.as_ref().context(SECTION)?;
    let settings = Settings::of(fleet, &config.interface)?;
    Ok((fleet, Files::of(&config.interface.tun_name), settings))
}

fn refuse_members(files: &Files) -> anyhow::Result<()> {
    match Membership::read(files).map_err(anyhow::Error::msg)? {
        None => Ok(()),
        Some(it) => bail!(
            "this machine is the hub {} of the fleet {} already; to leave it, remove {}",
            it.hub,
            it.trust.network,
            files.dir().display()
        ),
    }
}

pub(super) fn run<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    Ok(runtime.block_on(work))
}
