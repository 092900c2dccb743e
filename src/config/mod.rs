//! `Config`: Davy's file, read whole or refused whole.
//!
//! The edge where text becomes types: what comes out of here is right, and no other part of Davy reads YAML.
//! Three steps: text to a tree with places (`yaml`), the tree walked section by section (`reader` and a file
//! per section), errors told with file, line, column, field and what would be right (`error`). The blocks of
//! Prometheus and Alertmanager keep their words, so that a user's files paste in; their keys that Davy does
//! not have yet are refused by name. `docs/config.md` is the reference.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use davy_alerting::config::{ActionSpec, InhibitRule, Policy, Receiver, RollbackLimits, Route};
use davy_alerting::rule::GroupSpec;
use davy_alerting::words::Language;
use davy_collector::config::ScrapeConfig;
use davy_collector::remote_write_out::RemoteWriteConfig;
use davy_detector::config::{ReleaseSpec, ThresholdSpec};

mod action;
mod check;
mod discovery;
mod drill;
mod error;
mod global;
mod http;
mod inhibit;
mod mask;
mod matchers;
mod metric;
mod otlp;
mod reader;
mod receiver;
mod relabel;
mod release;
mod remote_write;
mod rollback_limits;
mod route;
mod rule;
mod rule_file;
mod rule_test;
mod scrape;
mod secrets;
mod source;
mod storage;
mod suggest;
mod template;
mod threshold;
mod time_interval;
mod value;
mod yaml;

pub use check::check;
pub use drill::DrillSpec;
pub use error::{ConfigError, ConfigErrors};
pub(crate) use matchers::parse_selector;
pub use otlp::Otlp;
pub use rule_file::{RuleDefaults, RuleFile};
pub use rule_test::{AlertCase, ExpectedAlert, ExpectedSample, ExprCase, InputSeries, RuleTest, RuleTests};
pub use value::{ListenError, check_listen, duration as parse_duration, show_duration};

use crate::sources::{ReleaseSource, SourceSpec};
use reader::{Context, Field, Section};

/// Largest configuration file.
const FILE_BYTES_MAX: usize = 1 << 20;

/// The whole file, parsed. Every reference in it holds and every default is filled in.
#[derive(Debug, Clone)]
pub struct Config {
    pub evaluation_interval: Duration,
    /// Added to whatever leaves Davy.
    pub external_labels: BTreeMap<String, String>,
    pub scrape_configs: Vec<ScrapeConfig>,
    /// Where samples are sent on to.
    pub remote_write: Vec<RemoteWriteConfig>,
    pub otlp: Otlp,
    pub storage: davy_store::Options,
    /// Servers that hold samples already, those that a release describes itself among them.
    pub sources: Vec<SourceSpec>,
    /// By service, where its samples come from, if from there.
    pub release_sources: BTreeMap<String, ReleaseSource>,
    /// Services that the file names; [`Config::default_release`] is for all others.
    pub releases: Vec<(ReleaseSpec, Policy)>,
    pub thresholds: Vec<ThresholdSpec>,
    pub drills: Vec<DrillSpec>,
    pub rollback_limits: RollbackLimits,
    /// Recording and alerting rules of every file that `rule_files` names.
    pub rule_groups: Vec<GroupSpec>,
    /// `None` where there are no receivers: alerts are shown and stored only.
    pub route: Option<Route>,
    pub inhibit_rules: Vec<InhibitRule>,
    pub receivers: Vec<Receiver>,
    pub actions: Vec<ActionSpec>,
    /// Of what Davy says to people.
    pub language: Language,
    /// What is taken but looks like a mistake, each with its place.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads and parses `path`; relative paths in it start at its folder.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let text = read(path, FILE_BYTES_MAX, &too_large()).map_err(|e| ConfigErrors::whole_file(path, e))?;
        Self::parse(&text, path, path.parent().unwrap_or(Path::new("")))
    }

    /// Parses `text`. `file` is the name in messages; relative paths start at `base_dir`. Reads nothing but
    /// the files of secrets, certificates and rules that the text names.
    pub fn parse(text: &str, file: &Path, base_dir: &Path) -> Result<Self, ConfigErrors> {
        if text.len() > FILE_BYTES_MAX {
            return Err(ConfigErrors::whole_file(file, too_large()));
        }
        let cx = Context::new(text, file, base_dir);
        let tree = match yaml::parse(text) {
            Ok(tree) => tree,
            Err(fault) => {
                let hidden = mask::without_tree(text, fault.at.bytes.start);
                return Err(ConfigErrors::collect(file, text, vec![(String::new(), fault)], &hidden));
            }
        };
        cx.hide(mask::secrets(&tree, text));
        for fault in tree.faults {
            cx.fault("", fault);
        }
        let config = Field::root(&cx, &tree.root).section(|s| Some(top(s)));
        let warnings = cx.finish()?;
        let config = config.expect("a walk without a config has reported an error");
        Ok(Self { warnings, ..config })
    }

    /// The defaults: an empty file.
    pub fn empty() -> Self {
        Self::parse("", Path::new(""), Path::new("")).expect("every key has a default")
    }

    /// How a service is judged and what may follow.
    pub fn rules(&self, service: &str) -> (ReleaseSpec, Policy) {
        let named = self.releases.iter().find(|(spec, _)| spec.service.as_deref() == Some(service));
        let (spec, policy) = named.cloned().unwrap_or_else(|| self.default_release());
        (spec, Policy { language: self.language, ..policy })
    }

    /// How services are judged that the file does not name: by the presets, on record only.
    pub fn default_release(&self) -> (ReleaseSpec, Policy) {
        (release::default_spec(self.evaluation_interval), Policy::default())
    }
}

