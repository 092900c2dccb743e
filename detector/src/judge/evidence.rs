//! Evidence: how much likelier an effect beyond the margin makes what was seen than an effect at the margin.
//!
//! Reference: the one-sided normal mixture of Robbins (1970) as an e-process, see Howard, Ramdas, McAuliffe and
//! Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences" (2021), in the asymptotic form of
//! Waudby-Smith and others (2024): every metric is reduced to an estimate `m` of its effect beyond the margin and
//! a variance `a2`. It assumes that `m` is near normal given `a2`; it fails where the variance is underestimated.
//! How often it cries wolf is measured in `detector/tests/scenarios.rs`. By Ville's inequality a weighted mean of
//! such evidences passes `1/alpha` with probability at most `alpha`, whenever and however often one looks.

use std::f64::consts::LN_2;
use std::sync::LazyLock;

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

use super::tail;

/// Effect sizes that the mixture expects: standard deviations of the effect beyond the margin.
pub(crate) type Scales = [f64; 2];

/// Of relative effects: some tens of per cent, and gross ones.
pub(crate) const EFFECTS: Scales = [0.15, 0.6];
/// Of slopes per hour.
pub(crate) const SLOPES: Scales = [0.2, 1.0];
/// The single scale of the interval that is shown: wide enough for a handful of events, and a tenth wider than
/// the best where there are many.
const INTERVAL_SCALE: f64 = 1.0;
/// Tail of Student's t at which few instances are made to count like a normal.
const INFLATION_TAIL: f64 = 0.001;
/// Beyond this many degrees of freedom an expansion is exact to five digits.
const INFLATION_TABLE_NU_MAX: usize = 40;

/// Log of the evidence that the effect is above zero, from its estimate and variance. `wide` adds a component for
/// effects far beyond the scales: at a small canary share the linearised effect of a gross bug is large. Zero,
/// which is no evidence either way, for anything that is not a number.
pub(crate) fn log_e(m: f64, a2: f64, scales: Scales, wide: Option<f64>) -> f64 {
    if !(a2 > 0.0 && a2.is_finite() && m.is_finite()) {
        return 0.0;
    }
    let whole = match wide.filter(|w| *w > 0.0 && w.is_finite()) {
        None => mixture(m, a2, [(0.5, scales[0]), (0.5, scales[1])]),
        Some(w) => mixture(m, a2, [(0.4, scales[0]), (0.4, scales[1]), (0.2, w)]),
    };
    whole + LN_2
}

/// A component of scale `k` weighs `sqrt(a2 / b2) exp(x²/2) Phi(x)` with `b2 = a2 + k²` and `x = m k / sqrt(a2 b2)`.
/// Sums in the plain domain with the greatest exponent taken out, because logarithms of every component are most of
/// what a step of the judge would cost.
fn mixture<const N: usize>(m: f64, a2: f64, components: [(f64, f64); N]) -> f64 {
    let mut logs = [0.0f64; N];
    let mut factors = [0.0f64; N];
    for (i, (weight, k)) in components.into_iter().enumerate() {
        let per_deviation = 1.0 / (a2 * (a2 + k * k)).sqrt();
        let (log, factor) = tail::lifted(m * k * per_deviation);
        logs[i] = log;
        factors[i] = weight * a2 * per_deviation * factor;
    }
    let top = logs.into_iter().fold(0.0, f64::max);
    if top == 0.0 {
        return factors.iter().sum::<f64>().ln();
    }
    let sum: f64 = logs.iter().zip(factors).map(|(l, f)| f * (l - top).exp()).sum();
    top + sum.ln()
}

/// Half-width of the interval around an estimate of variance `a2` that holds the truth at every time at once with
/// probability `1 - alpha`: the two-sided mixture, inverted.
pub(crate) fn radius(a2: f64, alpha: f64) -> f64 {
    let b2 = a2 + INTERVAL_SCALE * INTERVAL_SCALE;
    (2.0 * a2 * b2 / (INTERVAL_SCALE * INTERVAL_SCALE) * ((b2 / a2).sqrt() / alpha).ln()).sqrt()
}

/// `ln(e^a + e^b)`.
pub(crate) fn log_add(a: f64, b: f64) -> f64 {
    let top = a.max(b);
    if top == f64::NEG_INFINITY { top } else { top + ((a - top).exp() + (b - top).exp()).ln() }
}

