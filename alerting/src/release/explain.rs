//! A verdict's figures in words that can be read at night.

use davy_detector::{MetricClass, MetricVerdict, Outcome, Verdict};

use crate::words::{Language, Said};

/// The failing metrics, a line each; if none fails by itself, the one with the most evidence.
pub(super) fn worse(verdict: &Verdict, language: Language) -> String {
    let failing: Vec<&MetricVerdict> =
        verdict.metrics.iter().filter(|m| m.outcome == Outcome::Fail).collect();
    if failing.is_empty() {
        let most = verdict.metrics.iter().max_by(|a, b| a.evidence.total_cmp(&b.evidence));
        return most.map_or_else(String::new, |m| metric(m, language));
    }
    failing.into_iter().map(|m| metric(m, language)).collect::<Vec<_>>().join("\n")
}

/// `errors: 5.1 % against 0.1 % of the baseline (+5000 %, between +1200 % and +9000 %; ...`.
pub(super) fn metric(m: &MetricVerdict, language: Language) -> String {
    let level = |x: f64| level(m.class, x).unwrap_or_else(|| Said::new("worse.nothing").text(language));
    let difference = if m.estimate.is_finite() { difference(m, language) } else { String::new() };
    Said::new("worse.metric")
        .with("name", &m.name)
        .with("canary", level(m.canary))
        .with("baseline", level(m.baseline))
        .with("difference", difference)
        .with("canary_n", format!("{:.0}", m.canary_n))
        .with("baseline_n", format!("{:.0}", m.baseline_n))
        .text(language)
}

fn difference(m: &MetricVerdict, language: Language) -> String {
    let (lower, upper) = (relative(m.lower), relative(m.upper));
    let bounds = match (m.lower.is_finite(), m.upper.is_finite()) {
        (true, true) => Some(Said::new("worse.between").with("lower", lower).with("upper", upper)),
        (true, false) => Some(Said::new("worse.at_least").with("lower", lower)),
        (false, true) => Some(Said::new("worse.at_most").with("upper", upper)),
        (false, false) => None,
    };
    let margin = m
        .margin
        .is_finite()
        .then(|| Said::new("worse.margin").with("margin", format!("{:.0} %", m.margin * 100.0)));
    let text = |said: Option<Said>| said.map_or_else(String::new, |s| s.text(language));
    Said::new("worse.difference")
        .with("estimate", relative(m.estimate))
        .with("bounds", text(bounds))
        .with("margin", text(margin))
        .text(language)
}

pub(super) fn certainty(verdict: &Verdict, language: Language) -> String {
    let share = if verdict.traffic_share.is_finite() {
        let percent = format!("{:.0}", verdict.traffic_share * 100.0);
        Said::new("certainty.share").with("percent", percent).text(language)
    } else {
        String::new()
    };
    Said::new("certainty")
        .with("evidence", format!("{:.2}", verdict.evidence))
        .with("intervals", verdict.intervals)
        .with("share", share)
        .text(language)
}

fn relative(x: f64) -> String {
    let percent = x * 100.0;
    if percent.abs() < 10.0 { format!("{percent:+.1} %") } else { format!("{percent:+.0} %") }
}

/// `None` where nothing was measured.
fn level(class: MetricClass, x: f64) -> Option<String> {
    x.is_finite().then(|| match class {
        MetricClass::Errors | MetricClass::Proportion => format!("{} %", rounded(x * 100.0)),
        MetricClass::Latency if x < 1.0 => format!("{} ms", rounded(x * 1e3)),
        MetricClass::Latency => format!("{} s", rounded(x)),
        MetricClass::Memory => format!("{} MiB", rounded(x / f64::from(1 << 20))),
        MetricClass::Cpu | MetricClass::Gauge => rounded(x),
    })
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
        assert_eq!(level(class, x).as_deref().unwrap_or("nothing"), want);
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
