//! The `taltun` command.

fn main() -> std::process::ExitCode {
    taltun::cli::main()
}
