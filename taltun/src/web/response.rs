//! What is written: each answer with what tells the browser to take nothing from elsewhere, to let
//! nobody frame it, and to keep nothing.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::{Either, Full};
use hyper::body::{Body, Bytes, Frame};
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION,
    REFERRER_POLICY, SET_COOKIE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::{Response, StatusCode};
use maud::Markup;
use tokio::sync::mpsc;

/// All that a page may load is our own, and nothing in it runs that isn't a file of ours.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

/// An answer.
pub(super) type Answer = Response<Either<Full<Bytes>, Live>>;

/// A body that goes on.
#[derive(Debug)]
pub(super) struct Live(mpsc::Receiver<Bytes>);

impl Body for Live {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.0.poll_recv(context);
        next.map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// A page.
pub(super) fn page(status: StatusCode, markup: Markup) -> Answer {
    let text = markup.into_string().into();
    whole(status, "text/html; charset=utf-8", text)
}

/// A sentence, for who isn't a browser of ours.
pub(super) fn plain(status: StatusCode, text: &'static str) -> Answer {
    whole(
        status,
        "text/plain; charset=utf-8",
        Bytes::from_static(text.as_bytes()),
    )
}

/// A file that is the same for everybody.
pub(super) fn asset(content_type: &'static str, text: &'static str) -> Answer {
    let mut answer = whole(
        StatusCode::OK,
        content_type,
        Bytes::from_static(text.as_bytes()),
    );
    // It changes with the program alone; a browser asks again after that.
    let kept = HeaderValue::from_static("max-age=300");
    answer.headers_mut().insert(CACHE_CONTROL, kept);
    answer
}

/// What goes on as long as somebody reads.
pub(super) fn live(pieces: mpsc::Receiver<Bytes>) -> Answer {
    finished(
        StatusCode::OK,
        "text/event-stream",
        Either::Right(Live(pieces)),
    )
}

/// The browser is to go on there.
pub(super) fn see(place: &str) -> Answer {
    let mut answer = plain(StatusCode::SEE_OTHER, "");
    // What isn't a header's text is nowhere to go.
    let place = HeaderValue::from_str(place).unwrap_or(HeaderValue::from_static("/"));
    answer.headers_mut().insert(LOCATION, place);
    answer
}

/// Has the browser keep a cookie for so many seconds, out of reach of scripts and foreign pages.
pub(super) fn keep(answer: &mut Answer, name: &str, value: &str, seconds: u64) {
    let cookie = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        answer.headers_mut().append(SET_COOKIE, cookie);
    }
}

fn whole(status: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    finished(status, content_type, Either::Left(Full::new(body)))
}

fn finished(
    status: StatusCode,
    content_type: &'static str,
    body: Either<Full<Bytes>, Live>,
) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, content_type),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        // With `no-referrer` browsers wouldn't name a form's origin.
        (REFERRER_POLICY, "same-origin"),
        (CACHE_CONTROL, "no-store"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}
