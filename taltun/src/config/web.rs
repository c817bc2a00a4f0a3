//! `[web]`: the page in the browser.

use std::net::SocketAddr;

use super::declared::{self, settings};

declared::web::declared! { settings! {
    /// The page in the browser.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Web {
        /// Where browsers connect to, at least one.
        pub listen: Vec<SocketAddr>,
        /// Names, in small letters, by which browsers may ask for it.
        pub hosts: Vec<String>,
    }
} }
