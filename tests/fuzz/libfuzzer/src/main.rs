//! libFuzzer around one of the targets: the one that `TALTUN_FUZZ_TARGET` names.
//!
//! With `TALTUN_FUZZ_COVERAGE` it is no fuzzer: it runs each file of the directories that are its
//! arguments once, and writes which places of the program were reached to the file that this names.
#![no_main]

mod coverage;

use std::env;
use std::process;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use taltun_fuzz::Target;

static TARGET: OnceLock<&'static Target> = OnceLock::new();

fuzz_target!(init: begin(), |input: &[u8]| {
    if let Some(target) = TARGET.get() {
        (target.run)(input);
    }
});

fn begin() {
    let name = env::var("TALTUN_FUZZ_TARGET").unwrap_or_default();
    let Some(target) = taltun_fuzz::target(&name) else {
        eprintln!("no target is called {name:?}; set TALTUN_FUZZ_TARGET");
        process::exit(2);
    };
    if let Some(to) = env::var_os("TALTUN_FUZZ_COVERAGE") {
        let of = env::args_os().skip(1).filter(|argument| {
            // Options are libFuzzer's.
            !argument.to_string_lossy().starts_with('-')
        });
        let written = coverage::run(target, of, to.as_ref());
        if let Err(error) = &written {
            eprintln!("the coverage can't be written: {error}");
        }
        process::exit(i32::from(written.is_err()));
    }
    coverage::show();
    TARGET.get_or_init(|| target);
}
