//! Which of the two formats a scraper prefers, by its `Accept` (RFC 9110, section 12.5.1).

/// A format of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Prometheus's own, which everything reads.
    Classic,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// Its `Content-Type`.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The one that `accept` prefers: the classic one, unless OpenMetrics is named with a larger
    /// weight.
    pub(super) fn preferred(accept: &str) -> Self {
        let (mut open, mut plain) = (0.0_f32, None::<f32>);
        for range in accept.split(',') {
            let mut parameters = range.split(';').map(str::trim);
            let name = parameters.next().unwrap_or_default().to_ascii_lowercase();
            let weight = parameters.find_map(|it| it.strip_prefix("q=").or(it.strip_prefix("Q=")));
            let weight = weight.map_or(Some(1.0), |q| q.trim().parse::<f32>().ok());
            let weight = weight.filter(|q| (0.0..=1.0).contains(q)).unwrap_or(0.0);
            match name.as_str() {
                "application/openmetrics-text" => open = open.max(weight),
                "text/plain" => plain = Some(plain.unwrap_or(0.0).max(weight)),
                _ => {}
            }
        }
        if open > plain.unwrap_or(0.0) {
            Self::OpenMetrics
        } else {
            Self::Classic
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Format::{self, Classic, OpenMetrics};

    #[test]
    fn the_larger_weight_decides() {
        for (accept, expected) in [
            ("", Classic),
            ("*/*", Classic),
            ("text/plain", Classic),
            ("application/openmetrics-text", OpenMetrics),
            ("Application/OpenMetrics-Text;version=1.0.0", OpenMetrics),
            ("application/openmetrics-text;q=0", Classic),
            ("application/openmetrics-text;q=x", Classic),
            (
                "application/openmetrics-text;q=NaN,text/plain;q=0.1",
                Classic,
            ),
            (
                "text/plain;q=0.5, application/openmetrics-text;q=0.4",
                Classic,
            ),
            ("text/plain, application/openmetrics-text", Classic),
            // Prometheus 2.53 and 3.
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;\
                 version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                OpenMetrics,
            ),
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                 text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,*/*;q=0.2",
                OpenMetrics,
            ),
        ] {
            assert_eq!(Format::preferred(accept), expected, "{accept}");
        }
    }
}
