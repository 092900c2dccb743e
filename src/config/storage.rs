//! `storage`: how long and how much is kept, and the bounds on what comes in.

use davy_store::{Limits, Options};

use super::reader::{Field, Section};
use super::value::{bytes, positive_duration};

/// A bound of fewer series than one target shows is a slip of the pen.
const SERIES_MIN: u64 = 100;

pub(super) fn read(top: &mut Section<'_>) -> Options {
    top.or("storage", Options::default(), |field| field.section(|s| Some(section(s))))
}

fn section(s: &mut Section<'_>) -> Options {
    let default = Options::default();
    let retention = s.or("retention", default.retention, |f| f.parse(positive_duration));
    let retention_bytes_max = s.get("retention_size").and_then(|f| f.parse(positive_bytes));
    let commit_interval = s.or("commit_interval", default.commit_interval, |f| f.parse(positive_duration));
    let out_of_order_window =
        s.or("out_of_order_window", default.out_of_order_window, |f| f.parse(super::value::duration));
    let limits = Limits {
        series_max: s.or("series_limit", default.limits.series_max, series),
        series_per_service_max: s.or(
            "series_per_service_limit",
            default.limits.series_per_service_max,
            series,
        ),
        series_per_target_max: s.or("series_per_target_limit", default.limits.series_per_target_max, series),
        series_new_per_hour_max: s.or(
            "series_new_per_hour_limit",
            default.limits.series_new_per_hour_max,
            series,
        ),
        free_disk_bytes_min: s
            .or("min_free_disk", default.limits.free_disk_bytes_min, |f| f.parse(positive_bytes)),
        timestamp_past_max: s
            .or("max_sample_age", default.limits.timestamp_past_max, |f| f.parse(positive_duration)),
        timestamp_future_max: s
            .or("max_sample_ahead", default.limits.timestamp_future_max, |f| f.parse(positive_duration)),
    };
    s.not_yet(&["tsdb"], "that is Prometheus' store; here it is `retention` and `retention_size` directly");
    s.not_yet(&["exemplars"], "the newest exemplars are kept by themselves");
    Options { commit_interval, retention, retention_bytes_max, out_of_order_window, limits, ..default }
}

fn positive_bytes(text: &str) -> Result<u64, String> {
    match bytes(text)? {
        0 => Err("expected a size above 0, such as 10GB".to_owned()),
        n => Ok(n),
    }
}

fn series(field: &Field<'_>) -> Option<usize> {
    let n = field.u64()?;
    if n < SERIES_MIN {
        field.error(format!("got {n}, expected at least {SERIES_MIN} series; there is no unlimited"));
        return None;
    }
    usize::try_from(n).ok()
}
