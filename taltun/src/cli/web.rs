//! `taltun web`

use std::time::Duration as Span;

use clap::{Args, Subcommand};

use super::duration::Duration;
use super::failure::Failure;
use super::table::table;
use super::target::Target;
use super::{human, output, secret};
use crate::control::request;
use crate::dataplane::clock;
use crate::report::{UnixTime, WebToken};

/// Make, list and end tokens for the page in the browser.
///
/// The page is where `[web]` of the configuration says. Who has a token sees the tunnel there and
/// may change it, as far as the page can. The trail of changes has the token's name.
#[derive(Args)]
pub(super) struct Web {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Token(Token),
    Tokens(Tokens),
    Revoke(Revoke),
}

/// Make a token and print it: this once, as only its hash is kept.
///
/// The token is all that goes to standard output, so that it can be taken from there.
#[derive(Args)]
struct Token {
    /// For how long: 30m, 8h, 7d; at most 3650d.
    #[arg(long = "for", value_name = "DURATION", default_value = "1h")]
    duration: Duration,

    /// What to call it, such as who gets it; without it, a number.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    #[command(flatten)]
    target: Target,
}

/// List the tokens that haven't ended.
#[derive(Args)]
struct Tokens {
    #[command(flatten)]
    target: Target,
}

/// End a token at once, and log out the browsers that are logged in by it.
#[derive(Args)]
struct Revoke {
    /// The token's name; `taltun web tokens` lists them.
    name: String,

    #[command(flatten)]
    target: Target,
}

impl Web {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.what {
            What::Token(command) => command.run(),
            What::Tokens(command) => command.run(),
            What::Revoke(command) => {
                let name = command.name;
                command.target.command(request::WebRevoke { name })
            }
        }
    }
}

impl Token {
    fn run(self) -> Result<(), Failure> {
        let seconds = self.duration.seconds;
        let name = self.name;
        let made = self.target.ask(request::WebToken { name, seconds })?;
        let places = made.listen.iter().map(|place| format!("http://{place}/"));
        let places: Vec<String> = places.collect();
        output::note(&format!(
            "token {}, for {}; it is shown only this once; log in with it at {}",
            made.name,
            human::span(seconds),
            places.join(" or ")
        ));
        secret::print(made.token.as_str())
    }
}

impl Tokens {
    fn run(self) -> Result<(), Failure> {
        let tokens = self.target.ask(request::WebTokens)?;
        let now = UnixTime::at(clock::wall());
        output::print(&render(&tokens, now))
    }
}

fn render(tokens: &[WebToken], now: UnixTime) -> String {
    if tokens.is_empty() {
        return "there are no tokens; `taltun web token` makes one\n".to_owned();
    }
    let between = |from: UnixTime, to: UnixTime| {
        let seconds = Span::try_from_secs_f64(to.seconds() - from.seconds());
        human::span(seconds.unwrap_or_default().as_secs())
    };
    let rows = tokens.iter().map(|token| {
        vec![
            token.name.clone(),
            format!("{} ago", between(token.made_at, now)),
            format!("in {}", between(now, token.ends_at)),
            human::count(token.sessions),
        ]
    });
    let rows: Vec<Vec<String>> = rows.collect();
    table(&["token", "made", "ends", "browsers"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_a_table_with_their_ends() {
        let at = |seconds| UnixTime::at(Span::from_secs(seconds));
        let token = |name: &str, sessions| WebToken {
            name: name.to_owned(),
            made_at: at(1000),
            ends_at: at(4600),
            sessions,
        };
        assert_eq!(
            render(&[token("ana", 2), token("token-1", 0)], at(1060)),
            "\
token         made       ends  browsers
ana      1 min ago  in 59 min         2
token-1  1 min ago  in 59 min         0
"
        );
        assert!(render(&[], at(0)).contains("taltun web token"));
    }
}
