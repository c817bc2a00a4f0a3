//! The HTTP server of the page: a connection, a request, an answer.
//!
//! Each step has a limit: to ask, to send a form, to read the answer. A page that goes on being sent
//! goes on as long as the browser reads: what it doesn't read for half a minute ends the connection.

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::patience::Patience;
use super::routes::Site;
use crate::server_process::{self, Limits, Listener, Stream};

/// How many browsers there may be. Each opens several connections for a page, and keeps one.
pub(super) const LIMITS: Limits = Limits {
    connections: 192,
    share: 32,
};
/// The longest head of a request, bytes, and the most headers in it.
const HEAD_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 64;

/// Serves browsers for ever.
pub(super) async fn serve(listener: Listener, site: Arc<Site>) {
    server_process::serve(listener, LIMITS, |stream, has_asked| {
        let patience = Patience::new();
        let talk = converse(stream, Arc::clone(&site), has_asked, patience.clone());
        async move {
            tokio::select! {
                () = talk => {}
                () = patience.ends() => {}
            }
        }
    })
    .await;
}

/// One request, one answer.
async fn converse(
    stream: Box<dyn Stream>,
    site: Arc<Site>,
    has_asked: Arc<AtomicBool>,
    patience: Patience,
) {
    // Only one that is gone already has none.
    let source = stream.address().unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    let source: IpAddr = source.to_canonical();
    let service = service_fn(|request| {
        let (site, patience) = (Arc::clone(&site), patience.clone());
        has_asked.store(true, Ordering::Relaxed);
        async move { Ok::<_, Infallible>(site.respond(request, source, patience).await) }
    });
    // What goes wrong with a browser is its own affair.
    let mut connection = server_process::http(HEAD_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let _ = (&mut connection).await;
    server_process::close(connection.into_parts().io.into_inner()).await;
}
