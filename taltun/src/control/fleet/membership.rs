//! What makes this machine a hub of its fleet, on its disk: whom it believes, by what right it is
//! this hub, and the admin's key, if it has that, or is about to replace it.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use taltun_crypto::signing::SigningKey;
use taltun_fleet::{Label, Token, Trust};
use zeroize::Zeroizing;

use crate::control::{dirs, state_file};
use crate::crypto::KEY_LEN;

/// Bytes of such a file at the most.
const LARGEST: u64 = 64 << 10;
/// What is wrong with a file that should have the admin's key.
const NO_KEY: &str = "this is no admin's key";

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

    /// The admin's key that is to be the next one, until all know it.
    pub(super) fn next_admin(&self) -> PathBuf {
        self.0.join("admin.next")
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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    former: Vec<String>,
    token: Option<String>,
}

impl Membership {
    /// What is on the disk; `None` if this machine is no hub of a fleet yet.
    pub(super) fn read(files: &Files) -> Result<Option<Self>, String> {
        let path = files.member();
        let wrong = |why: &dyn Display| wrong(&path, why);
        let Some(text) = read(&path)? else {
            return Ok(None);
        };
        let text: Text = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
        if text.version != 1 {
            return Err(wrong(&"a newer Taltun wrote it"));
        }
        let admins = text.admins.iter().map(|key| key.parse());
        let admins = admins.collect::<Result<_, _>>();
        let former = text.former.iter().map(|key| key.parse());
        let former = former.collect::<Result<_, _>>();
        let token = text.token.map(Zeroizing::new);
        let token = token.map(|token| Token::parse(&token)).transpose();
        Ok(Some(Self {
            trust: Trust {
                network: text.network,
                admins: admins.map_err(|error| wrong(&error))?,
                former: former.map_err(|error| wrong(&error))?,
            },
            hub: text.hub,
            token: token.map_err(|error| wrong(&error))?,
        }))
    }

    /// Writes it.
    pub(super) fn write(&self, files: &Files) -> Result<(), String> {
        let admins = self.trust.admins.iter().map(ToString::to_string);
        let former = self.trust.former.iter().map(ToString::to_string);
        let token = self.token.as_ref().map(Token::to_text);
        let text = Text {
            version: 1,
            network: self.trust.network.clone(),
            hub: self.hub.clone(),
            admins: admins.collect(),
            former: former.collect(),
            token: token.map(|token| token.to_string()),
        };
        let json = serde_json::to_string(&text).map_err(|error| error.to_string())?;
        write(&files.member(), &Zeroizing::new(json))
    }
}

/// The admin's key.
pub(super) struct Admin {
    /// What it signs with.
    pub key: SigningKey,
    /// What the keys of groups are made of. It is the seed of the fleet's first admin's key, until somebody asks for
    /// other keys of groups.
    pub groups: Zeroizing<[u8; KEY_LEN]>,
}

impl Admin {
    /// A new one. The keys of groups are made of `groups`, or of itself.
    pub(super) fn new(groups: Option<&[u8; KEY_LEN]>) -> Result<Self, String> {
        let seed = random()?;
        Ok(Self::with(SigningKey::from_seed(*seed), groups))
    }

    /// The same with a key that was made before.
    pub(super) fn with(key: SigningKey, groups: Option<&[u8; KEY_LEN]>) -> Self {
        let groups = Zeroizing::new(*groups.unwrap_or(key.seed()));
        Self { key, groups }
    }

    /// As it is sealed for a hub: the second half is left out where it is the first one again.
    pub(super) fn secret(&self) -> Zeroizing<Vec<u8>> {
        let mut secret = Zeroizing::new(self.key.seed().to_vec());
        if self.groups[..] != self.key.seed()[..] {
            secret.extend_from_slice(&*self.groups);
        }
        secret
    }

    /// What [`Self::secret`] was.
    pub(super) fn of_secret(secret: &[u8]) -> Option<Self> {
        let (seed, groups) = secret.split_first_chunk::<KEY_LEN>()?;
        let groups = match groups {
            [] => *seed,
            groups => groups.try_into().ok()?,
        };
        Some(Self {
            key: SigningKey::from_seed(*seed),
            groups: Zeroizing::new(groups),
        })
    }

