//! Targets from files, read again when they change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::wire;
use crate::target::TargetGroup;

const FILE_BYTES_MAX: u64 = 16 << 20;
/// Files that one pattern may match.
const MATCHES_MAX: usize = 1_000;

pub(crate) struct FileDiscovery {
    patterns: Vec<PathBuf>,
    pub(super) refresh_interval: Duration,
    known: BTreeMap<PathBuf, Known>,
    looked: bool,
}

#[derive(Debug, Default)]
struct Known {
    groups: Vec<TargetGroup>,
    /// Time of change and size when it was last read.
    stamp: Option<(SystemTime, u64)>,
    /// Logged when it becomes another one.
    error: Option<String>,
}

impl FileDiscovery {
    pub(super) fn new(patterns: Vec<PathBuf>, refresh_interval: Duration) -> Self {
        Self { patterns, refresh_interval, known: BTreeMap::new(), looked: false }
    }

    /// Reads the files that changed, or all of them with `force`. `None` when the list is as it was.
    pub(super) fn look(&mut self, force: bool) -> Option<Vec<TargetGroup>> {
        let paths: Vec<PathBuf> = self.patterns.iter().flat_map(|p| matches(p)).collect();
        let before = self.known.len();
        self.known.retain(|path, _| paths.contains(path));
        let mut changed = self.known.len() != before || !self.looked;
        self.looked = true;
        for path in paths {
            let known = self.known.entry(path.clone()).or_default();
            changed |= known.look(&path, force);
        }
        let all = || self.known.values().flat_map(|k| k.groups.iter().cloned()).collect();
        changed.then(all)
    }
}

impl Known {
    fn look(&mut self, path: &Path, force: bool) -> bool {
        let stamp = std::fs::metadata(path).and_then(|m| Ok((m.modified()?, m.len()))).ok();
        if stamp == self.stamp && stamp.is_some() && !force {
            return false;
        }
        self.stamp = stamp;
        match read(path) {
            Ok(groups) => {
                self.error = None;
                let changed = groups != self.groups;
                self.groups = groups;
                changed
            }
            Err(error) => {
                if self.error.as_ref() != Some(&error) {
                    tracing::warn!(path = %path.display(), %error, "file of targets cannot be used: the last list stays");
                }
                self.error = Some(error);
                false
            }
        }
    }
}

fn read(path: &Path) -> Result<Vec<TargetGroup>, String> {
    let len = std::fs::metadata(path).map_err(|e| e.to_string())?.len();
    if len > FILE_BYTES_MAX {
        return Err(format!("file has {len} bytes, expected at most {FILE_BYTES_MAX}"));
    }
    let body = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
    let mut groups = match extension.as_str() {
        "json" => wire::json(body.as_bytes())?,
        "yml" | "yaml" => wire::yaml(&body)?,
        other => return Err(format!("expected a name ending in .json, .yml or .yaml, got .{other}")),
    };
    for group in &mut groups {
        group.labels.insert("__meta_filepath".to_owned(), path.display().to_string());
    }
    Ok(groups)
}

/// The path itself, or the files that match a `*` in its last element.
fn matches(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    if !name.contains('*') {
        return vec![pattern.to_owned()];
    }
    let dir = pattern.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(entries) = std::fs::read_dir(dir) else { return vec![] };
    let mut found: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .filter(|e| fits(&name, &e.file_name().to_string_lossy()))
        .map(|e| dir.join(e.file_name()))
        .filter(|p| p.is_file())
        .collect();
    found.sort_unstable();
    if found.len() > MATCHES_MAX {
        tracing::warn!(pattern = %pattern.display(), found = found.len(), max = MATCHES_MAX, "pattern matches too many files");
        found.truncate(MATCHES_MAX);
    }
    found
}

/// Whether `name` fits `pattern`, in which `*` stands for any text.
fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let last = parts.next_back().unwrap_or("");
    let Some(rest) = name.strip_prefix(first) else { return false };
    let Some(mut rest) = rest.strip_suffix(last) else { return false };
    parts.all(|part| match rest.find(part) {
        Some(i) => {
            rest = &rest[i + part.len()..];
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(groups: &[TargetGroup]) -> Vec<&str> {
        groups.iter().flat_map(|g| g.targets.iter().map(String::as_str)).collect()
    }

    #[test]
    fn stars_match_any_text() {
        for (pattern, name, want) in [
            ("*.yml", "a.yml", true),
            ("*.yml", ".yml", true),
            ("a*b*c.json", "axxbyyc.json", true),
            ("a*b*c.json", "axxc.json", false),
            ("a*a.yml", "a.yml", false),
            ("*.yml", "a.yaml", false),
        ] {
            assert_eq!(fits(pattern, name), want, "{pattern} {name}");
        }
    }

    #[test]
    fn changed_new_and_removed_files_are_seen_and_a_broken_one_keeps_its_list() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, body: &str| std::fs::write(dir.path().join(name), body).unwrap();
        let mut files =
            FileDiscovery::new(vec![dir.path().join("*.yml"), dir.path().join("x.json")], Duration::MAX);
        assert_eq!(files.look(true).as_deref(), Some(&[][..]), "nothing is an answer as well");

        write("a.yml", "- targets: [a:1]\n");
        write("x.json", r#"[{"targets":["x:1"]}]"#);
        let groups = files.look(false).unwrap();
        assert_eq!(targets(&groups), ["a:1", "x:1"]);
        assert!(groups[0].labels["__meta_filepath"].ends_with("a.yml"));
        assert_eq!(files.look(false), None);

        write("a.yml", "- targets: [a:1, a:22]\n");
        assert_eq!(targets(&files.look(false).unwrap()), ["a:1", "a:22", "x:1"]);

        write("a.yml", "- targets: [a:1, a:22");
        assert_eq!(files.look(false), None);
        write("b.yml", "- targets: [b:1]\n");
        assert_eq!(targets(&files.look(false).unwrap()), ["a:1", "a:22", "b:1", "x:1"]);

        std::fs::remove_file(dir.path().join("b.yml")).unwrap();
        assert_eq!(targets(&files.look(false).unwrap()), ["a:1", "a:22", "x:1"]);
    }
}
