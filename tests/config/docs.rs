//! What the reference shows, loads.

use std::path::Path;

use davy::config::Config;
use regex::Regex;

const REFERENCE: &str = include_str!("../../docs/config.md");
/// What stands in rule files and in their unit tests.
const RULES: &str = include_str!("../../docs/rules.md");

/// The ```yaml blocks with the line they start in.
fn blocks() -> Vec<(usize, String)> {
    blocks_of(REFERENCE)
}

fn blocks_of(page: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (i, line) in page.lines().enumerate() {
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

/// Each page of an actuator and of the receivers has a file that works.
#[test]
fn every_example_of_the_pages_loads() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let mut examples = 0;
    for folder in ["actuators", "receivers", "."] {
        for entry in std::fs::read_dir(docs.join(folder)).expect("the pages are part of the repository") {
            let path = entry.expect("an entry").path();
            let is_page = folder != "." || path.ends_with("releases.md");
            if !is_page || path.extension().is_none_or(|e| e != "md") {
                continue;
            }
            for (line, text) in blocks_of(&std::fs::read_to_string(&path).expect("pages are text")) {
                // A page may show a release whose action stands in the block before.
                if let Err(errors) = Config::parse(&text, &path, Path::new("")) {
                    panic!("the example at {}:{line}:\n{errors}", path.display());
                }
                examples += 1;
            }
        }
    }
    assert!(examples >= 9, "{examples} examples");
}

/// A key that a reader asks for and the reference does not tell of is a key that nobody finds.
#[test]
fn every_key_is_in_the_reference() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config");
    // `s.get("key")` and `read_secret(s, "key", "key_file")`; what is not supported yet is asked by `not_yet`.
    let method = r#"\.(?:or|get|list|required|only|ignored)\(\s*"([a-z_0-9]+)""#;
    let function = r#"\(\s*(?:s|section|top),\s*"([a-z_0-9]+)"(?:,\s*"([a-z_0-9]+)")?"#;
    let keys = Regex::new(&format!("{method}|{function}")).expect("a good pattern");
    let mut found = 0;
    for entry in std::fs::read_dir(source).expect("the sources are part of the repository") {
        let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("sources are text");
        for capture in keys.captures_iter(&text) {
            for key in capture.iter().skip(1).flatten().map(|m| m.as_str()) {
                let told = [REFERENCE, RULES].iter().any(|text| text.contains(&format!("`{key}`")));
                assert!(told, "docs/config.md does not tell of `{key}`");
                found += 1;
            }
        }
    }
    assert!(found > 120, "only {found} keys were found in the sources");
}
