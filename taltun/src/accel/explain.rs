//! The kernel's errors as sentences for people.

use std::error::Error;
use std::path::Path;

use aya::maps::MapError;
use aya::programs::ProgramError;

/// The first line of an error and of its causes, in one sentence. The kernel's verifier
/// writes pages.
pub(super) fn explain(error: &(dyn Error + 'static)) -> String {
    let mut sentence = String::new();
    match os_error(error) {
        Some(libc::EPERM) => {
            return "not permitted: it takes root, or CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"
                .into();
        }
        Some(libc::EACCES) => {
            sentence.push_str("the verifier refuses it, as it does without CAP_PERFMON");
        }
        _ => {}
    }
    for error in chain(error) {
        let text = error.to_string();
        let line = text.lines().next().unwrap_or_default();
        // Some errors already quote their cause.
        if !sentence.contains(line) {
            if !sentence.is_empty() {
                sentence.push_str(": ");
            }
            sentence.push_str(line);
        }
    }
    sentence
}

/// The same, with the verifier's pages, if there are any, saved in `file`, which the
/// sentence then names.
pub(super) fn explain_and_save(error: &(dyn Error + 'static), file: &Path) -> String {
    let sentence = explain(error);
    let log = chain(error).find_map(|error| match error.downcast_ref() {
        Some(ProgramError::LoadError { verifier_log, .. }) => {
            Some(verifier_log.to_string()).filter(|log| !log.trim().is_empty())
        }
        _ => None,
    });
    match log.map(|log| std::fs::write(file, log)) {
        Some(Ok(())) => format!("{sentence} (the verifier's log is in {})", file.display()),
        Some(Err(error)) => {
            tracing::debug!(file = %file.display(), %error, "the verifier's log can't be saved");
            sentence
        }
        None => sentence,
    }
}

/// Whether the error says that what was to be removed isn't there.
pub(super) fn is_absent(error: &(dyn Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(MapError::KeyNotFound))
        || os_error(error) == Some(libc::ENOENT)
}

/// The kernel's error number, wherever in the chain of causes it is.
pub(super) fn os_error(error: &(dyn Error + 'static)) -> Option<i32> {
    chain(error).find_map(|error| {
        error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::raw_os_error)
    })
}

/// The error and its causes.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_becomes_one_line_with_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("loading failed\nand here come pages")]
        struct Outer(#[source] std::io::Error);
        let refused = std::io::Error::from_raw_os_error(libc::ERANGE);
        assert_eq!(
            explain(&Outer(refused)),
            "loading failed: Numerical result out of range (os error 34)"
        );
        let forbidden = std::io::Error::from_raw_os_error(libc::EPERM);
        assert!(explain(&Outer(forbidden)).starts_with("not permitted"));
    }

    #[test]
    fn without_a_log_no_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("log");
        let error = std::io::Error::from_raw_os_error(libc::ERANGE);
        assert_eq!(explain_and_save(&error, &file), explain(&error));
        assert!(!file.exists());
    }
}
