//! `View`: what the app knows, published whole after every tick. Readers share it; nobody changes it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use davy_model::Timestamp;

use crate::wire;

/// Something that happened, for the terminal view and the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub at: Timestamp,
    pub text: String,
}

#[derive(Debug, Clone, Default)]
pub struct View {
    pub at: Timestamp,
    /// Newest first.
    pub releases: Vec<Arc<wire::Release>>,
    pub alerts: Vec<wire::Alert>,
    /// In the order of the files, and of each file.
    pub rules: Vec<wire::rules::RuleGroup>,
    /// Silences that have not ended.
    pub silences: Vec<davy_alerting::silence::Silence>,
    /// Newest first.
    pub drills: Vec<wire::Drill>,
    pub watched: Vec<wire::Watched>,
    /// Newest last, bounded by the app.
    pub events: VecDeque<Event>,
    /// Services seen with one live version, and versions that cannot be told apart: name and what is known.
    pub services: Vec<(String, String)>,
    /// By service.
    pub calibrations: Vec<wire::Calibration>,
    /// Added to whatever leaves Davy.
    pub external_labels: BTreeMap<String, String>,
    /// How long samples are kept.
    pub retention: Duration,
}

/// Where the app puts the newest view and readers find it.
#[derive(Debug, Clone, Default)]
pub struct ViewHandle(Arc<RwLock<Arc<View>>>);

impl ViewHandle {
    pub fn load(&self) -> Arc<View> {
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    pub fn store(&self, view: View) {
        *self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(view);
    }
}
