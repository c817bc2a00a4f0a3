//! The `taltun` command.

mod wiped_memory;

fn main() -> std::process::ExitCode {
    taltun::cli::main()
}
