//! Requests on the control socket: none makes the reader fail, and one that is taken is the same once
//! it is written again, as another Taltun does.

use serde_json::Value;
use taltun::control::Request;
use taltun::control::fuzzing::REQUEST_MAX;

pub(crate) fn run(line: &[u8]) {
    let line = &line[..line.len().min(REQUEST_MAX)];
    let read = serde_json::from_slice::<Request>(line);
    let json = serde_json::from_slice::<Value>(line);
    let Ok(request) = read else { return };
    let written = serde_json::to_string(&request).expect("a request can be written");
    assert_eq!(
        serde_json::from_str::<Request>(&written).ok(),
        Some(request)
    );
    // What was taken is JSON, and nothing of it was passed over: each name in it is in what is
    // written.
    let (json, written) = (json.expect("it was taken"), serde_json::from_str(&written));
    contains(&written.expect("it was just written"), &json);
}

/// Every name of `part` is in `whole`, at the same place.
fn contains(whole: &Value, part: &Value) {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            for (name, value) in part {
                let at = whole.get(name);
                contains(
                    at.unwrap_or_else(|| panic!("{name} was passed over")),
                    value,
                );
            }
        }
        (Value::Array(whole), Value::Array(part)) => {
            for (whole, part) in whole.iter().zip(part) {
                contains(whole, part);
            }
        }
        _ => {}
    }
}
