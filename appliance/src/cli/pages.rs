//! `roost pages`: the man pages and shell completions of the package, made from what can be typed.

use std::{
    env, fs, io,
    path::Path,
    time::{Duration, SystemTime},
};

use clap::CommandFactory as _;
use clap_complete::{generate, shells};
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

use super::args::Cli;

/// Where completions are, below `share` (bash-completion's README, zsh's and fish's manuals).
const BASH: &str = "bash-completion/completions/roost";
const ZSH: &str = "zsh/site-functions/_roost";
const FISH: &str = "fish/vendor_completions.d/roost.fish";
/// Where man pages are, below `share` (hier(7)).
const MAN: &str = "man/man1";

/// Writes all of them below a folder that is laid out like `/usr/share`.
///
/// # Errors
/// A file cannot be written.
pub(super) fn write(share: &Path) -> io::Result<()> {
    let mut command = visible(&Cli::command());
    let mut completions = [Vec::new(), Vec::new(), Vec::new()];
    generate(shells::Bash, &mut command, "roost", &mut completions[0]);
    generate(shells::Zsh, &mut command, "roost", &mut completions[1]);
    generate(shells::Fish, &mut command, "roost", &mut completions[2]);
    for (name, completion) in [BASH, ZSH, FISH].into_iter().zip(completions) {
        put(&share.join(name), &completion)?;
    }
    let mut command = visible(&Cli::command()).disable_help_subcommand(true);
    command.build();
    let date = date();
    pages(&command, None, &date, &mut |name, page| {
        put(&share.join(MAN).join(format!("{name}.1")), page)
    })
}

fn put(path: &Path, content: &[u8]) -> io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(path))?;
    fs::write(path, content)
}

/// The command without what is hidden: clap has no way to take that away.
fn visible(command: &clap::Command) -> clap::Command {
    // clap wants names that live for ever; this is done once in the life of the process.
    let name: &'static str = command.get_name().to_owned().leak();
    let mut copy = clap::Command::new(name)
        .args(command.get_arguments().filter(|argument| !argument.is_hide_set()))
        .groups(command.get_groups())
        .subcommand_required(command.is_subcommand_required_set())
        .subcommands(command.get_subcommands().filter(|it| !it.is_hide_set()).map(visible));
    if command.get_version().is_some() {
        copy = copy.version(env!("CARGO_PKG_VERSION"));
    }
    if let Some(about) = command.get_about() {
        copy = copy.about(about.clone());
    }
    if let Some(after) = command.get_after_help() {
        copy = copy.after_help(after.clone());
    }
    copy
}

/// When the pages were made, as `1970-01-31`: reproducible builds say when that is to have been.
fn date() -> String {
    let epoch_s = env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok());
    let made = match epoch_s {
        Some(epoch_s) => SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(epoch_s)),
        None => Some(SystemTime::now()),
    };
    let made = humantime::format_rfc3339(made.unwrap_or(SystemTime::UNIX_EPOCH)).to_string();
    made.split('T').next().unwrap_or_default().to_owned()
}

