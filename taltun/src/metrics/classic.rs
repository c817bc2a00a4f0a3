//! The classic text of Prometheus, out of the OpenMetrics text that the library writes. They
//! differ in a counter's name, which has `_total` in the former's comments too, and in the last
//! line, which the former doesn't have.

use std::fmt::Write as _;

/// The same metrics as `text`, in the classic format.
pub(super) fn of(text: &str) -> String {
    let mut classic = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((line, after)) = rest.split_once('\n') {
        // Samples, of which there may be many, are copied up to the next comment.
        if !line.starts_with("# ") {
            let end = rest.find("\n# ").map_or(rest.len(), |at| at + 1);
            classic.push_str(&rest[..end]);
            rest = &rest[end..];
            continue;
        }
        rest = after;
        let next = rest.lines().next().unwrap_or_default();
        // Of the two comments of a metric the second tells its type.
        let is_counter = [line, next]
            .into_iter()
            .any(|line| line.starts_with("# TYPE ") && line.ends_with(" counter"));
        match line
            .strip_prefix("# ")
            .and_then(|comment| comment.split_once(' '))
        {
            Some((word @ ("HELP" | "TYPE"), rest)) if is_counter => {
                let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                // Writing to a String can't fail.
                let _ = writeln!(classic, "# {word} {name}_total {rest}");
            }
            None if line == "# EOF" => {}
            _ => {
                classic.push_str(line);
                classic.push('\n');
            }
        }
    }
    classic
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_have_their_suffix_and_the_end_is_left_out() {
        let open = "# HELP a_bytes Bytes of # TYPE counter.\n# TYPE a_bytes counter\n\
                    a_bytes_total{peer=\"# HELP x\"} 1\n# HELP b Of b.\n# TYPE b gauge\nb 2.5\n\
                    # HELP c Of c.\n# TYPE c counter\nc_total 1\n# EOF\n";
        let classic = "# HELP a_bytes_total Bytes of # TYPE counter.\n\
                       # TYPE a_bytes_total counter\na_bytes_total{peer=\"# HELP x\"} 1\n\
                       # HELP b Of b.\n# TYPE b gauge\nb 2.5\n\
                       # HELP c_total Of c.\n# TYPE c_total counter\nc_total 1\n";
        assert_eq!(of(open), classic);
    }
}
