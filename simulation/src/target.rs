//! The thing that carries the release: versions with shares, a generation, a mark, and compare-and-set.

use davy_alerting::release::{ActRequest, CallOutcome, Desired, Live, TargetState};

use crate::Variant;

pub(crate) const BASELINE: &str = "v1";
pub(crate) const CANARY: &str = "v2";
pub(crate) const HOT_FIX: &str = "v3";

#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) live: Live,
    pub(crate) generation: u64,
    pub(crate) marker: Option<String>,
    /// Which deployment of the canary this is; a human's redeployment is another.
    pub(crate) instance: u32,
    pub(crate) instance_since: i64,
    pub(crate) variant: Variant,
}

impl Target {
    pub(crate) fn canary_share(&self) -> f64 {
        match self.live {
            Live::Share(share) => share,
            Live::Baseline | Live::Other(_) => 0.0,
        }
    }

    pub(crate) fn read(&self) -> TargetState {
        let generation = match self.variant {
            Variant::RevisionAsGeneration => match &self.live {
                Live::Baseline => BASELINE.to_owned(),
                Live::Share(_) => CANARY.to_owned(),
                Live::Other(revision) => revision.clone(),
            },
            _ => self.generation.to_string(),
        };
        TargetState {
            uid: "target".to_owned(),
            token: generation.clone(),
            generation,
            live: self.live.clone(),
            marker: self.marker.clone(),
            refusal: None,
        }
    }

    /// One call as it arrives. `checked` is whether the caller can say what it expects.
    pub(crate) fn call(&mut self, request: &ActRequest) -> CallOutcome {
        let now = self.read();
        let checks = self.variant != Variant::NoCompareAndSet;
        if let Some(expect) = request.expect.as_ref().filter(|_| checks)
            && (&expect.uid, &expect.token) != (&now.uid, &now.token)
        {
            return CallOutcome::Conflict { detail: format!("at generation {}", now.generation) };
        }
        self.live = match request.desired {
            Desired::Baseline => Live::Baseline,
            Desired::Share(percent) => Live::Share(f64::from(percent) / 100.0),
            Desired::Canary => Live::Share(1.0),
        };
        self.generation += 1;
        if self.variant != Variant::NoMarker {
            self.marker = Some(request.marker.clone());
        }
        CallOutcome::Accepted { detail: "done".to_owned(), state: Some(self.read()) }
    }

    pub(crate) fn deploy(&mut self, now: i64, live: Live) {
        if matches!(live, Live::Share(_)) {
            self.instance += 1;
            self.instance_since = now;
        }
        self.live = live;
        self.generation += 1;
    }
}
