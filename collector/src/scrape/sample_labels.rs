//! From the labels of a line to the labels of a series: the target's labels, `honor_labels`, metric relabelling,
//! limits.

use davy_model::{Labels, LabelsBuilder, name};

use super::error::LimitError;
use crate::config::{ScrapeConfig, ScrapeLimits};
use crate::expfmt::LabelBuf;
use crate::relabel;

const EXPORTED_PREFIX: &str = "exported_";

/// Why a line has no series to go to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SeriesError {
    #[error("metric relabelling left {labels} without a metric name")]
    NoName { labels: Labels },
    #[error(transparent)]
    Limit(#[from] LimitError),
}

/// `None` when relabelling drops the sample.
pub(super) fn series_labels(
    line: &LabelBuf<'_>,
    target: &Labels,
    config: &ScrapeConfig,
) -> Result<Option<Labels>, SeriesError> {
    let mut labels = Labels::empty().builder();
    for (name, value) in line {
        labels.set(name, value);
    }
    if config.honor_labels {
        // A label that the line gives as empty says "none of the target's".
        for (name, value) in target.iter() {
            if line.iter().all(|(n, _)| n != name) {
                labels.set(name, value);
            }
        }
    } else {
        override_labels(&mut labels, target);
    }
    if !relabel::process(&mut labels, &config.metric_relabel) {
        return Ok(None);
    }
    let labels = labels.build();
    if labels.metric_name().is_empty() {
        return Err(SeriesError::NoName { labels });
    }
    check_limits(&labels, &config.limits)?;
    Ok(Some(labels))
}

/// The target's labels win; what the line said under the same name is kept as `exported_<name>`.
fn override_labels(labels: &mut LabelsBuilder, target: &Labels) {
    let mut conflicts: Vec<(String, String)> = Vec::new();
    for (name, value) in target.iter() {
        let exposed = labels.get(name);
        if !exposed.is_empty() {
            conflicts.push((name.to_owned(), exposed.to_owned()));
        }
        labels.set(name, value);
    }
    // The shortest first, so that `a` and `exported_a` both find a name whatever their order.
    conflicts.sort_unstable_by_key(|(name, _)| name.len());
    for (name, value) in conflicts {
        let mut free = format!("{EXPORTED_PREFIX}{name}");
        while !labels.get(&free).is_empty() {
            free.insert_str(0, EXPORTED_PREFIX);
        }
        labels.set(&free, &value);
    }
}

fn check_limits(labels: &Labels, limits: &ScrapeLimits) -> Result<(), LimitError> {
    let metric = || labels.metric_name().to_owned();
    if labels.len() as u64 > limits.labels_max {
        return Err(LimitError::Labels { metric: metric(), got: labels.len(), max: limits.labels_max });
    }
    for (label, value) in labels.iter() {
        if label.len() as u64 > limits.label_name_bytes_max {
            let max = limits.label_name_bytes_max;
            return Err(LimitError::LabelName { metric: metric(), got: label.len(), max });
        }
        if value.len() as u64 > limits.label_value_bytes_max {
            let (label, max) = (label.to_owned(), limits.label_value_bytes_max);
            let metric = if label == name::METRIC { String::new() } else { metric() };
            return Err(LimitError::LabelValue { metric, label, got: value.len(), max });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{scrape_config, step};

    fn series(line: &[(&str, &str)], config: &ScrapeConfig) -> Result<Option<Labels>, SeriesError> {
        let line = line.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
        series_labels(
            &line,
            &Labels::from_pairs([("job", "j"), ("instance", "i"), ("exported_job", "t")]),
            config,
        )
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied())
    }

    #[test]
    fn the_target_overrides_and_what_was_exposed_is_kept_aside() {
        let got = series(&[("__name__", "m"), ("job", "x"), ("exported_job", "y")], &scrape_config("j"));
        let want = labels(&[
            ("__name__", "m"),
            ("job", "j"),
            ("instance", "i"),
            ("exported_job", "t"),
            ("exported_exported_job", "x"),
            ("exported_exported_exported_job", "y"),
        ]);
        assert_eq!(got, Ok(Some(want)));
    }

    #[test]
    fn honoured_labels_win_even_when_they_are_empty() {
        let config = ScrapeConfig { honor_labels: true, ..scrape_config("j") };
        let got = series(&[("__name__", "m"), ("job", "x"), ("instance", "")], &config);
        assert_eq!(got, Ok(Some(labels(&[("__name__", "m"), ("job", "x"), ("exported_job", "t")]))));
    }

    #[test]
    fn metric_relabelling_comes_last_and_must_leave_a_name() {
        let mut config = scrape_config("j");
        config.metric_relabel = vec![step("instance", "(.*)", "where", "$1")];
        assert_eq!(series(&[("__name__", "m")], &config).unwrap().unwrap().get("where"), Some("i"));
        config.metric_relabel = vec![step("", "", "__name__", "")];
        assert!(matches!(series(&[("__name__", "m")], &config), Err(SeriesError::NoName { .. })));
    }

    #[test]
    fn limits_name_what_is_too_long() {
        let mut config = scrape_config("j");
        config.limits = ScrapeLimits {
            labels_max: 5,
            label_name_bytes_max: 12,
            label_value_bytes_max: 3,
            ..ScrapeLimits::default()
        };
        let check = |line: &[(&str, &str)], want: &str| {
            assert_eq!(series(line, &config).unwrap_err().to_string(), want);
        };
        assert!(series(&[("__name__", "m"), ("a", "123")], &config).is_ok());
        check(&[("__name__", "m"), ("a", "1"), ("b", "1")], "6 labels on m, expected at most 5");
        check(
            &[("__name__", "m"), ("a123456789012", "1")],
            "a label name of 13 bytes on m, expected at most 12",
        );
        check(&[("__name__", "m"), ("a", "1234")], "a value of 4 bytes for label a on m, expected at most 3");
    }
}
