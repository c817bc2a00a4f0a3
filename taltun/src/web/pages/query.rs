//! What stands behind the path of a page.

/// Which peers, or which of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Query {
    /// What is searched for; empty for all.
    pub(crate) search: String,
    /// The page of the list, from 1.
    pub(crate) page: Option<usize>,
    /// A peer's public key.
    pub(crate) peer: String,
    /// Which page is looked at, where it is another one than these say.
    pub(crate) view: String,
}

impl Query {
    /// The address of another page of this list.
    pub(crate) fn at(&self, path: &str, page: usize) -> String {
        let mut pairs = form_urlencoded::Serializer::new(String::new());
        if !self.search.is_empty() {
            pairs.append_pair("q", &self.search);
        }
        pairs.append_pair("page", &page.to_string());
        format!("{path}?{}", pairs.finish())
    }
}

/// The address of a peer's page, or of what happens there.
pub(crate) fn of_peer(path: &str, key: &str) -> String {
    let mut pairs = form_urlencoded::Serializer::new(String::new());
    pairs.append_pair("key", key);
    format!("{path}?{}", pairs.finish())
}
