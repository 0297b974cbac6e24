// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0

//! Completions and manual pages, made from the command line's description.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;

use crate::cli::Cli;
use crate::text;

pub(crate) fn completions(shell: clap_complete::Shell) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "virgo", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// Ends every page.
const SEE_ALSO: &str =
    ".SH \"SEE ALSO\"\nvirgo(1), virgo-profiler(1), virgo(4), virgo-modules(7)\n";

/// Writes virgo.1, virgo-doctor.1, ..., virgo-profiler-run.1, and so on.
pub(crate) fn manual(directory: &Path) -> anyhow::Result<ExitCode> {
    let fail = |error: &io::Error| {
        text::file_error("write into", directory, error, "Choose another directory.")
    };
    fs::create_dir_all(directory).map_err(|error| fail(&error))?;
    let mut command = Cli::command();
    command.build();
    pages(&command, directory).map_err(|error| fail(&error))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the pages of a command and of those below it, but for hidden ones.
fn pages(command: &clap::Command, directory: &Path) -> io::Result<()> {
    let shown = |command: &&clap::Command| !command.is_hide_set();
    for below in command.get_subcommands().filter(shown) {
        pages(below, directory)?;
    }
    let page = clap_mangen::Man::new(command.clone())
        .manual("VIRGO")
        .source(concat!("virgo ", env!("CARGO_PKG_VERSION")));
    let mut text =
        String::from(".\\\" SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0\n").into_bytes();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    page.render_options_section(&mut text)?;
    if command.get_subcommands().any(|below| shown(&below)) {
        page.render_subcommands_section(&mut text)?;
    }
    if let Some(notes) = command.get_after_long_help() {
        text.extend_from_slice(b".SH NOTES\n");
        text.extend_from_slice(lines(&notes.to_string()).as_bytes());
    }
    text.extend_from_slice(SEE_ALSO.as_bytes());
    fs::write(directory.join(page.get_filename()), text)
}

/// Text for a manual page that keeps its lines; an empty line begins a paragraph.
fn lines(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        match line {
            "" => out.push_str(".PP\n"),
            // The mark in front keeps a dot or a quote at the line's start from being a command.
            line => out.push_str(&format!("\\&{}\n.br\n", line.replace('\\', "\\e"))),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_page_are_never_commands() {
        assert_eq!(
            lines(".TH\n\n'x \\n"),
            "\\&.TH\n.br\n.PP\n\\&'x \\en\n.br\n"
        );
    }

    /// The pages in man/ are made by "virgo mangen man".
    #[test]
    fn the_pages_that_are_installed_are_up_to_date() {
        let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../man");
        let made = std::env::temp_dir().join(format!("virgo-man-{}", std::process::id()));
        manual(&made).unwrap();
        let names = |directory: &Path| {
            let mut names: Vec<_> = fs::read_dir(directory)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| name.ends_with(".1"))
                .collect();
            names.sort();
            names
        };
        assert_eq!(names(&committed), names(&made));
        for name in names(&made) {
            let read = |directory: &Path| fs::read_to_string(directory.join(&name)).unwrap();
            assert!(
                read(&committed) == read(&made),
                "man/{name} is out of date: run \"virgo mangen man\""
            );
        }
        fs::remove_dir_all(made).unwrap();
    }
}
