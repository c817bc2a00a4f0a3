//! What makes this machine a hub of its fleet, on its disk: whom it believes, by what right it is
//! this hub, and the admin's key, if it has that.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use taltun_crypto::signing::SigningKey;
use taltun_fleet::{Label, Token, Trust};
use zeroize::Zeroizing;

use crate::control::{dirs, state_file};
use crate::crypto::KEY_LEN;

/// Bytes of such a file at the most.
const LARGEST: u64 = 64 << 10;

/// Where the files of a tunnel's fleet are.
#[derive(Debug, Clone)]
pub(super) struct Files(PathBuf);

impl Files {
    /// Of the tunnel with this interface.
    pub(super) fn of(interface: &str) -> Self {
        Self(dirs::state().join(interface).join("fleet"))
    }

    /// Their directory.
    pub(super) fn dir(&self) -> &Path {
        &self.0
    }

    fn member(&self) -> PathBuf {
        self.0.join("member.json")
    }

    /// The admin's key.
    pub(super) fn admin(&self) -> PathBuf {
        self.0.join("admin.key")
    }

    /// What was known last.
    pub(super) fn snapshot(&self) -> PathBuf {
        self.0.join("snapshot")
    }
}

/// A hub's membership.
pub(super) struct Membership {
    /// Whom it believes.
    pub trust: Trust,
    /// What it is called.
    pub hub: Label,
    /// The token that it joined by: it says by this who it is. The first hub has none.
    pub token: Option<Token>,
}

#[derive(Serialize, Deserialize)]
struct Text {
    version: u32,
    network: Label,
    hub: Label,
    admins: Vec<String>,
    token: Option<String>,
}

impl Membership {
    /// What is on the disk; `None` if this machine is no hub of a fleet yet.
    pub(super) fn read(files: &Files) -> Result<Option<Self>, String> {
        let path = files.member();
        let wrong = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
        let Some(text) = state_file::read(&path, LARGEST).map_err(|error| wrong(&error))? else {
            return Ok(None);
        };
        let text = Zeroizing::new(text);
        let text: Text = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
        if text.version != 1 {
            return Err(wrong(&"a newer Taltun wrote it"));
        }
        let admins = text.admins.iter().map(|key| key.parse());
        let admins = admins.collect::<Result<_, _>>();
        let token = text.token.map(Zeroizing::new);
        let token = token.map(|token| Token::parse(&token)).transpose();
        Ok(Some(Self {
            trust: Trust {
                network: text.network,
                admins: admins.map_err(|error| wrong(&error))?,
            },
            hub: text.hub,
            token: token.map_err(|error| wrong(&error))?,
        }))
    }

    /// Writes it.
    pub(super) fn write(&self, files: &Files) -> Result<(), String> {
        let admins = self.trust.admins.iter().map(ToString::to_string);
        let token = self.token.as_ref().map(Token::to_text);
        let text = Text {
            version: 1,
            network: self.trust.network.clone(),
            hub: self.hub.clone(),
            admins: admins.collect(),
            token: token.map(|token| token.to_string()),
        };
        let json = serde_json::to_string(&text).map_err(|error| error.to_string())?;
        write(&files.member(), &Zeroizing::new(json))
    }
}

/// The admin's key, if this hub has it.
pub(super) fn read_admin(files: &Files) -> Result<Option<SigningKey>, String> {
    let path = files.admin();
    let wrong = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let Some(text) = state_file::read(&path, LARGEST).map_err(|error| wrong(&error))? else {
        return Ok(None);
    };
    let text = Zeroizing::new(text);
    let mut seed = Zeroizing::new([0; KEY_LEN]);
    let read = base16ct::lower::decode(text.trim(), &mut *seed).map(<[u8]>::len);
    if read != Ok(KEY_LEN) {
        return Err(wrong(&"this is no admin's key"));
    }
    Ok(Some(SigningKey::from_seed(*seed)))
}

/// The same, which has to be of the fleet whose admins are these: with another one this hub would sign what
/// nobody believes.
pub(super) fn admin_of(files: &Files, trust: &Trust) -> Result<Option<SigningKey>, String> {
    let key = read_admin(files)?;
    if key
        .as_ref()
        .is_some_and(|key| !trust.admins.contains(&key.verifying_key()))
    {
        return Err(format!(
            "{} is no admin's key of the fleet {}, but perhaps the only one of another fleet; move it away",
            files.admin().display(),
            trust.network
        ));
    }
    Ok(key)
}

/// Writes the admin's key, where there is none: another one may be the only one of its fleet.
pub(super) fn write_admin(files: &Files, key: &SigningKey) -> Result<(), String> {
    if files.admin().symlink_metadata().is_ok() {
        return Err(format!("{} is there already", files.admin().display()));
    }
    let mut digits = Zeroizing::new([0; 2 * KEY_LEN]);
    let text = base16ct::lower::encode_str(key.seed(), &mut *digits);
    let text = text.map_err(|error| error.to_string())?;
    write(&files.admin(), text)
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    state_file::write(path, text).map_err(|error| {
        format!(
            "cannot write {}: {error} (TALTUN_STATE_DIR names another directory)",
            path.display()
        )
    })
}

/// 32 random bytes.
pub(super) fn random() -> Result<Zeroizing<[u8; KEY_LEN]>, String> {
    crate::secret::random().map_err(|error| error.to_string())
}
