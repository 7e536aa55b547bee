//! The `yatagarasu` command: arguments in, exit code out.

use std::process::exit;

use yatagarasu::{app, cli, system::process};

fn main() {
    // First: a SIGHUP that comes with the start must not be what ends the process.
    process::ignore_signals();
    let arguments = match cli::parse(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    // Not a return: workers still run, and their event loops must not be torn down under them.
    exit(i32::from(app::run(&arguments).code()));
}
