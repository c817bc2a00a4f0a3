//! `taltun web`

use std::time::Duration as Span;

use clap::{Args, Subcommand};

use super::duration::Duration;
use super::failure::Failure;
use super::grid::{Cell, Column, grid};
use super::screen::Screen;
use super::target::Target;
use super::width::printable;
use super::{human, output, secret};
use crate::control::{ControlError, request};
use crate::dataplane::clock;
use crate::report::{UnixTime, WebToken};
use crate::system::for_the_shell;

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
        if output::is_nowhere() {
            let nowhere = output::NOWHERE;
            return Err(Failure::Other(format!("{nowhere}: no token was made")));
        }
        let seconds = self.duration.seconds;
        let name = self.name;
        let asked = request::WebToken {
            name: name.clone(),
            seconds,
        };
        let made = self.target.ask(asked).map_err(|error| match error {
            ControlError::Answer { .. } | ControlError::NoAnswer { .. } => {
                Failure::Other(self.target.advice(&unanswered(&error, name.as_deref())))
            }
            error => error.into(),
        })?;
        let places = made.listen.iter().map(|place| format!("http://{place}/"));
        let places: Vec<String> = places.collect();
        output::note(&format!(
            "token {}, for {}; it is shown only this once; log in with it at {}",
            made.name,
            human::span(seconds),
            places.join(" or ")
        ));
        secret::print(made.token.as_str()).map_err(|failure| {
            let name = made.name;
            let ended = self.target.ask(request::WebRevoke { name: name.clone() });
            Failure::Other(match ended {
                Ok(_) => format!("{failure}; the token {name} was ended again"),
                Err(error) => format!(
                    "{failure}, and nobody has the token {name}, which can't be ended now: {error}"
                ),
            })
        })
    }
}

impl Tokens {
    fn run(self) -> Result<(), Failure> {
        let tokens = self.target.ask(request::WebTokens)?;
        let now = UnixTime::at(clock::wall());
        let text = render(&tokens, now, &Screen::of_stdout());
        if tokens.is_empty() {
            // It says what makes one.
            return output::print(&self.target.advice(&text));
        }
        output::print(&text)
    }
}

/// What to say when nobody knows whether there is a token.
fn unanswered(error: &ControlError, name: Option<&str>) -> String {
    let name = name.map_or_else(|| "NAME".into(), for_the_shell);
    format!(
        "{error}; whether a token was made isn't known: `taltun web tokens` lists it then, once the \
         tunnel answers, and `taltun web revoke {name}` ends it, as nobody has it"
    )
}

const COLUMNS: &[Column] = &[
    Column::text("TOKEN", 0).cut_to(10),
    Column::number("MADE", 1),
    Column::number("ENDS", 0),
    Column::number("BROWSERS", 2),
];

fn render(tokens: &[WebToken], now: UnixTime, screen: &Screen) -> String {
    if tokens.is_empty() {
        return "there are no tokens; `taltun web token` makes one\n".to_owned();
    }
    let between = |from: UnixTime, to: UnixTime| {
        let seconds = Span::try_from_secs_f64(to.seconds() - from.seconds());
        human::span(seconds.unwrap_or_default().as_secs())
    };
    let rows = tokens.iter().map(|token| {
        vec![
            printable(&token.name).into_owned().into(),
            format!("{} ago", between(token.made_at, now)).into(),
            format!("in {}", between(now, token.ends_at)).into(),
            human::count(token.sessions).into(),
        ]
    });
    let rows: Vec<Vec<Cell>> = rows.collect();
    grid(COLUMNS, &rows, screen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_may_be_there_is_told_with_what_ends_it() {
        let error = ControlError::NoAnswer {
            path: "/run/taltun/hub.sock".into(),
            seconds: 15,
        };
        for (name, expected) in [
            (Some("ana"), "`taltun web revoke ana`"),
            (None, "`taltun web revoke NAME`"),
        ] {
            let said = unanswered(&error, name);
            assert!(said.contains("isn't known"), "{said}");
            assert!(said.contains(expected), "{said}");
        }
    }

    #[test]
    fn tokens_are_a_table_with_their_ends() {
        let at = |seconds| UnixTime::at(Span::from_secs(seconds));
        let token = |name: &str, sessions| WebToken {
            name: name.to_owned(),
            made_at: at(1000),
            ends_at: at(4600),
            sessions,
        };
        let tokens = [token("ana", 2), token("token-1", 0)];
        assert_eq!(
            render(&tokens, at(1060), &Screen::NONE),
            "\
TOKEN         MADE       ENDS  BROWSERS
ana      1 min ago  in 59 min         2
token-1  1 min ago  in 59 min         0
"
        );
        assert!(render(&[], at(0), &Screen::NONE).contains("taltun web token"));
    }
}
