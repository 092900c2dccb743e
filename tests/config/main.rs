//! The configuration as users write it: good files with the summary they get, bad files with what they are told.

mod docs;
mod hostile;
mod secrets;
mod values;

use std::fs;
use std::path::{Path, PathBuf};

use davy::config::{Config, ConfigErrors};
use expect_test::expect_file;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(name)
}

/// The `.yaml` files of a folder, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder is part of the repository");
    let mut paths: Vec<_> = entries.map(|e| e.expect("an entry").path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "yaml" || e == "yml"));
    paths.sort();
    paths
}

/// As `Config::load`, with the file's bare name in messages.
fn load(path: &Path) -> Result<Config, ConfigErrors> {
    let text = fs::read_to_string(path).expect("test files are text");
    let name = path.file_name().expect("it was listed in a folder");
    Config::parse(&text, Path::new(name), path.parent().expect("it was listed in a folder"))
}

/// Machine-dependent parts of messages: the folder of this clone.
fn portable(text: &str, path: &Path) -> String {
    let folder = path.parent().expect("it was listed in a folder");
    text.replace(&format!("{}/", folder.display()), "")
}

#[test]
fn every_bad_file_is_refused_with_its_message() {
    let bad = files(&folder("bad"));
    assert!(bad.len() >= 40, "{} bad files", bad.len());
    for path in bad {
        let Err(errors) = load(&path) else { panic!("{} was accepted", path.display()) };
        let text = portable(&errors.to_string(), &path);
        expect_file![path.with_extension("txt")].assert_eq(&format!("{text}\n"));
    }
}

#[test]
fn every_error_names_file_line_and_column() {
    for path in files(&folder("bad")) {
        let errors = load(&path).expect_err("bad files are refused");
        let name = path.file_name().expect("it was listed").to_string_lossy();
        for error in &errors.errors {
            let text = error.to_string();
            assert!(error.line > 0 && error.column > 0, "{text}");
            assert!(text.starts_with(&format!("{name}:{}:{}:", error.line, error.column)), "{text}");
        }
    }
}

#[test]
fn every_good_file_is_read_as_it_is_meant() {
    for path in files(&folder("good")) {
        let (text, ok) = davy::config::check(&path);
        let text = portable(&text, &path);
        assert!(ok, "{text}");
        expect_file![path.with_extension("txt")].assert_eq(&text);
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let errors = Config::load(Path::new("/nowhere/davy.yaml")).expect_err("there is no such file");
    assert!(errors.to_string().starts_with("/nowhere/davy.yaml: cannot be read: "), "{errors}");
}

#[test]
fn a_folder_is_no_file() {
    let errors = Config::load(&folder("bad")).expect_err("it is a folder");
    assert!(errors.to_string().ends_with("expected a file"), "{errors}");
}
