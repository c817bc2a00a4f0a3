//! Which page or change a request is about. Whoever isn't logged in sees the login alone.

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::body::Incoming;
use hyper::header::{ACCEPT_LANGUAGE, REFERER};
use hyper::{HeaderMap, Method, Request, StatusCode};

use super::asked::{Reply, Verb, Who};
use super::changes::{self, Notice};
use super::guard;
use super::hub::{Browser, Hub, Nothing};
use super::live;
use super::new_peer;
use super::once::{self, Once};
use super::pages::{self, Frame, Query, UsageOf};
use super::patience::Patience;
use super::reports::Reports;
use super::request::{Fields, NO_FIELDS, NoForm, cookie, form, text};
use super::response::{self, Answer, asset, page, plain, see};
use super::words::{Language, refusal};
use crate::report::Usage;

/// The cookie with the secret of a session.
const SESSION: &str = "taltun";
/// The cookie with the language that somebody chose, and for how long, seconds.
const LANGUAGE: &str = "taltun-language";
const LANGUAGE_KEPT: u64 = 365 * 24 * 3600;
/// What became of changes, at the most, before the page is seen that tells it.
const NOTICES: usize = 256;

/// All that answers are made of.
#[derive(Debug)]
pub(super) struct Site {
    hub: Hub,
    reports: Arc<Reports>,
    /// Names of ours.
    hosts: Vec<String>,
    /// What became of a session's last change, by the session's form.
    notices: Mutex<HashMap<String, Notice>>,
    /// Forms that made keys.
    done: Once,
}

/// What is known of a request from the start.
struct Asking {
    path: String,
    query: Fields,
    headers: HeaderMap,
    browser: Browser,
    language: Language,
}

impl Site {
    pub(super) fn new(hub: Hub, hosts: Vec<String>) -> Self {
        Self {
            hub,
            reports: Arc::default(),
            hosts,
            notices: Mutex::default(),
            done: Once::default(),
        }
    }

    /// The answer to a request from there.
    pub(super) async fn respond(
        &self,
        request: Request<Incoming>,
        source: IpAddr,
        patience: Patience,
    ) -> Answer {
        let (head, body) = request.into_parts();
        if !guard::means_us(&head.headers, &self.hosts) {
            return plain(
                StatusCode::MISDIRECTED_REQUEST,
                "This page is asked for by an address or a name that the configuration has \
                 (web.hosts).\n",
            );
        }
        let asking = Asking {
            path: head.uri.path().to_owned(),
            query: Fields::of(head.uri.query().unwrap_or_default().as_bytes()),
            browser: Browser {
                session: cookie(&head.headers, SESSION).map(|it| it.to_owned().into()),
                source,
            },
            language: language(&head.headers),
            headers: head.headers,
        };
        match head.method {
            Method::GET | Method::HEAD => self.get(&asking, patience).await,
            Method::POST => {
                if !guard::is_own_form(&asking.headers) {
                    let words = asking.language.words();
                    return asking.sorry(StatusCode::FORBIDDEN, words.foreign_request);
                }
                let words = asking.language.words();
                match form(body).await {
                    Ok(form) => self.post(&asking, &form).await,
                    Err(NoForm::TooLong) => {
                        asking.sorry(StatusCode::PAYLOAD_TOO_LARGE, words.too_large)
                    }
                    Err(NoForm::TooSlow) => {
                        asking.sorry(StatusCode::REQUEST_TIMEOUT, words.too_slow)
                    }
                }
            }
            _ => plain(StatusCode::METHOD_NOT_ALLOWED, "only GET, HEAD and POST\n"),
        }
    }

    /// What peers moved, or one of them; `None` if that is nothing, or it is gone.
    async fn usage(&self, asking: &Asking, peer: Option<String>) -> Option<Box<Usage>> {
        match self.hub.ask(&asking.browser, Verb::Usage(peer)).await {
            Ok(Reply::Usage(usage)) => Some(usage),
            _ => None,
        }
    }

    async fn get(&self, asking: &Asking, patience: Patience) -> Answer {
        match asking.path.as_str() {
            "/style.css" => return asset("text/css; charset=utf-8", pages::STYLE),
            "/script.js" => return asset("text/javascript; charset=utf-8", pages::SCRIPT),
            "/icon.svg" => return asset("image/svg+xml", pages::ICON),
            "/language/en" | "/language/es" => return asking.choose_language(),
            _ => {}
        }
        let who = match self.who(asking).await {
            Ok(who) => who,
            Err(answer) => return answer,
        };
        let query = Query {
            search: asking.query.get("q").unwrap_or_default().to_owned(),
            page: asking.query.get("page").and_then(|page| page.parse().ok()),
            peer: asking.query.get("key").unwrap_or_default().to_owned(),
            view: asking.query.get("view").unwrap_or_default().to_owned(),
        };
        if asking.path == "/live" {
            return match (who, guard::is_own_fetch(&asking.headers)) {
                (Some(who), true) => live::stream(live::Watcher {
                    hub: self.hub.clone(),
                    reports: Arc::clone(&self.reports),
                    browser: asking.browser.clone(),
                    language: asking.language,
                    query,
                    patience,
                    who,
                }),
                (None, true) => live::end(),
                (_, false) => {
                    let words = asking.language.words();
                    asking.sorry(StatusCode::FORBIDDEN, words.foreign_request)
                }
            };
        }
        let Some(who) = who else {
            return match asking.path.as_str() {
                "/login" => page(StatusCode::OK, pages::login(asking.language, None)),
                _ => see("/login"),
            };
        };
        self.page(asking, &who, &query).await
    }

