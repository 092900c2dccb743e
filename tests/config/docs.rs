//! What the reference shows, loads.

use std::path::Path;

use davy::config::Config;

const REFERENCE: &str = include_str!("../../docs/config.md");

/// The ```yaml blocks with the line they start in.
fn blocks() -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (i, line) in REFERENCE.lines().enumerate() {
        match &mut open {
            None if line == "```yaml" => open = Some((i + 2, String::new())),
            None => {}
            Some(_) if line == "```" => blocks.extend(open.take()),
            Some((_, text)) => *text += &format!("{line}\n"),
        }
    }
    assert!(open.is_none(), "the last block is not closed");
    blocks
}

#[test]
fn every_example_of_the_reference_loads() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    for name in ["scrape-password", "slack-url", "smtp-password", "ca.pem"] {
        std::fs::write(folder.path().join(name), "https://hooks.example.com/x").expect("it is ours to write");
    }
    let blocks = blocks();
    assert!(blocks.len() >= 8, "{} examples", blocks.len());
    for (line, text) in blocks {
        if let Err(errors) = Config::parse(&text, Path::new("config.md"), folder.path()) {
            panic!("the example at line {line} of docs/config.md:\n{errors}");
        }
    }
}

/// A key that the reader knows and the reference does not is a key that nobody will find.
#[test]
fn every_key_is_in_the_reference() {
    let words = include_str!("good/everything.yaml");
    let keys = words.lines().filter(|l| !l.trim_start().starts_with('#')).flat_map(|line| {
        line.split([' ', '{', ','])
            .filter_map(|w| w.strip_suffix(':'))
            .filter(|w| w.len() > 2 && w.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
    });
    // Names that the example makes up.
    let own = ["cluster", "module", "zone", "version", "severity", "summary", "service"];
    for key in keys.filter(|k| !own.contains(k)) {
        assert!(REFERENCE.contains(&format!("`{key}`")), "docs/config.md does not tell of `{key}`");
    }
}
