//! The `yatagarasu` command: arguments in, exit code out.

use std::process::exit;

use yatagarasu::{app, cli};

fn main() {
    let arguments = match cli::parse(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    // Not a return: workers still run, and their event loops must not be torn down under them.
    exit(i32::from(app::run(&arguments).code()));
}