    /// A page for who is logged in.
    async fn page(&self, asking: &Asking, who: &Who, query: &Query) -> Answer {
        let (language, path) = (asking.language, asking.path.as_str());
        if path == "/login" {
            return see("/");
        }
        if !pages::PATHS.contains(&path) {
            return asking.sorry(StatusCode::NOT_FOUND, language.words().not_found);
        }
        let seen = match self.reports.get(&self.hub, &asking.browser).await {
            Ok(seen) => seen,
            Err(nothing) => return asking.nothing(nothing),
        };
        let usage = match pages::usage_of(path, query) {
            UsageOf::All => self.usage(asking, None).await,
            UsageOf::Peer(peer) => self.usage(asking, Some(peer)).await,
            UsageOf::Nobody => None,
        };
        let notice = self.notices().remove(&who.form);
        let typed = notice.as_ref().map(|notice| notice.typed.clone());
        let frame = Frame {
            language,
            path,
            form: &who.form,
            once: &once::number(),
            user: &who.token,
            notice,
            typed: &typed.unwrap_or_default(),
            has_rules: seen.report.status.policy.is_some(),
        };
        match pages::of(&frame, &seen, usage.as_deref(), query) {
            Some(markup) => page(StatusCode::OK, markup),
            None => asking.sorry(StatusCode::NOT_FOUND, language.words().no_such_peer),
        }
    }

    async fn post(&self, asking: &Asking, form: &Fields) -> Answer {
        if asking.path == "/login" {
            return self.log_in(asking, form).await;
        }
        let who = match self.who(asking).await {
            Ok(Some(who)) => who,
            Ok(None) => return see("/login"),
            Err(answer) => return answer,
        };
        let words = asking.language.words();
        let given = form.get("form").unwrap_or_default();
        if !crate::crypto::constant_time_eq(given.as_bytes(), who.form.as_bytes()) {
            return asking.sorry(StatusCode::FORBIDDEN, words.expired_form);
        }
        if asking.path == "/logout" {
            let _ = self.hub.ask(&asking.browser, Verb::LogOut).await;
            let mut answer = see("/login");
            response::keep(&mut answer, SESSION, "", 0);
            return answer;
        }
        if ["/new", "/rotate"].contains(&asking.path.as_str()) {
            return self.make_keys(asking, &who, form).await;
        }
        let notice = match changes::verb_of(&asking.path, form, words) {
            Some(Ok(verb)) => {
                let told = changes::told(&verb, asking.language);
                match self.hub.ask(&asking.browser, verb).await {
                    Ok(reply) => changes::done(told, reply),
                    Err(Nothing::Refused(why)) => {
                        refused(refusal(&why, asking.language), form.clone())
                    }
                    Err(nothing) => return asking.nothing(nothing),
                }
            }
            Some(Err(reason)) => refused(reason, form.clone()),
            None => return asking.sorry(StatusCode::NOT_FOUND, words.not_found),
        };
        self.reports.forget();
        // A peer that is gone has no page to go back to.
        let is_gone = asking.path == "/remove" && notice.is_done;
        self.tell(&who, notice);
        let back = if is_gone {
            "/".to_owned()
        } else {
            asking.back_to()
        };
        see(&back)
    }

    /// Adds a peer, or gives it other keys. What its device needs is this answer alone.
    async fn make_keys(&self, asking: &Asking, who: &Who, form: &Fields) -> Answer {
        let (path, browser) = (asking.path.as_str(), &asking.browser);
        if let Some(peer) = self.done.peer_of(&who.form, form) {
            return self.already(asking, who, &peer).await;
        }
        let keyed = match path {
            "/new" => new_peer::add(&self.hub, browser, form).await,
            _ => new_peer::rotate(&self.hub, browser, form).await,
        };
        self.reports.forget();
        match keyed {
            Ok(keyed) => {
                self.done.keep(&who.form, form, &keyed.edited.public_key);
                let seen = self.reports.get(&self.hub, &asking.browser).await;
                let has_rules = seen.is_ok_and(|seen| seen.report.status.policy.is_some());
                let frame = Frame {
                    language: asking.language,
                    path: &asking.path,
                    form: &who.form,
                    once: "",
                    user: &who.token,
                    notice: None,
                    typed: &NO_FIELDS,
                    has_rules,
                };
                page(StatusCode::OK, pages::keyed(&frame, &keyed))
            }
            Err(Nothing::Refused(why)) => {
                // A form that was sent twice at once is done by now.
                if let Some(peer) = self.done.peer_of(&who.form, form) {
                    return self.already(asking, who, &peer).await;
                }
                self.tell(who, refused(refusal(&why, asking.language), form.clone()));
                let Some(key) = form.given("key") else {
                    return see("/new");
                };
                // A peer that there isn't has no page that would say so.
                let seen = self.reports.get(&self.hub, &asking.browser).await;
                let is_there = seen.is_ok_and(|seen| {
                    let mut peers = seen.report.status.peers.iter();
                    peers.any(|peer| peer.public_key == key)
                });
                if is_there {
                    see(&pages::of_peer("/peer", &key))
                } else {
                    see("/")
                }
            }
            Err(nothing) => asking.nothing(nothing),
        }
    }

