//! `[web]`: the page in the browser, and the process that serves it.

mod abuse;
mod browser;
mod forms;
mod hub;
mod peers;
mod process;

pub use abuse::CASES as ABUSE;
pub use browser::CASES as BROWSER;
pub use forms::CASES as FORMS;
pub use peers::CASES as PEERS;
pub use process::CASES as PROCESS;