/// Factor by which a variance estimated with `nu` degrees of freedom is enlarged, so that its normal tail is as
/// heavy as Student's.
pub(crate) fn t_inflation(nu: f64) -> f64 {
    static TABLE: LazyLock<Vec<f64>> =
        LazyLock::new(|| (4..=4 * INFLATION_TABLE_NU_MAX).map(|i| exact_inflation(i as f64 / 4.0)).collect());
    static EXPANSION: LazyLock<[f64; 3]> = LazyLock::new(inflation_expansion);
    let quarter = ((4.0 * nu + 0.5) as usize).max(4);
    match TABLE.get(quarter - 4) {
        Some(v) => *v,
        None => {
            let [c1, c2, c3] = *EXPANSION;
            let per_nu = 4.0 / quarter as f64;
            (1.0 + per_nu * (c1 + per_nu * (c2 + per_nu * c3))).powi(2)
        }
    }
}

/// Cornish and Fisher's expansion of Student's quantile over the normal's, by powers of `1/nu`.
fn inflation_expansion() -> [f64; 3] {
    let z2 = normal_tail().powi(2);
    [
        (z2 + 1.0) / 4.0,
        (5.0 * z2.powi(2) + 16.0 * z2 + 3.0) / 96.0,
        (3.0 * z2.powi(3) + 19.0 * z2.powi(2) + 17.0 * z2 - 15.0) / 384.0,
    ]
}

fn normal_tail() -> f64 {
    -Normal::standard().inverse_cdf(INFLATION_TAIL)
}

fn exact_inflation(nu: f64) -> f64 {
    let t = StudentsT::new(0.0, 1.0, nu).expect("at least one degree of freedom");
    (t.inverse_cdf(INFLATION_TAIL) / normal_tail()).powi(2)
}

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;

    use super::*;

    fn close(got: f64, want: f64, tolerance: f64) {
        assert!((got - want).abs() <= tolerance * want.abs().max(1.0), "got {got}, want {want}");
    }

    /// `python3 -c "from scipy.stats import t, norm; print([float((t.isf(1e-3,n)/norm.isf(1e-3))**2) for n in (1,6,9.25,40,100,400)])"`
    #[test]
    fn inflation_agrees_with_scipy() {
        for (nu, want) in [1.0, 6.0, 9.25, 40.0, 100.0, 400.0].into_iter().zip(INFLATION) {
            close(t_inflation(nu), want, 2e-5);
        }
        close(t_inflation(0.0), INFLATION[0], 2e-5);
    }

    /// The density of m under "effect at the margin" times the evidence integrates to one: a fair bet.
    #[test]
    fn evidence_is_a_fair_bet_at_the_margin() {
        for a2 in [0.0004, 0.01, 0.3] {
            for wide in [None, Some(5.0)] {
                let (from, to) = (-10.0 * f64::sqrt(a2), 10.0 * (a2 + wide.unwrap_or(0.6f64).powi(2)).sqrt());
                let steps = 1_000_000;
                let step = (to - from) / f64::from(steps);
                let mean: f64 = (0..steps)
                    .map(|i| {
                        let m = from + step * (f64::from(i) + 0.5);
                        let log_density = -0.5 * m * m / a2 - 0.5 * (2.0 * PI * a2).ln();
                        step * (log_density + log_e(m, a2, EFFECTS, wide)).exp()
                    })
                    .sum();
                close(mean, 1.0, 1e-3);
            }
        }
    }

    /// The mixture of half-normal effects by SciPy's quadrature:
    /// `log(sum(w * quad(lambda x: 2*norm.pdf(x, 0, k) * exp((m*x - x*x/2) / a2), 0, 12*k)[0]))`.
    #[test]
    fn evidence_agrees_with_scipys_quadrature() {
        let wanted = [
            (0.3, 0.01, 3.23904807990419),
            (-0.2, 0.02, -1.4843899090709154),
            (0.05, 0.0004, 1.275455973429703),
            (1.2, 0.09, 5.610839540313644),
        ];
        for (m, a2, want) in wanted {
            close(log_e(m, a2, EFFECTS, None), want, 1e-7);
        }
        close(log_e(1.5, 0.2, EFFECTS, Some(5.0)), 3.3432243915048963, 1e-7);
    }

    #[test]
    fn what_is_not_a_number_is_no_evidence() {
        for (m, a2) in [(f64::NAN, 1.0), (f64::INFINITY, 1.0), (1.0, 0.0), (1.0, -1.0), (1.0, f64::NAN)] {
            assert_eq!(log_e(m, a2, EFFECTS, None), 0.0);
        }
    }

    const INFLATION: [f64; 6] = [
        10609.994045237816,
        2.8398627825419216,
        1.895522065690851,
        1.1451279467913171,
        1.05477613615297,
        1.0133109457599414,
    ];
}