    /// To the peer of a form that was done before: its keys can't be shown again.
    async fn already(&self, asking: &Asking, who: &Who, peer: &str) -> Answer {
        let words = asking.language.words();
        self.tell(
            who,
            changes::done(words.shown_already.to_owned(), Reply::Done),
        );
        let seen = self.reports.get(&self.hub, &asking.browser).await;
        let is_there = seen.is_ok_and(|seen| {
            let mut peers = seen.report.status.peers.iter();
            peers.any(|it| it.public_key == peer)
        });
        if is_there {
            see(&pages::of_peer("/peer", peer))
        } else {
            see("/")
        }
    }

    /// The next page of this session tells it.
    fn tell(&self, who: &Who, notice: Notice) {
        let mut notices = self.notices();
        if notices.len() >= NOTICES {
            notices.clear();
        }
        notices.insert(who.form.clone(), notice);
    }

    async fn log_in(&self, asking: &Asking, form: &Fields) -> Answer {
        let token = form.get("token").unwrap_or_default().to_owned().into();
        let (language, words) = (asking.language, asking.language.words());
        match self.hub.ask(&asking.browser, Verb::LogIn(token)).await {
            Ok(Reply::Entered(entered)) => {
                let mut answer = see("/");
                let session = entered.session.as_str();
                response::keep(&mut answer, SESSION, session, entered.seconds);
                answer
            }
            Ok(Reply::WrongToken) => {
                let markup = pages::login(language, Some(words.wrong_token.to_owned()));
                page(StatusCode::FORBIDDEN, markup)
            }
            Ok(Reply::TooMany(seconds)) => {
                let wait = super::units::span(seconds);
                let markup = pages::login(language, Some(format!("{} {wait}.", words.too_many)));
                page(StatusCode::TOO_MANY_REQUESTS, markup)
            }
            Ok(_) => asking.nothing(Nothing::Gone),
            Err(nothing) => asking.nothing(nothing),
        }
    }

    /// Whose session it is, if it is one.
    async fn who(&self, asking: &Asking) -> Result<Option<Who>, Answer> {
        if asking.browser.session.is_none() {
            return Ok(None);
        }
        match self.hub.ask(&asking.browser, Verb::Who).await {
            Ok(Reply::Who(who)) => Ok(Some(who)),
            Err(Nothing::NoSession) => Ok(None),
            Ok(_) => Err(asking.nothing(Nothing::Gone)),
            Err(nothing) => Err(asking.nothing(nothing)),
        }
    }

    fn notices(&self) -> MutexGuard<'_, HashMap<String, Notice>> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asking {
    /// A page that says why there is no other.
    fn sorry(&self, status: StatusCode, reason: &str) -> Answer {
        page(status, pages::sorry(self.language, reason))
    }

    fn nothing(&self, why: Nothing) -> Answer {
        let words = self.language.words();
        match why {
            Nothing::NoSession => see("/login"),
            Nothing::Refused(reason) => {
                let reason = format!("{}: {}", words.busy, reason.text);
                self.sorry(StatusCode::SERVICE_UNAVAILABLE, &reason)
            }
            Nothing::Gone => self.sorry(StatusCode::SERVICE_UNAVAILABLE, words.gone),
        }
    }

    fn choose_language(&self) -> Answer {
        let code = self.path.rsplit('/').next().unwrap_or_default();
        let mut answer = see(&self.back_to());
        response::keep(&mut answer, LANGUAGE, code, LANGUAGE_KEPT);
        answer
    }

    /// The page that the browser comes from, if it is one of ours.
    fn back_to(&self) -> String {
        let referer = text(&self.headers, &REFERER).unwrap_or_default();
        let referer = referer.parse::<hyper::Uri>().ok();
        let place = referer.as_ref().and_then(|it| it.path_and_query());
        let place = place.filter(|it| pages::PATHS.contains(&it.path()) || it.path() == "/login");
        place.map_or_else(|| "/".to_owned(), ToString::to_string)
    }
}

/// The notice of what isn't done, with what was typed.
fn refused(text: String, typed: Fields) -> Notice {
    Notice {
        text,
        typed,
        ..Notice::default()
    }
}

fn language(headers: &HeaderMap) -> Language {
    let chosen = cookie(headers, LANGUAGE).and_then(Language::of);
    let accept = text(headers, &ACCEPT_LANGUAGE).unwrap_or_default();
    chosen.unwrap_or_else(|| Language::preferred(accept))
}