/// The sections in the order in which they need each other.
fn top(s: &mut Section<'_>) -> Config {
    let global = global::read(s);
    let scrape_configs = scrape::read(s, &global);
    let remote_write = remote_write::read(s, &global);
    let otlp = otlp::read(s);
    let storage = storage::read(s);
    let actions = action::read(s);
    let mut sources = source::read(s, global.evaluation_interval);
    let (releases, release_sources) = release::read(s, global.evaluation_interval, &actions, &mut sources);
    let thresholds = threshold::read(s);
    let drills = drill::read(s);
    let rollback_limits = rollback_limits::read(s);
    let rule_groups = rule_file::read(s, &global);
    let templates = template::read(s);
    let receivers = receiver::read(s, &global, &templates);
    let intervals = time_interval::read(s);
    let route = route::read(s, &receivers, &intervals);
    let inhibit_rules = inhibit::read(s);
    other_keys(s);
    Config {
        evaluation_interval: global.evaluation_interval,
        external_labels: global.external_labels,
        scrape_configs,
        remote_write,
        otlp,
        storage,
        sources,
        release_sources,
        releases,
        thresholds,
        drills,
        rollback_limits,
        rule_groups,
        route,
        inhibit_rules,
        receivers,
        actions,
        language: global.language,
        warnings: Vec::new(),
    }
}

/// What Prometheus, Alertmanager or a later Davy has at the top.
fn other_keys(s: &mut Section<'_>) {
    s.not_yet(
        &["alerting"],
        "Davy sends alerts itself; write `route` and `receivers` as Alertmanager has them",
    );
    s.not_yet(&["scrape_config_files"], "write the jobs under `scrape_configs`");
    s.not_yet(&["remote_read"], "write `sources`, and name one in a release");
    s.not_yet(&["tracing", "runtime", "tracing_config"], "");
    s.not_yet(&["health_checks"], "scrapes tell whether a target is up");
    s.not_yet(&["access"], "every listener is on loopback");
}

fn too_large() -> String {
    format!(
        "the file is larger than {FILE_BYTES_MAX} bytes; move long lists of targets into `file_sd_configs`"
    )
}

/// A text file of at most `bytes_max`; a larger one is refused with `too_large`.
fn read(path: &Path, bytes_max: usize, too_large: &str) -> Result<String, String> {
    let file = File::open(path).map_err(|e| format!("cannot be read: {e}"))?;
    if file.metadata().is_ok_and(|m| m.is_dir()) {
        return Err("is a folder, expected a file".to_owned());
    }
    let mut bytes = Vec::new();
    let bounded = file.take(bytes_max as u64 + 1).read_to_end(&mut bytes);
    bounded.map_err(|e| format!("cannot be read: {e}"))?;
    if bytes.len() > bytes_max {
        return Err(too_large.to_owned());
    }
    String::from_utf8(bytes).map_err(|e| {
        let good = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = good.iter().filter(|b| **b == b'\n').count() + 1;
        format!("is not UTF-8: line {line} has a byte that is no part of any character")
    })
}
