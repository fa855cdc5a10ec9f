//! The `drey` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    drey::cli::main(std::env::args_os(), std::env::vars_os().collect())
}