/// Gives the page of a command, which has been built, and those of all below it.
fn pages(
    command: &clap::Command,
    parent: Option<&str>,
    date: &str,
    give: &mut impl FnMut(&str, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    give(name, &page(command, parent, date)?)?;
    command.get_subcommands().try_for_each(|it| pages(it, Some(name), date, give))
}

fn page(command: &clap::Command, parent: Option<&str>, date: &str) -> io::Result<Vec<u8>> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let man = Man::new(command.clone())
        .title(name.to_uppercase())
        .date(date)
        .source(concat!("roost ", env!("CARGO_PKG_VERSION")))
        .manual("roost");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (prose, sections): (Vec<_>, Vec<_>) = after
        .split("\n\n")
        .filter(|text| !text.is_empty())
        .map(Block::of)
        .partition(|block| block.heading.is_none());
    let mut roff = Roff::new();
    for block in prose {
        roff.control("PP", []);
        block.write(&mut roff);
    }
    roff.to_writer(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut roff = Roff::new();
    for block in sections {
        let heading = block.heading.unwrap_or_default().to_uppercase();
        roff.control("SH", [heading.as_str()]);
        block.write(&mut roff);
    }
    see_also(command, parent, &mut roff);
    roff.to_writer(&mut page)?;
    Ok(page)
}

/// The pages one step away.
fn see_also(command: &clap::Command, parent: Option<&str>, roff: &mut Roff) {
    let below = command.get_subcommands().filter_map(clap::Command::get_display_name);
    let mut pages: Vec<(&str, u8)> = parent.into_iter().chain(below).map(|it| (it, 1)).collect();
    if parent.is_none() {
        pages.extend([("nix.conf", 5), ("sshd_config", 5), ("systemd.service", 5)]);
    }
    let last = pages.len().saturating_sub(1);
    roff.control("SH", ["SEE ALSO"]);
    for (index, (page, section)) in pages.into_iter().enumerate() {
        let comma = if index == last { "" } else { "," };
        roff.text([bold(page), roman(format!("({section}){comma}"))]);
    }
}

/// A paragraph of a help text: lines of prose, then lines that are indented and shown as they are.
struct Block<'a> {
    /// Of a section of its own: `Examples` of a paragraph that starts with `Examples:`.
    heading: Option<&'a str>,
    prose: Vec<&'a str>,
    literal: Vec<&'a str>,
}

impl<'a> Block<'a> {
    fn of(text: &'a str) -> Self {
        let (prose, literal): (Vec<_>, Vec<_>) =
            text.lines().partition(|line| !line.starts_with("  "));
        match prose[..] {
            [heading] if heading.ends_with(':') && !literal.is_empty() => {
                Self { heading: heading.strip_suffix(':'), prose: Vec::new(), literal }
            }
            _ => Self { heading: None, prose, literal },
        }
    }

    fn write(&self, roff: &mut Roff) {
        for line in &self.prose {
            roff.text([roman(*line)]);
        }
        if self.literal.is_empty() {
            return;
        }
        if !self.prose.is_empty() {
            roff.control("PP", []);
        }
        roff.control("nf", []);
        for line in &self.literal {
            roff.text([roman(*line)]);
        }
        roff.control("fi", []);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(command: &clap::Command, name: &str, found: &mut Vec<String>) {
        found.push(format!("{name}.1"));
        for below in command.get_subcommands().filter(|it| !it.is_hide_set()) {
            names(below, &format!("{name}-{}", below.get_name()), found);
        }
    }

    #[test]
    fn every_visible_command_has_a_page_and_no_hidden_one() {
        let share = tempfile::tempdir().unwrap();
        write(share.path()).unwrap();
        let mut wanted = Vec::new();
        names(&Cli::command(), "roost", &mut wanted);
        wanted.sort();
        let pages = fs::read_dir(share.path().join(MAN)).unwrap();
        let mut found: Vec<String> =
            pages.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        found.sort();
        assert_eq!(found, wanted);
        for completion in [BASH, ZSH, FISH] {
            let text = fs::read_to_string(share.path().join(completion)).unwrap();
            assert!(text.contains("check-config"), "{completion}: {text}");
            assert!(!text.contains("first-boot"), "{completion}: {text}");
        }
    }

    #[test]
    fn a_page_shows_the_examples_as_the_help_does_and_leads_to_others() {
        let share = tempfile::tempdir().unwrap();
        write(share.path()).unwrap();
        let read = |name: &str| fs::read_to_string(share.path().join(MAN).join(name)).unwrap();
        let fleet = read("roost-fleet-init.1");
        for part in [
            ".SH EXAMPLES\n.nf\n  roost fleet init\n",
            "who belongs to the fleet, and who no longer does",
            ".SH \"SEE ALSO\"\n\\fBroost\\-fleet\\fR(1)",
        ] {
            assert!(fleet.contains(part), "{part}: {fleet}");
        }
        let roost = read("roost.1");
        assert!(roost.contains(".SH \"EXIT STATUS\"\n.nf\n  0  done\n"), "{roost}");
        assert!(read("roost-status.1").contains(".SH \"A BOARD'S STATE\""));
    }
}
