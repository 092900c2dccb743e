//! The invariants of ARCHITECTURE.md that a machine can hold.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// The drawing: a crate may use what stands in its row, and no other crate of ours.
const DRAWING: [(&str, &[&str]); 13] = [
    ("davy-model", &[]),
    ("davy-egress", &[]),
    ("davy-store", &["davy-model"]),
    ("davy-query", &["davy-model", "davy-store"]),
    ("davy-detector", &["davy-model", "davy-store", "davy-query"]),
    ("davy-alerting", &["davy-model", "davy-egress", "davy-store", "davy-query", "davy-detector"]),
    ("davy-collector", &["davy-model", "davy-egress", "davy-store"]),
    ("davy-dashboards", &[]),
    (
        "davy-api",
        &["davy-model", "davy-store", "davy-query", "davy-detector", "davy-alerting", "davy-collector"],
    ),
    (
        "davy",
        &[
            "davy-model",
            "davy-egress",
            "davy-store",
            "davy-query",
            "davy-detector",
            "davy-alerting",
            "davy-collector",
            "davy-dashboards",
            "davy-api",
        ],
    ),
    ("davy-fixtures", &["davy-model"]),
    ("davy-torture", &["davy-model", "davy-store"]),
    ("davy-simulation", &["davy-model", "davy-store", "davy-detector", "davy-alerting"]),
];

/// Crates that wait, and so have no place in the core.
const ASYNC: [&str; 7] = ["tokio", "tokio-util", "futures-util", "hyper", "axum", "reqwest", "tonic"];
const CORE: [&str; 4] = ["davy-model", "davy-store", "davy-query", "davy-detector"];

fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = MetadataCommand::new().no_deps().exec().expect("cargo describes its own workspace");
    let normal = |p: &cargo_metadata::Package| {
        p.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal).map(|d| d.name.clone()).collect()
    };
    metadata.packages.iter().map(|p| (p.name.to_string(), normal(p))).collect()
}

/// The workspace has several binaries, and all its members are built by default.
#[test]
fn the_readmes_first_command_means_davy() {
    let metadata = MetadataCommand::new().no_deps().exec().expect("cargo describes its own workspace");
    let named: Vec<_> = metadata.packages.iter().filter_map(|p| p.default_run.as_deref()).collect();
    assert_eq!(named, ["davy"], "`cargo run` needs one `default-run` among all members");
}

#[test]
fn crates_use_what_the_drawing_shows() {
    let actual = dependencies();
    let drawn: BTreeMap<_, _> = DRAWING.into_iter().collect();
    assert_eq!(
        actual.keys().map(String::as_str).collect::<BTreeSet<_>>(),
        drawn.keys().copied().collect(),
        "every crate of the workspace stands in the drawing"
    );
    for (name, uses) in &actual {
        let allowed = drawn[name.as_str()];
        for used in uses.iter().filter(|u| *u == "davy" || u.starts_with("davy-")) {
            assert!(allowed.contains(&used.as_str()), "{name} uses {used}, which the drawing does not show");
        }
    }
}

#[test]
fn the_core_is_synchronous() {
    let actual = dependencies();
    for name in CORE {
        let found: Vec<_> = ASYNC.iter().filter(|a| actual[name].contains(**a)).collect();
        assert!(found.is_empty(), "{name} is core and must not depend on {found:?}");
    }
    for name in CORE {
        for (path, text) in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(&name["davy-".len()..])) {
            assert!(!text.contains("async fn"), "{} is core and must not wait", path.display());
        }
    }
}

#[test]
fn core_types_carry_no_serde() {
    let actual = dependencies();
    for name in CORE {
        assert!(!actual[name].contains("serde"), "{name} is core: wire shapes live at the edges");
    }
}

#[test]
fn only_the_clock_reads_a_clock() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let words = ["SystemTime::now", "std::time::Instant::now", "jiff::Timestamp::now", "Zoned::now"];
    for (path, text) in all_sources() {
        if path == root.join("src/clock.rs") || path == root.join("tests/architecture.rs") {
            continue;
        }
        let code = text.split("#[cfg(test)]\nmod tests").next().expect("split gives at least one part");
        for word in words {
            assert!(!code.contains(word), "{} reads a clock: {word}", path.display());
        }
    }
}

#[test]
fn every_file_opens_by_saying_what_it_is() {
    for (path, text) in all_sources() {
        assert!(text.starts_with("//!"), "{} does not open with `//!`", path.display());
    }
}

#[test]
fn no_file_outgrows_a_readers_patience() {
    // A ratchet, not a ban: at 400 lines, look for the second idea that wants its own name.
    for (path, text) in all_sources() {
        let lines = text.lines().count();
        assert!(lines <= 600, "{} has {lines} lines; split it", path.display());
    }
}

#[test]
fn every_manifest_shares_the_workspace_lints() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in DRAWING.iter().map(|(n, _)| n.strip_prefix("davy-").unwrap_or(".")) {
        let manifest =
            std::fs::read_to_string(root.join(name).join("Cargo.toml")).expect("every crate has a manifest");
        // One of its files speaks to SQLite's C interface, which the workspace forbids; it is no part of the binary.
        if name == "torture" {
            assert!(
                manifest.contains("unsafe_code = \"deny\""),
                "unsafe code is allowed by the file, not the crate"
            );
            continue;
        }
        assert!(manifest.contains("[lints]\nworkspace = true"), "{name}/Cargo.toml lacks the shared lints");
    }
}

fn all_sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    [
        "src",
        "model",
        "store",
        "query",
        "detector",
        "alerting",
        "collector",
        "dashboards",
        "api",
        "fixtures",
        "torture",
        "simulation",
    ]
    .iter()
    .flat_map(|d| sources(&root.join(d)))
    .collect()
}

fn sources(dir: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("source folders can be read") {
            let path = entry.expect("entries can be read").path();
            if path.is_dir() && !path.ends_with("target") && !path.ends_with("tests") {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).expect("sources are UTF-8");
                found.push((path, text));
            }
        }
    }
    found.sort();
    found
}
