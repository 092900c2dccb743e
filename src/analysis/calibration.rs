//! A calibration as the JSON of its row in the control database, and in words.

use std::collections::BTreeMap;

use davy_detector::{Calibration, Noise};
use davy_model::Timestamp;
use davy_store::control::{CalibrationRecord, Control};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Row {
    releases: u64,
    aa_runs: u64,
    aa_alarms: u64,
    metrics: BTreeMap<String, NoiseRow>,
}

#[derive(Serialize, Deserialize)]
struct NoiseRow {
    luck_variance: f64,
    luck_weight: f64,
    arm_variance: f64,
    arm_weight: f64,
    dispersion: f64,
    dispersion_weight: f64,
}

/// What was known of the service at `at`; what cannot be read teaches nothing and is said in the log.
pub fn load(control: &Control, service: &str, at: Timestamp) -> Calibration {
    match control.calibration(service, at) {
        Ok(record) => record.map_or_else(Calibration::default, |r| read(&r)),
        Err(error) => without(service, &error),
    }
}

/// What a row says.
pub fn read(record: &CalibrationRecord) -> Calibration {
    parse(&record.detail).unwrap_or_else(|error| without(&record.service, &error))
}

fn without(service: &str, error: &dyn std::fmt::Display) -> Calibration {
    tracing::warn!(service, %error, "what earlier releases taught cannot be read; judged without it");
    Calibration::default()
}

pub fn record(service: &str, at: Timestamp, calibration: &Calibration) -> CalibrationRecord {
    let noise = |n: &Noise| NoiseRow {
        luck_variance: finite(n.luck_variance),
        luck_weight: finite(n.luck_weight),
        arm_variance: finite(n.arm_variance),
        arm_weight: finite(n.arm_weight),
        dispersion: finite(n.dispersion),
        dispersion_weight: finite(n.dispersion_weight),
    };
    let row = Row {
        releases: calibration.releases,
        aa_runs: calibration.aa_runs,
        aa_alarms: calibration.aa_alarms,
        metrics: calibration.metrics.iter().map(|(name, n)| (name.clone(), noise(n))).collect(),
    };
    let detail = serde_json::to_string(&row).expect("finite numbers under text keys");
    CalibrationRecord { service: service.to_owned(), at, detail }
}

fn parse(detail: &str) -> Result<Calibration, serde_json::Error> {
    let row: Row = serde_json::from_str(detail)?;
    let noise = |n: NoiseRow| Noise {
        luck_variance: n.luck_variance,
        luck_weight: n.luck_weight,
        arm_variance: n.arm_variance,
        arm_weight: n.arm_weight,
        dispersion: n.dispersion,
        dispersion_weight: n.dispersion_weight,
    };
    Ok(Calibration {
        releases: row.releases,
        aa_runs: row.aa_runs,
        aa_alarms: row.aa_alarms,
        metrics: row.metrics.into_iter().map(|(name, n)| (name, noise(n))).collect(),
    })
}

/// JSON has no other numbers, and these would teach nothing.
fn finite(v: f64) -> f64 {
    if v.is_finite() { v } else { 0.0 }
}

/// `noise known from 6 earlier releases; of 6 splits of the baseline 0 were called worse`.
pub fn in_words(known: &Calibration) -> String {
    let counted = |n: u64, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
    let releases = match known.releases {
        0 => "noise not known from earlier releases".to_owned(),
        n => format!("noise known from {}", counted(n, "earlier release", "earlier releases")),
    };
    match known.aa_runs {
        0 => releases,
        n => format!(
            "{releases}; of {} of the baseline against itself {} called worse",
            counted(n, "trial", "trials"),
            counted(known.aa_alarms, "was", "were"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_broken_teaches_nothing() {
        let noise = Noise { luck_variance: 0.01, luck_weight: 6.0, arm_weight: f64::NAN, ..Noise::default() };
        let taught = Calibration {
            releases: 3,
            aa_runs: 2,
            aa_alarms: 1,
            metrics: BTreeMap::from([("errors".to_owned(), noise)]),
        };
        let dir = tempfile::tempdir().unwrap();
        let control = Control::open(&dir.path().join("control.db")).unwrap();
        let at = Timestamp::from_millis;
        let write = |record| {
            let batch =
                davy_store::control::ControlBatch { calibrations: vec![record], ..Default::default() };
            control.write(&batch).unwrap();
        };
        write(record("checkout", at(5), &taught));
        let read = load(&control, "checkout", at(9));
        assert_eq!((read.releases, read.aa_runs, read.aa_alarms), (3, 2, 1));
        assert_eq!(read.metrics["errors"], Noise { arm_weight: 0.0, ..noise });
        assert_eq!(load(&control, "checkout", at(4)), Calibration::default());
        write(CalibrationRecord { service: "cart".into(), at: at(1), detail: "{".into() });
        assert_eq!(load(&control, "cart", at(9)), Calibration::default());
    }

    #[test]
    fn it_says_how_often_equal_versions_were_called_worse() {
        let known = Calibration { releases: 1, aa_runs: 4, aa_alarms: 1, ..Calibration::default() };
        assert_eq!(
            in_words(&known),
            "noise known from 1 earlier release; of 4 trials of the baseline against itself 1 was called worse"
        );
    }
}
