//! Rules from outside: promtool's own test data, rule files that are refused, a Davy that fires and resolves, and a
//! real Prometheus that evaluates the same file on the same data.

#[path = "../common/mod.rs"]
mod common;
mod files;
mod prometheus;
mod promtool;
mod running;

use std::path::{Path, PathBuf};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rules").join(name)
}

/// A report without the folder of this clone.
fn report(path: &Path, only: &[regex::Regex]) -> (String, bool) {
    let (text, good) = davy::rules::check(path, only);
    let folder = path.parent().expect("test files lie in a folder");
    (text.replace(&format!("{}/", folder.display()), ""), good)
}
