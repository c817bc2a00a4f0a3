//! What is read of a request: its cookies, what stands behind its path, and forms.

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::HeaderMap;
use hyper::body::{Body, Bytes};
use hyper::header::{COOKIE, HeaderName};
use tokio::time::timeout;

/// The longest form, bytes.
const FORM_MAX: usize = 16 << 10;
/// How long a browser may take to send it.
const TO_SEND: Duration = Duration::from_secs(10);

/// Pairs of a name and a value, as forms and addresses have them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Those of a text such as `a=1&b=2`.
    pub(super) fn of(text: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(text);
        Self(pairs.into_owned().collect())
    }

    /// The value of a name, without white space around it; the first if there are several.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let mut all = self.0.iter();
        let (_, value) = all.find(|(other, _)| other == name)?;
        Some(value.trim())
    }

    /// The same where there is something in it.
    pub(super) fn given(&self, name: &str) -> Option<String> {
        let value = self.get(name).filter(|value| !value.is_empty());
        value.map(str::to_owned)
    }
}

/// Empty without a form.
pub(super) static NO_FIELDS: Fields = Fields(Vec::new());

/// Why a request has no form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoForm {
    /// It is too long, or broken off.
    TooLong,
    /// It didn't come in time.
    TooSlow,
}

/// The form of a request.
pub(super) async fn form<B>(body: B) -> Result<Fields, NoForm>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let body = Limited::new(body, FORM_MAX);
    let body = timeout(TO_SEND, body.collect()).await;
    let body = body.map_err(|_| NoForm::TooSlow)?;
    let body = body.map_err(|_| NoForm::TooLong)?;
    Ok(Fields::of(&body.to_bytes()))
}

/// The value of a cookie.
pub(super) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let all = headers.get_all(COOKIE).iter();
    let mut pairs = all
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'));
    pairs.find_map(|pair| {
        let (other, value) = pair.trim().split_once('=')?;
        (other == name).then_some(value)
    })
}

/// A header as text.
pub(super) fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn fields_are_decoded_and_the_first_counts() {
        let fields = Fields::of(b"a=1%2B1&b=x+y&a=2&c&%ff=%00");
        assert_eq!(fields.get("a"), Some("1+1"));
        assert_eq!(fields.get("b"), Some("x y"));
        assert_eq!(fields.get("c"), Some(""));
        assert_eq!(fields.get("d"), None);
    }

    #[tokio::test]
    async fn a_form_that_is_too_long_is_refused() {
        let fits = vec![b'a'; FORM_MAX];
        assert!(form(Full::new(Bytes::from(fits))).await.is_ok());
        let long = vec![b'a'; FORM_MAX + 1];
        let refused = form(Full::new(Bytes::from(long))).await;
        assert_eq!(refused, Err(NoForm::TooLong));
    }

    #[test]
    fn cookies_are_told_apart() {
        let mut headers = HeaderMap::new();
        for value in ["x=1; taltun=abc", "taltun-language=es"] {
            headers.append(COOKIE, HeaderValue::from_static(value));
        }
        assert_eq!(cookie(&headers, "taltun"), Some("abc"));
        assert_eq!(cookie(&headers, "taltun-language"), Some("es"));
        assert_eq!(cookie(&headers, "tal"), None);
    }
}
