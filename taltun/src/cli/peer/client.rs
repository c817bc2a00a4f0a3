//! The file of a peer, to where it is wanted: standard output, a file, a code on the terminal or in
//! a picture. Its keys are made here; the hub's process gets the public one alone.

use std::io::{IsTerminal, stdout};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use ipnet::IpNet;
use zeroize::Zeroizing;

use super::made_file::MadeFile;
use super::network::{Network, nets};
use super::told;
use crate::cli::failure::Failure;
use crate::cli::target::Target;
use crate::cli::{output, secret};
use crate::client_file::code::Code;
use crate::client_file::{self, Keys};
use crate::control::request::ClientWishes;
use crate::crypto::{PresharedKey, PrivateKey, PublicKey};
use crate::report::{ClientAccess, PeerEdited, PeerTold};
use crate::secret::SecretText;

/// Pixels of a module in a picture.
const SCALE: usize = 8;

/// What a peer's file is to be, and where.
#[derive(Args)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "flags of a command line, each by itself"
)]
pub(super) struct ClientOptions {
    /// Write the file for any WireGuard client, as wg-quick and the apps for phones read it; else it
    /// is one for Taltun.
    #[arg(long)]
    wg: bool,

    /// Show the file as a QR code in the terminal, or write it to a new picture; for phones, so it is
    /// that of --wg.
    #[arg(long, value_name = "FILE.png", num_args = 0..=1, require_equals = true,
        default_missing_value = ON_TERMINAL)]
    qr: Option<CodeTo>,

    /// Write the file to a new one that only you may read, in place of standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Where the peer reaches this hub, HOST or HOST:PORT. Default: `public_endpoint` of the
    /// hub's file; else the address that this host sends from, if it is a public one.
    #[arg(long, value_name = "HOST[:PORT]")]
    endpoint: Option<String>,

    /// What the peer is to send into the tunnel. Default: everything if the hub has [nat]; else the
    /// tunnel's subnets and networks behind other peers, or none of these if there are more than 64.
    #[arg(long, value_name = "NET", value_delimiter = ',')]
    routes: Vec<Network>,

    /// The peer's public key, if the peer has made its keys itself. Its private key has to be added to
    /// the file there.
    #[arg(long, value_name = "KEY")]
    public_key: Option<PublicKey>,

    /// Make no file: the peer has one. So there is no need to say where it reaches this hub, and its
    /// address is not chosen here. What undoes a change uses it.
    #[arg(long, requires = "public_key",
        conflicts_with_all = ["wg", "qr", "out", "endpoint", "routes", "psk"])]
    no_file: bool,

    /// Make a preshared key as well: it still protects sessions should Curve25519 ever be broken.
    #[arg(long)]
    psk: bool,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Where a code goes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum CodeTo {
    Terminal,
    Picture(PathBuf),
}

/// What stands for the terminal; a file of that name is `./-`.
const ON_TERMINAL: &str = "-";

impl FromStr for CodeTo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            ON_TERMINAL => Ok(Self::Terminal),
            path if is_picture(path) => Ok(Self::Picture(path.into())),
            _ => Err("the picture is a PNG; name a file that ends in .png".to_owned()),
        }
    }
}

/// Whether this is the name of a picture, as the code is written to one.
fn is_picture(name: &str) -> bool {
    let ending = Path::new(name).extension();
    ending.is_some_and(|ending| ending.eq_ignore_ascii_case("png"))
}

const TOO_LONG: &str = "the file is longer than a code can be; it follows as text";

/// Keys and files that are ready before anything is asked of the tunnel.
pub(super) struct Prepared {
    options: ClientOptions,
    keys: Keys,
    public_key: PublicKey,
    out: Option<MadeFile>,
    picture: Option<MadeFile>,
}

impl ClientOptions {
    /// Whether there is a key that nobody can get a second time.
    fn has_secret(&self) -> bool {
        !self.no_file && (self.public_key.is_none() || self.psk)
    }

    /// Whether the file, or a code of it, goes to standard output.
    fn wants_stdout(&self) -> bool {
        let in_picture = matches!(self.qr, Some(CodeTo::Picture(_)));
        match self.out {
            Some(_) => self.qr == Some(CodeTo::Terminal),
            None => self.json || !in_picture,
        }
    }

