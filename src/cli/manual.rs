//! The manual page: clap's sections about flags and commands, and ours about the rest.

use clap::CommandFactory as _;
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

use super::typed::{CommandLine, NAME};
use crate::control_plane::admin;

/// The page, in roff.
///
/// # Errors
/// None: it is written into memory.
pub fn manual() -> std::io::Result<Vec<u8>> {
    let command = CommandLine::command();
    let mut page = Vec::new();
    let man = Man::new(command.clone())
        .section("8")
        .source(format!("{NAME} {}", admin::VERSION))
        .manual("System administration");
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    commands(&command).to_writer(&mut page)?;
    rest().to_writer(&mut page)?;
    Ok(page)
}

/// All commands with their own flags, on this one page.
fn commands(command: &clap::Command) -> Roff {
    let mut command = command.clone();
    // Completes the commands with what they inherit.
    command.build();
    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
        let arguments = command.get_positionals().map(|argument| {
            let name = argument.get_id().as_str().to_uppercase();
            if argument.is_required_set() { format!(" {name}") } else { format!(" [{name}]") }
        });
        let arguments = arguments.collect::<String>();
        roff.control("TP", []);
        roff.text([bold(command.get_name()), roman(arguments)]);
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        roff.text([roman(about)]);
        let own = command.get_arguments().filter(|flag| !flag.is_global_set());
        for flag in own.filter(|flag| flag.get_id() != "help") {
            // Those without one have been named already.
            let Some(name) = flag.get_long() else { continue };
            let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
            let values: Vec<_> = flag
                .get_possible_values()
                .iter()
                .map(|value| value.get_name().to_owned())
                .filter(|value| value != "true" && value != "false")
                .collect();
            let values =
                if values.is_empty() { String::new() } else { format!(" {}", values.join("|")) };
            roff.control("RS", []);
            roff.control("TP", []);
            roff.text([bold(format!("--{name}")), roman(values)]);
            roff.text([roman(help)]);
            roff.control("RE", []);
        }
    }
    roff
}

/// Exit codes, signals, variables, files.
fn rest() -> Roff {
    const SECTIONS: [(&str, &[(&str, &str)]); 4] = [
        (
            "EXIT STATUS",
            &[
                ("0", "A clean stop; everything that was checked is good."),
                ("1", "The configuration was refused, or a check failed."),
                ("2", "Wrong usage."),
                (
                    "3",
                    "It could not start: a port in use, no permission, no io_uring though demanded. \
                     Or a worker ended by itself. Or a page or completions could not be written.",
                ),
            ],
        ),
        (
            "SIGNALS",
            &[
                (
                    "SIGHUP",
                    "Reads the configuration and the files that it names again. Refused where the \
                     configuration came from standard input.",
                ),
                ("SIGUSR1", "Opens the file of the access log anew."),
                (
                    "SIGTERM, SIGINT",
                    "Finishes the requests in progress and stops; a second one stops at once.",
                ),
            ],
        ),
        (
            "ENVIRONMENT",
            &[
                ("YATAGARASU_CONFIG", "The configuration file, where --config is not given."),
                ("SSL_CERT_FILE, SSL_CERT_DIR", "Root certificates, in place of the system's."),
                (
                    "AWS_*",
                    "Read by the sources of credentials that the configuration names, as the AWS \
                     SDKs read them.",
                ),
            ],
        ),
        ("FILES", &[("./config.yaml", "The configuration, unless another one is named.")]),
    ];
    let mut roff = Roff::new();
    for (title, entries) in SECTIONS {
        roff.control("SH", [title]);
        for (term, text) in entries {
            roff.control("TP", []);
            roff.text([bold(*term)]);
            roff.text([roman(*text)]);
        }
    }
    roff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_command_and_flag() {
        let page = String::from_utf8(manual().unwrap()).unwrap();
        let page = page.replace("\\-", "-");
        for word in [
            ".TH yatagarasu 8",
            "validate",
            "completions",
            "--base-dir",
            "--strict\\fR\nLet warnings",
            "text|json",
            "YATAGARASU_CONFIG",
            "SIGHUP",
            "EXIT STATUS",
        ] {
            assert!(page.contains(word), "{word} in\n{page}");
        }
    }
}
