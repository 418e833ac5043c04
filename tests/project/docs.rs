//! What stands on the pages holds: every link leads somewhere, every page for partners and operators has its Chinese twin,
//! and every command line printed is one that `tongban` reads.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use tongban::cli::{Lang, command};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Pages for those who build it or write against its formats, in English; and `errors.md`, which is one page in both languages.
const WITHOUT_TWIN: [&str; 8] = [
    "architecture.md",
    "design.md",
    "style.md",
    "receipts.md",
    "sealing.md",
    "errors.md",
    "performance.md",
    "supply-chain.md",
];

/// Every page outside of what is built and what is borrowed.
fn pages() -> Vec<PathBuf> {
    let folders = ["", "docs", "certs", "data", "examples/python", "examples/java", "deploy"];
    let mut pages: Vec<PathBuf> = folders
        .iter()
        .filter_map(|folder| std::fs::read_dir(Path::new(ROOT).join(folder)).ok())
        .flat_map(|entries| entries.map(|entry| entry.unwrap().path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    pages.sort();
    assert!(pages.len() > 15, "{pages:?}");
    pages
}

fn name(page: &Path) -> String {
    page.strip_prefix(ROOT).unwrap().display().to_string()
}

/// Where the links of a page lead: `[words](target)`.
fn targets(text: &str) -> Vec<&str> {
    text.match_indices("](").filter_map(|(at, _)| text[at + 2..].split_once(')').map(|(target, _)| target)).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut lost = vec![];
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for target in targets(&text) {
            let file = target.split_once('#').map_or(target, |(file, _)| file);
            let elsewhere = file.is_empty() || file.contains("://") || file.contains(' ');
            if !elsewhere && !page.parent().unwrap().join(file).exists() {
                lost.push(format!("{}: {target}", name(&page)));
            }
        }
    }
    assert!(lost.is_empty(), "links to what is not there:\n{}", lost.join("\n"));
}

#[test]
fn every_page_for_partners_and_operators_stands_in_both_languages() {
    let docs: BTreeSet<String> =
        pages().iter().filter_map(|page| name(page).strip_prefix("docs/").map(str::to_owned)).collect();
    for page in &docs {
        let text = std::fs::read_to_string(Path::new(ROOT).join("docs").join(page)).unwrap();
        let twin = match page.strip_suffix(".zh-CN.md") {
            Some(stem) => format!("{stem}.md"),
            None if WITHOUT_TWIN.contains(&page.as_str()) => continue,
            None => page.replace(".md", ".zh-CN.md"),
        };
        assert!(docs.contains(&twin), "docs/{page} has no twin docs/{twin}; a page for builders goes to WITHOUT_TWIN");
        assert!(targets(&text).contains(&twin.as_str()), "docs/{page} does not link to {twin}");
        let headings = |text: &str| text.lines().filter(|line| line.starts_with('#')).count();
        let rows = |text: &str| text.lines().filter(|line| line.starts_with("| ")).count();
        let other = std::fs::read_to_string(Path::new(ROOT).join("docs").join(&twin)).unwrap();
        assert_eq!(
            (headings(&text), rows(&text)),
            (headings(&other), rows(&other)),
            "docs/{page} and docs/{twin} have not the same headings and rows"
        );
        let (readme, here) = if twin.ends_with(".zh-CN.md") { ("README.md", page) } else { ("README.zh-CN.md", page) };
        let readme_text = std::fs::read_to_string(Path::new(ROOT).join(readme)).unwrap();
        assert!(
            targets(&readme_text).contains(&format!("docs/{here}").as_str()),
            "{readme} does not link to docs/{here}"
        );
    }
}

/// Words of a line as a shell parts them; ends at what the shell does with the command.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut any) = (vec![], String::new(), None, false);
    for c in line.chars() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            (c, Some(_)) => word.push(c),
            ('"' | '\'', None) => (quote, any) = (Some(c), true),
            ('|' | '>' | ';' | '&' | '#', None) => break,
            (' ', None) => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            (c, None) => word.push(c),
        }
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}

/// Command lines in code blocks, continued lines joined; and those inside of lines of text, between backticks.
fn command_lines(text: &str) -> (Vec<String>, Vec<String>) {
    let (mut whole, mut inside, mut block) = (vec![], vec![], false);
    for line in text.replace("\\\n", " ").lines() {
        if line.trim_start().starts_with("```") {
            block = !block;
        } else if block {
            let parts =
                line.split("; ").chain(line.split("=/usr/bin/").skip(1)).chain(line.split("\"/usr/bin/").skip(1));
            let run = |part: &str| part.trim().trim_start_matches("$ ").trim_end_matches('"').to_owned();
            whole.extend(parts.map(run).filter(|part| part.starts_with("tongban ")));
        } else {
            let quoted = line.split('`').skip(1).step_by(2);
            inside.extend(quoted.filter(|part| part.starts_with("tongban ")).map(str::to_owned));
        }
    }
    (whole, inside)
}

/// What stands for something that the reader fills in.
fn is_placeholder(value: &str) -> bool {
    !value.is_empty() && value.chars().all(|c| c.is_uppercase() || matches!(c, '/' | '_' | '|' | '…') || !c.is_ascii())
}

/// Why `tongban` would not read this line. A line of text may leave out what is obligatory, and name what is to be filled in.
fn refused(line: &str, in_text: bool) -> Option<String> {
    let fault = command(Lang::En).try_get_matches_from(words(line)).err()?;
    let value = match fault.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(value)) => value.as_str(),
        _ => "",
    };
    match fault.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => None,
        ErrorKind::MissingRequiredArgument
        | ErrorKind::MissingSubcommand
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            if in_text =>
        {
            None
        }
        ErrorKind::ValueValidation if in_text && is_placeholder(value) => None,
        ErrorKind::InvalidValue if in_text && value.is_empty() => None,
        _ => Some(fault.to_string()),
    }
}

#[test]
fn every_command_line_printed_is_one_that_tongban_reads() {
    let (mut wrong, mut read) = (vec![], 0);
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        let (whole, inside) = command_lines(&text);
        let lines = whole.iter().map(|line| (line, false)).chain(inside.iter().map(|line| (line, true)));
        for (line, in_text) in lines {
            read += 1;
            if let Some(why) = refused(line, in_text) {
                wrong.push(format!("{}: {line}\n    {}", name(&page), why.replace('\n', "\n    ")));
            }
        }
    }
    assert!(wrong.is_empty(), "lines that nobody can type:\n{}", wrong.join("\n"));
    assert!(read > 100, "only {read} lines were found");
}

/// The checker is shown to notice: an option that does not exist, a command that does not, a value that cannot be.
#[test]
fn a_line_that_drifted_is_noticed() {
    for (line, in_text) in [
        ("tongban serve --confg tongban.toml", true),
        ("tongban lane list", true),
        ("tongban check --output tabel", true),
        ("tongban message --as 450200/window ID", false),
        ("tongban send --as 450200/window", false),
    ] {
        assert!(refused(line, in_text).is_some(), "{line}");
    }
    assert!(refused("tongban message --as 450200/window ID", true).is_none());
    let page = "text `tongban lane list` text\n```sh\na; tongban serve \\\n  --nonsense | tee\n```\n";
    let (whole, inside) = command_lines(page);
    assert_eq!(
        (words(&whole[0]).join(" "), inside[0].as_str()),
        ("tongban serve --nonsense".into(), "tongban lane list")
    );
}