    /// Makes the keys and the files of the peer that is called so.
    pub(super) fn prepare(self, peer: &str) -> Result<Prepared, Failure> {
        if self.qr == Some(CodeTo::Terminal) && is_picture(peer) {
            return Err(Failure::Usage(format!(
                "{peer} would be the peer's name; a picture's follows an equals sign: --qr={peer}"
            )));
        }
        if self.qr.is_some() && self.public_key.is_some() {
            return Err(Failure::Usage(
                "a code needs the peer's private key, which only the peer has with --public-key; \
                 leave out one of --qr and --public-key"
                    .to_owned(),
            ));
        }
        if self.json && self.qr == Some(CodeTo::Terminal) {
            return Err(Failure::Usage(
                "a code can't stand in JSON; write --qr=FILE.png for a picture".to_owned(),
            ));
        }
        if self.has_secret() && self.wants_stdout() && output::is_nowhere() {
            return Err(Failure::Other(format!(
                "{}, so nobody would get the peer's file, which is printed once; name a file by \
                 --out FILE (nothing was changed)",
                output::NOWHERE
            )));
        }
        if let (Some(CodeTo::Picture(picture)), Some(out)) = (&self.qr, &self.out)
            && picture == out
        {
            return Err(Failure::Usage(
                "--qr and --out name the same file; give each its own (nothing was changed)"
                    .to_owned(),
            ));
        }
        let create = |path: &PathBuf| MadeFile::create(path);
        let picture = match &self.qr {
            Some(CodeTo::Picture(path)) => Some(path),
            Some(CodeTo::Terminal) | None => None,
        };
        let (private_key, public_key) = if let Some(key) = self.public_key {
            (None, key)
        } else {
            let key = PrivateKey::from_bytes(*secret::random()?);
            let public = key.public_key();
            (Some(key), public)
        };
        let preshared_key = self.psk.then(secret::random).transpose()?;
        let keys = Keys {
            private_key,
            preshared_key: preshared_key.map(|bytes| PresharedKey(*bytes)),
        };
        if self.qr.is_some() && is_too_long(nets(&self.routes), &keys) {
            return Err(Failure::Usage(format!(
                "a file with {} routes is longer than a code can be; leave out --qr, or give \
                 fewer --routes (nothing was changed)",
                self.routes.len()
            )));
        }
        Ok(Prepared {
            keys,
            public_key,
            out: self.out.as_ref().map(create).transpose()?,
            picture: picture.map(create).transpose()?,
            options: self,
        })
    }
}

impl Prepared {
    /// The peer's public key.
    pub(super) fn public_key(&self) -> String {
        self.public_key.to_string()
    }

    /// The key that both sides share, if there is to be one.
    pub(super) fn preshared_key(&self) -> Option<SecretText> {
        let key = self.keys.preshared_key.as_ref()?;
        let mut text = key.to_base64();
        Some(SecretText::from(std::mem::take(&mut *text)))
    }

    /// What the file is to say.
    pub(super) fn wishes(&self) -> ClientWishes {
        ClientWishes {
            endpoint: self.options.endpoint.clone(),
            routes: nets(&self.options.routes),
            is_there: self.options.no_file,
        }
    }

    /// Writes and shows what was asked for. The peer is there by now, whatever becomes of this.
    pub(super) fn deliver(mut self, edited: &PeerEdited, target: &Target) -> Result<(), Failure> {
        if self.options.no_file {
            return told::tell(edited, self.options.json);
        }
        let Some(access) = &edited.client else {
            return Err(Failure::Other(
                "the tunnel told nothing about itself; it is of another version".to_owned(),
            ));
        };
        let for_phones = self.options.qr.is_some();
        let text = if self.options.wg || for_phones {
            client_file::wg_quick(access, &self.keys)
        } else {
            client_file::toml(access, &self.keys)
        };
        let lost = |reason: &str| lost(edited, reason, target);
        let is_a_picture = self.write(&text).map_err(|reason| lost(&reason))?;
        if self.options.json {
            let file = self.out.is_none().then_some(text.as_str());
            let text = Zeroizing::new(output::json_text(&PeerTold { edited, file })?);
            if file.is_none() || !self.options.has_secret() {
                return output::print(&text);
            }
            return handed_out(output::print_once(&text), lost);
        }
        told::note(edited);
        guess(access);
        let picture = self.picture.as_ref().filter(|_| is_a_picture);
        for file in [self.out.as_ref(), picture].into_iter().flatten() {
            output::note(&format!("written to {}", file.path().display()));
        }
        if let Some(path) = self.options.out.as_deref().filter(|path| is_unfit(path)) {
            output::warn(&format!(
                "wg-quick and the WireGuard apps don't take a file of the name {}: call it {}.conf; \
                 they take {}",
                path.display(),
                client_file::stem(&path.file_stem().unwrap_or_default().to_string_lossy()),
                client_file::TAKEN_NAMES
            ));
        }
        let shown = match self.options.qr {
            Some(CodeTo::Terminal) => shown(&text, &again(edited, &self.options), target),
            Some(CodeTo::Picture(_)) | None => None,
        };
        let printed = match shown {
            Some(code) => output::print_once(&code),
            None if self.out.is_some() || is_a_picture => return Ok(()),
            None if !self.options.has_secret() => return secret::print_file(&text),
            None => secret::print_once(&text),
        };
        handed_out(printed, lost)
    }

    /// Writes what is to be written; false if there is no picture, as the text is too long for one.
    fn write(&mut self, text: &str) -> Result<bool, String> {
        if let Some(out) = &mut self.out {
            out.write(text.as_bytes())?;
        }
        let Some(picture) = &mut self.picture else {
            return Ok(false);
        };
        let Some(code) = Code::of(text) else {
            let beside = picture.path().with_extension("conf");
            return self.write_text(text, &beside).map(|()| false);
        };
        picture.write(&Zeroizing::new(code.png(SCALE)))?;
        Ok(true)
    }

