//! `rule_files`: which files hold rules, and reading one of them. A file of unit tests is told from one of rules by
//! its keys.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use davy_alerting::rule::GroupSpec;

use super::error::ConfigErrors;
use super::global::Global;
use super::reader::{Context, Field, Section};
use super::rule_test::RuleTests;
use super::{mask, rule, rule_test, yaml};

/// Largest file of rules or tests.
const FILE_BYTES_MAX: usize = 4 << 20;
/// Files of rules altogether.
pub(super) const FILES_MAX: usize = 1000;

/// What a group has that says nothing of its own.
#[derive(Debug, Clone, Copy)]
pub struct RuleDefaults {
    pub interval: Duration,
    pub query_offset: Duration,
}

/// One file of those that `davy check rules` is given.
#[derive(Debug)]
pub enum RuleFile {
    Rules(Vec<GroupSpec>),
    Tests(RuleTests),
}

impl RuleFile {
    /// With the warnings. Relative paths in a file of tests start at its folder.
    pub fn load(path: &Path, defaults: RuleDefaults) -> Result<(Self, Vec<String>), ConfigErrors> {
        let name = path.display().to_string();
        load(path, |s| {
            if rule_test::is_tests(s) {
                return Some(Self::Tests(rule_test::read(s)));
            }
            Some(Self::Rules(rule::groups(s, &name, &defaults)))
        })
    }

    /// As [`Self::load`] for a file that must hold rules.
    pub fn load_rules(
        path: &Path,
        defaults: RuleDefaults,
    ) -> Result<(Vec<GroupSpec>, Vec<String>), ConfigErrors> {
        let name = path.display().to_string();
        load(path, |s| Some(rule::groups(s, &name, &defaults)))
    }
}

/// The groups of every file that the patterns name, in the order of patterns and files.
pub(super) fn read(top: &mut Section<'_>, global: &Global) -> Vec<GroupSpec> {
    let defaults =
        RuleDefaults { interval: global.evaluation_interval, query_offset: global.rule_query_offset };
    let mut seen = BTreeSet::new();
    let groups = top.list("rule_files", |field| {
        let mut groups = Vec::new();
        for path in matching(&field) {
            if !seen.insert(path.clone()) {
                continue;
            }
            if seen.len() > FILES_MAX {
                field.error(format!("more than {FILES_MAX} files of rules"));
                break;
            }
            match RuleFile::load_rules(&path, defaults) {
                Ok((found, warnings)) => {
                    groups.extend(found);
                    field.include_warnings(warnings);
                }
                Err(errors) => field.include(errors),
            }
        }
        Some(groups)
    });
    groups.into_iter().flatten().collect()
}

/// The files that a path or pattern names, sorted. A plain path must be there; a pattern may wait for its files.
pub(super) fn matching(field: &Field<'_>) -> Vec<PathBuf> {
    let Some(path) = field.path() else { return Vec::new() };
    let Some(pattern) = path.to_str() else {
        field.error("got a path that is not UTF-8");
        return Vec::new();
    };
    if !pattern.contains(['*', '?', '[']) {
        return vec![path];
    }
    // As Go's: a star stands for no slash, and dots at the start are nothing special.
    let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
    let found = match glob::glob_with(pattern, options) {
        Ok(found) => found,
        Err(error) => {
            field.error(format!("not a pattern of files: {error}"));
            return Vec::new();
        }
    };
    let mut paths: Vec<PathBuf> =
        found.filter_map(Result::ok).filter(|p| p.is_file()).take(FILES_MAX + 1).collect();
    paths.sort();
    if paths.is_empty() {
        field.warn("no file fits this pattern");
    }
    paths
}

/// Reads one YAML file by `top`, with its warnings.
fn load<T>(
    path: &Path,
    top: impl FnOnce(&mut Section<'_>) -> Option<T>,
) -> Result<(T, Vec<String>), ConfigErrors> {
    let too_large = format!("the file is larger than {FILE_BYTES_MAX} bytes; spread the groups over several");
    let text =
        super::read(path, FILE_BYTES_MAX, &too_large).map_err(|e| ConfigErrors::whole_file(path, e))?;
    let cx = Context::new(&text, path, path.parent().unwrap_or(Path::new("")));
    let tree = match yaml::parse(&text) {
        Ok(tree) => tree,
        Err(fault) => {
            let hidden = mask::without_tree(&text, fault.at.bytes.start);
            return Err(ConfigErrors::collect(path, &text, vec![(String::new(), fault)], &hidden));
        }
    };
    for fault in tree.faults {
        cx.fault("", fault);
    }
    let read = Field::root(&cx, &tree.root).section(top);
    let warnings = cx.finish()?;
    Ok((read.expect("a walk without a result has reported an error"), warnings))
}
