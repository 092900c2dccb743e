//! A verdict's figures in words that can be read at night.

use davy_detector::{MetricClass, MetricVerdict, Outcome, Verdict};

/// The failing metrics, a line each; if none fails by itself, the one with the most evidence.
pub(super) fn worse(verdict: &Verdict) -> String {
    let failing: Vec<&MetricVerdict> =
        verdict.metrics.iter().filter(|m| m.outcome == Outcome::Fail).collect();
    if failing.is_empty() {
        let most = verdict.metrics.iter().max_by(|a, b| a.evidence.total_cmp(&b.evidence));
        return most.map_or_else(String::new, metric);
    }
    failing.into_iter().map(metric).collect::<Vec<_>>().join("\n")
}

/// `errors: 5.1 % against 0.1 % of the baseline (+5000 %, between +1200 % and +9000 %; ...`.
pub(super) fn metric(m: &MetricVerdict) -> String {
    let mut text = format!(
        "{}: {} against {} of the baseline",
        m.name,
        level(m.class, m.canary),
        level(m.class, m.baseline)
    );
    if m.estimate.is_finite() {
        text += &format!(" ({}", relative(m.estimate));
        match (m.lower.is_finite(), m.upper.is_finite()) {
            (true, true) => {
                text += &format!(", between {} and {}", relative(m.lower), relative(m.upper));
            }
            (true, false) => text += &format!(", at least {}", relative(m.lower)),
            (false, true) => text += &format!(", at most {}", relative(m.upper)),
            (false, false) => {}
        }
        if m.margin.is_finite() {
            text += &format!("; up to {:.0} % is tolerated", m.margin * 100.0);
        }
        text += ")";
    }
    text + &format!(
        ", from {:.0} of the canary's and {:.0} of the baseline's observations",
        m.canary_n, m.baseline_n
    )
}

pub(super) fn certainty(verdict: &Verdict) -> String {
    let intervals = if verdict.intervals == 1 { "interval" } else { "intervals" };
    let share = if verdict.traffic_share.is_finite() {
        format!(" at {:.0} % of the traffic", verdict.traffic_share * 100.0)
    } else {
        String::new()
    };
    format!(
        "evidence {:.2} times what a rollback needs, after {} {intervals}{share}",
        verdict.evidence, verdict.intervals
    )
}

fn relative(x: f64) -> String {
    let percent = x * 100.0;
    if percent.abs() < 10.0 { format!("{percent:+.1} %") } else { format!("{percent:+.0} %") }
}

fn level(class: MetricClass, x: f64) -> String {
    if !x.is_finite() {
        return "nothing".to_owned();
    }
    match class {
        MetricClass::Errors | MetricClass::Proportion => format!("{} %", rounded(x * 100.0)),
        MetricClass::Latency if x < 1.0 => format!("{} ms", rounded(x * 1e3)),
        MetricClass::Latency => format!("{} s", rounded(x)),
        MetricClass::Memory => format!("{} MiB", rounded(x / f64::from(1 << 20))),
        MetricClass::Cpu | MetricClass::Gauge => rounded(x),
    }
}

/// Three significant digits, without an exponent for what people meet.
fn rounded(x: f64) -> String {
    let abs = x.abs();
    if abs >= 100.0 {
        format!("{x:.0}")
    } else if abs >= 10.0 {
        format!("{x:.1}")
    } else if abs >= 0.01 || abs == 0.0 {
        format!("{x:.2}")
    } else {
        format!("{x:.2e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(class: MetricClass, x: f64, want: &str) {
        assert_eq!(level(class, x), want);
    }

    #[test]
    fn levels_are_in_their_class_s_unit() {
        check(MetricClass::Errors, 0.051_2, "5.12 %");
        check(MetricClass::Errors, 0.0, "0.00 %");
        check(MetricClass::Latency, 0.412_3, "412 ms");
        check(MetricClass::Latency, 1.5, "1.50 s");
        check(MetricClass::Memory, 300.0 * 1024.0 * 1024.0, "300 MiB");
        check(MetricClass::Cpu, 0.000_012, "1.20e-5");
        check(MetricClass::Gauge, f64::NAN, "nothing");
    }
}