    /// Writes the text that is too long for a picture to a file, if it isn't in one yet: nobody asked
    /// for it on standard output. Where that can't be, it is printed all the same.
    fn write_text(&mut self, text: &str, beside: &Path) -> Result<(), String> {
        if self.out.is_some() {
            output::warn("the file is longer than a code can be, so there is no picture");
            return Ok(());
        }
        let Ok(mut file) = MadeFile::create(beside) else {
            output::warn(TOO_LONG);
            return Ok(());
        };
        output::warn("the file is longer than a code can be: it is written as text");
        file.write(text.as_bytes())?;
        self.out = Some(file);
        Ok(())
    }
}

/// Whether a file for WireGuard has a name that WireGuard's tools refuse.
fn is_unfit(path: &Path) -> bool {
    let stem = path.file_stem().unwrap_or_default().to_str();
    let is_conf = path.extension().is_some_and(|ending| ending == "conf");
    is_conf && !stem.is_some_and(client_file::is_taken)
}

/// What became of printing a file: the only one that there is of these keys.
fn handed_out(printed: Result<(), Failure>, lost: impl Fn(&str) -> Failure) -> Result<(), Failure> {
    printed.map_err(|failure| lost(&failure.to_string()))
}

/// The peer is changed, and nobody has its new key.
fn lost(edited: &PeerEdited, reason: &str, target: &Target) -> Failure {
    Failure::Other(target.advice(&format!(
        "{}, but its file is lost: {reason}; for another one: `taltun peer rotate {}`; to undo it: {}",
        edited.done,
        plain_name(edited),
        edited.undo
    )))
}

/// Whether a file that has at least these routes and keys is too long for a code.
fn is_too_long(routes: Vec<IpNet>, keys: &Keys) -> bool {
    let least = ClientAccess {
        addresses: Vec::new(),
        hub_public_key: PublicKey([0; 32]).to_string(),
        hub_addresses: Vec::new(),
        endpoint: String::new(),
        plain_endpoint: String::new(),
        endpoint_is_guess: false,
        routes,
        dns: Vec::new(),
        mtu: None,
        persistent_keepalive: 0,
    };
    Code::of(&client_file::wg_quick(&least, keys)).is_none()
}

/// Warns where nobody said where the hub is.
fn guess(access: &ClientAccess) {
    if access.endpoint_is_guess {
        output::warn(&format!(
            "nobody said where clients reach this hub, so the file has {}, an address of this host; \
             --endpoint names another place, public_endpoint in [interface] does so for good",
            access.plain_endpoint
        ));
    }
}

/// The command that makes a code for this peer, which is there by now. What a shell would take apart is named
/// by its key.
fn again(edited: &PeerEdited, options: &ClientOptions) -> String {
    let endpoint = match &options.endpoint {
        Some(_) => " --endpoint …",
        None => "",
    };
    let peer = plain_name(edited);
    format!("taltun peer rotate {peer}{endpoint} --qr")
}

/// The name of a peer as a shell takes it, or else its key.
fn plain_name(edited: &PeerEdited) -> &str {
    let is_plain = |text: &&str| {
        let plain = |c: char| c.is_alphanumeric() || "._-".contains(c);
        !text.starts_with('-') && text.chars().all(plain)
    };
    let name = edited.name.as_deref().filter(is_plain);
    name.unwrap_or(&edited.public_key)
}

/// The code for this terminal. Where that can't be, it says why, and the text is printed; `again` is what
/// makes another code.
fn shown(text: &str, again: &str, target: &Target) -> Option<Zeroizing<String>> {
    let out = stdout();
    if !out.is_terminal() {
        output::warn("standard output is no terminal, so it gets the file and no code");
        return None;
    }
    let Some(code) = Code::of(text) else {
        output::warn(TOO_LONG);
        return None;
    };
    let size = match rustix::termios::tcgetwinsize(&out) {
        // A line that doesn't tell its size may be of any.
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (usize::MAX, usize::MAX),
    };
    let plain = |variable: &str, value: Option<&str>| {
        let found = std::env::var(variable).unwrap_or_default();
        value.map_or(!found.is_empty(), |value| found == value)
    };
    let colours = !plain("NO_COLOR", None) && !plain("TERM", Some("dumb"));
    match code.terminal(size, colours) {
        Ok(shown) => Some(Zeroizing::new(shown)),
        Err(too_large) => {
            let ((columns, lines), (width, height)) = (size, too_large.needed);
            output::warn(&target.advice(&format!(
                "the code takes {width} columns and {height} lines, and this terminal has {columns} \
                 and {lines}; the file follows as text. For a code: enlarge the terminal, then \
                 `{again}`; or `{again}=FILE.png` for a picture. Either gives the peer another key"
            )));
            None
        }
    }
}