    fn to_text(&self) -> Result<Zeroizing<String>, String> {
        let secret = self.secret();
        let mut digits = Zeroizing::new(vec![0; 2 * secret.len()]);
        let text = base16ct::lower::encode_str(&secret, &mut digits);
        let text = text.map_err(|error| error.to_string())?;
        Ok(Zeroizing::new(text.to_owned()))
    }

    fn of_text(text: &str) -> Option<Self> {
        let text = text.trim();
        let mut secret = Zeroizing::new(vec![0; text.len() / 2]);
        base16ct::lower::decode(text, &mut secret).ok()?;
        Self::of_secret(&secret)
    }
}

/// The admin's key that is to be the next one, and who isn't to be a hub any more then.
pub(super) struct NextAdmin {
    pub admin: Admin,
    pub without: Vec<Label>,
}

#[derive(Serialize, Deserialize)]
struct NextText {
    key: String,
    without: Vec<Label>,
}

impl NextAdmin {
    /// What is on the disk, if it is.
    pub(super) fn read(files: &Files) -> Result<Option<Self>, String> {
        let path = files.next_admin();
        let Some(text) = read(&path)? else {
            return Ok(None);
        };
        let text: NextText = serde_json::from_str(&text).map_err(|error| wrong(&path, &error))?;
        let admin = Admin::of_text(&Zeroizing::new(text.key));
        Ok(Some(Self {
            admin: admin.ok_or_else(|| wrong(&path, &NO_KEY))?,
            without: text.without,
        }))
    }

    /// Writes it.
    pub(super) fn write(&self, files: &Files) -> Result<(), String> {
        let text = NextText {
            key: self.admin.to_text()?.to_string(),
            without: self.without.clone(),
        };
        let json = Zeroizing::new(serde_json::to_string(&text).map_err(|error| error.to_string())?);
        drop(Zeroizing::new(text.key));
        write(&files.next_admin(), &json)
    }

    /// Takes it from the disk.
    pub(super) fn remove(files: &Files) {
        // One that is left there is no admin's and does nothing.
        let _ = std::fs::remove_file(files.next_admin());
    }
}

/// The admin's key, if this hub has it.
pub(super) fn read_admin(files: &Files) -> Result<Option<Admin>, String> {
    let path = files.admin();
    let Some(text) = read(&path)? else {
        return Ok(None);
    };
    let admin = Admin::of_text(&text);
    admin.map(Some).ok_or_else(|| wrong(&path, &NO_KEY))
}

/// The same, which has to be of the fleet whose admins are these: with another one this hub would sign what
/// nobody believes. One that was rotated away is none.
pub(super) fn admin_of(files: &Files, trust: &Trust) -> Result<Option<Admin>, String> {
    let Some(admin) = read_admin(files)? else {
        return Ok(None);
    };
    let key = admin.key.verifying_key();
    if trust.admins.contains(&key) {
        return Ok(Some(admin));
    }
    if trust.former.contains(&key) {
        return Ok(None);
    }
    Err(format!(
        "{} is no admin's key of the fleet {}, but perhaps the only one of another fleet; move it away",
        files.admin().display(),
        trust.network
    ))
}

/// Writes the admin's key, where there is none, or one that was this fleet's before: another one may be the only one
/// of its fleet.
pub(super) fn write_admin(files: &Files, admin: &Admin, trust: &Trust) -> Result<(), String> {
    let is_there = files.admin().symlink_metadata().is_ok();
    let is_ours = || {
        let known = read_admin(files).ok().flatten();
        let known = known.map(|known| known.key.verifying_key());
        known.is_some_and(|known| {
            trust.former.contains(&known) || known == admin.key.verifying_key()
        })
    };
    if is_there && !is_ours() {
        return Err(format!("{} is there already", files.admin().display()));
    }
    write(&files.admin(), &admin.to_text()?)
}

/// What is in one of these files; `None` if there is none.
fn read(path: &Path) -> Result<Option<Zeroizing<String>>, String> {
    let text = state_file::read(path, LARGEST).map_err(|error| wrong(path, &error))?;
    Ok(text.map(Zeroizing::new))
}

fn wrong(path: &Path, why: &dyn Display) -> String {
    format!("{}: {why}", path.display())
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    state_file::write_durably(path, text).map_err(|error| {
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
