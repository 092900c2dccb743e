//! `Detector`: one series' level, spread and season, and whether its newest value fits.
//!
//! Reference: the measured study in the design notes (robust residuals against several memories, updated by
//! normal points only); level and spread are exponentially weighted, after a median of three, as in Hampel
//! filters. What it assumes: points come at a roughly steady pace. How it fails: a drift slower than its memory
//! is learned, not reported; a series that is anomalous while it is first seen is learned as normal.
//! How often it cries wolf: `steady_noise_is_quiet` counts it on seeded noise.

use std::time::Duration;

use davy_model::Timestamp;

use crate::config::Direction;

/// Points that are only learned from, before a band is drawn.
const LEARN_POINTS: usize = 24;
/// Memory of the level and of the spread, in points.
const LEVEL_POINTS: f64 = 60.0;
const SPREAD_POINTS: f64 = 240.0;
/// One normal point moves level and spread as if it lay at most this many spreads away.
const CLIP_SPREADS: f64 = 3.0;
/// Mean absolute deviation to standard deviation, for normal noise.
const MAD_TO_SD: f64 = 1.2533;
/// A value that stays outside for this many points is the new normal.
const RELEARN_POINTS: u32 = 120;
/// Points inside the band that end an anomaly.
const CALM_POINTS: u32 = 3;
/// Slices of a season, and how fast a slice follows what it sees.
const SEASON_SLICES: usize = 48;
const SEASON_RATE: f64 = 0.3;
/// After a gap of this many of its usual steps the last values say nothing about the next.
const GAP_STEPS: u32 = 20;
/// After a gap this long the series is learned anew.
const FORGET_AFTER: Duration = Duration::from_secs(24 * 3600);

/// How wide the band is and what counts as an anomaly.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectorSpec {
    /// Half the band's width, in standard deviations.
    pub sensitivity: f64,
    pub direction: Direction,
    /// How long a value must stay outside.
    pub hold: Duration,
    /// Half the band's width is at least this share of the expected value.
    pub effect_min: f64,
    pub season: Option<Duration>,
}

/// What one value looks like against its past; bounds are `NaN` while the series is being learned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation {
    pub value: f64,
    pub lower: f64,
    pub expected: f64,
    pub upper: f64,
    /// Distance from the expected value in half-widths of the band: above 1 is outside. 0 while learning.
    pub score: f64,
    /// Since when the series has been outside, once that was long enough.
    pub anomaly_since: Option<Timestamp>,
}

#[derive(Debug, Clone)]
pub struct Detector {
    /// Values of the learning phase, and of a level that may become the new normal.
    recent: Vec<f64>,
    last_three: [f64; 3],
    seen: u64,
    learned: bool,
    level: f64,
    spread: f64,
    season: Option<Box<[Slice; SEASON_SLICES]>>,
    last_at: Option<Timestamp>,
    step: Duration,
    outside_since: Option<Timestamp>,
    outside_points: u32,
    calm_points: u32,
    anomaly_since: Option<Timestamp>,
}

/// Deviation from the level at one time of the season.
#[derive(Debug, Clone, Copy, Default)]
struct Slice {
    offset: f64,
    /// Points of this slice; the season counts once it has been seen whole.
    points: u32,
}

impl Default for Detector {
    fn default() -> Self {
        Self::new()
    }
}

impl Detector {
    pub fn new() -> Self {
        Self {
            recent: Vec::new(),
            last_three: [f64::NAN; 3],
            seen: 0,
            learned: false,
            level: 0.0,
            spread: 0.0,
            season: None,
            last_at: None,
            step: Duration::ZERO,
            outside_since: None,
            outside_points: 0,
            calm_points: 0,
            anomaly_since: None,
        }
    }

    /// Takes the next value. Values that are not finite, or not later than the last, change nothing.
    pub fn observe(&mut self, spec: &DetectorSpec, at: Timestamp, value: f64) -> Observation {
        if !value.is_finite() || self.last_at.is_some_and(|last| at <= last) {
            return self.observation(spec, at, value);
        }
        self.mind_the_gap(at);
        let filtered = self.median_of_three(value);
        if self.learned {
            let observation = self.observation(spec, at, filtered);
            self.judge(spec, at, filtered, observation.score);
        } else {
            self.learn(filtered);
        }
        Observation { value, ..self.observation(spec, at, filtered) }
    }

    fn mind_the_gap(&mut self, at: Timestamp) {
        let Some(last) = self.last_at.replace(at) else { return };
        let gap = at.since(last);
        if gap >= FORGET_AFTER {
            *self = Self { last_at: Some(at), ..Self::new() };
            return;
        }
        if self.step > Duration::ZERO && gap > self.step * GAP_STEPS {
            self.last_three = [f64::NAN; 3];
            (self.outside_since, self.outside_points) = (None, 0);
            return;
        }
        // The usual step follows slowly, so that one late point does not change it.
        self.step = if self.step.is_zero() { gap } else { (self.step * 7 + gap) / 8 };
    }

    /// One outlier alone never reaches the band.
    fn median_of_three(&mut self, value: f64) -> f64 {
        self.last_three.rotate_left(1);
        self.last_three[2] = value;
        let [a, b, c] = self.last_three;
        if a.is_nan() || b.is_nan() { value } else { a.max(b).min(a.min(b).max(c)) }
    }

    fn learn(&mut self, value: f64) {
        self.recent.push(value);
        if self.recent.len() >= LEARN_POINTS {
            let values = std::mem::take(&mut self.recent);
            self.start_from(&values);
        }
    }

    /// Level and spread of these values, robustly: median and median absolute deviation.
    fn start_from(&mut self, values: &[f64]) {
        self.level = median(values.to_vec());
        let level = self.level;
        let mad = median(values.iter().map(|v| (v - level).abs()).collect());
        let mean = values.iter().map(|v| (v - level).abs()).sum::<f64>() / values.len().max(1) as f64;
        // The median is zero when most values are alike; the mean then still sees the others.
        self.spread = (1.4826 * mad).max(if mad > 0.0 { 0.0 } else { mean });
        self.learned = true;
    }

    fn judge(&mut self, spec: &DetectorSpec, at: Timestamp, value: f64, score: f64) {
        self.seen += 1;
        if score <= 1.0 {
            self.follow(spec, at, value);
            self.outside_since = None;
            self.outside_points = 0;
            self.recent.clear();
            self.calm_points = self.calm_points.saturating_add(1);
            if self.calm_points >= CALM_POINTS {
                self.anomaly_since = None;
            }
            return;
        }
        self.calm_points = 0;
        self.outside_points += 1;
        let since = *self.outside_since.get_or_insert(at);
        if at.since(since) >= spec.hold {
            self.anomaly_since.get_or_insert(since);
        }
        self.recent.push(value);
        if self.recent.len() > LEARN_POINTS {
            self.recent.remove(0);
        }
        if self.outside_points >= RELEARN_POINTS {
            let values = std::mem::take(&mut self.recent);
            self.start_from(&values);
            self.season = None;
            (self.outside_since, self.outside_points, self.anomaly_since) = (None, 0, None);
        }
    }

    /// A normal point moves what is expected of the next.
    fn follow(&mut self, spec: &DetectorSpec, at: Timestamp, value: f64) {
        let residual = value - self.expected(spec, at);
        let clip = if self.spread > 0.0 { CLIP_SPREADS * self.spread } else { f64::INFINITY };
        let clipped = residual.clamp(-clip, clip);
        self.level += clipped / LEVEL_POINTS;
        self.spread += (clipped.abs() * MAD_TO_SD - self.spread) / SPREAD_POINTS;
        if let Some(season) = spec.season.filter(|s| !s.is_zero()) {
            let slice = slice_of(at, season);
            let slices = self.season.get_or_insert_with(|| Box::new([Slice::default(); SEASON_SLICES]));
            let s = &mut slices[slice];
            // Points of one visit share the rate of one.
            let per_visit =
                (season.as_secs_f64() / SEASON_SLICES as f64 / self.step.as_secs_f64().max(1e-3)).max(1.0);
            s.offset += (value - self.level - s.offset) * (SEASON_RATE / per_visit).min(1.0);
            s.points = s.points.saturating_add(1);
        }
    }

    fn expected(&self, spec: &DetectorSpec, at: Timestamp) -> f64 {
        let offset = spec.season.filter(|s| !s.is_zero()).and_then(|season| {
            let slices = self.season.as_ref()?;
            slices.iter().all(|s| s.points > 0).then(|| slices[slice_of(at, season)].offset)
        });
        self.level + offset.unwrap_or(0.0)
    }

    fn observation(&self, spec: &DetectorSpec, at: Timestamp, value: f64) -> Observation {
        if !self.learned {
            return Observation {
                value,
                lower: f64::NAN,
                expected: f64::NAN,
                upper: f64::NAN,
                score: 0.0,
                anomaly_since: None,
            };
        }
        let expected = self.expected(spec, at);
        let half = (spec.sensitivity * self.spread).max(spec.effect_min * expected.abs());
        let distance = match spec.direction {
            Direction::Increase => (value - expected).max(0.0),
            Direction::Decrease => (expected - value).max(0.0),
            Direction::Either => (value - expected).abs(),
        };
        let score = if distance <= half { distance / half.max(f64::MIN_POSITIVE) } else { distance / half };
        Observation {
            value,
            lower: expected - half,
            expected,
            upper: expected + half,
            score: score.clamp(0.0, 1e6),
            anomaly_since: self.anomaly_since,
        }
    }
}

fn slice_of(at: Timestamp, season: Duration) -> usize {
    let length = i64::try_from(season.as_millis()).unwrap_or(i64::MAX).max(1);
    let within = at.as_millis().rem_euclid(length);
    ((within as f64 / length as f64) * SEASON_SLICES as f64) as usize % SEASON_SLICES
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const STEP: Duration = Duration::from_secs(15);

    fn spec() -> DetectorSpec {
        DetectorSpec {
            sensitivity: 5.0,
            direction: Direction::Either,
            hold: Duration::from_secs(60),
            effect_min: 0.1,
            season: None,
        }
    }

    fn at(i: usize) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000) + STEP * u32::try_from(i).unwrap()
    }

    /// Starts of anomalies.
    fn run(spec: &DetectorSpec, values: impl IntoIterator<Item = f64>) -> Vec<usize> {
        let (mut detector, mut open, mut starts) = (Detector::new(), false, Vec::new());
        for (i, v) in values.into_iter().enumerate() {
            let anomaly = detector.observe(spec, at(i), v).anomaly_since.is_some();
            if anomaly && !open {
                starts.push(i);
            }
            open = anomaly;
        }
        starts
    }

    fn noise(seed: u64, n: usize, level: f64, sd: f64) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut normal = move || (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
        (0..n).map(|_| level + sd * normal()).collect()
    }

    #[test]
    fn steady_noise_is_quiet() {
        // Forty series of a day each.
        let alarms: usize = (0..40).map(|seed| run(&spec(), noise(seed, 5_760, 100.0, 5.0)).len()).sum();
        assert_eq!(alarms, 0, "false alarms in 40 days");
    }

    #[test]
    fn a_jump_is_seen_after_its_hold_and_learned_when_it_stays() {
        let mut values = noise(1, 600, 100.0, 3.0);
        values.extend(noise(2, 600, 160.0, 3.0));
        let starts = run(&spec(), values);
        assert_eq!(starts.len(), 1, "{starts:?}");
        // Two points for the median, four for the hold.
        assert!((604..=608).contains(&starts[0]), "{starts:?}");
    }

    #[test]
    fn single_outliers_are_no_anomaly() {
        let mut values = noise(3, 1_000, 100.0, 3.0);
        for i in (100..1_000).step_by(90) {
            values[i] = 1_000.0;
        }
        assert_eq!(run(&spec(), values), Vec::<usize>::new());
    }

    #[test]
    fn a_constant_series_allows_the_smallest_effect_and_no_more() {
        let mut values = vec![50.0; 200];
        values.extend(vec![54.0; 50]);
        assert_eq!(run(&spec(), values.clone()), Vec::<usize>::new(), "8 % is within 10 %");
        values.extend(vec![60.0; 50]);
        assert_eq!(run(&spec(), values).len(), 1);
    }

    #[test]
    fn direction_decides_which_side_counts() {
        let mut values = noise(4, 400, 100.0, 2.0);
        values.extend(noise(5, 60, 50.0, 2.0));
        let one_sided = |direction| run(&DetectorSpec { direction, ..spec() }, values.clone()).len();
        assert_eq!((one_sided(Direction::Increase), one_sided(Direction::Decrease)), (0, 1));
    }

    #[test]
    fn a_season_that_was_seen_is_expected() {
        let season = Duration::from_secs(3600); // 240 points
        let wave = |i: usize| 100.0 + 60.0 * (i as f64 / 240.0 * std::f64::consts::TAU).sin();
        let seasonal = DetectorSpec { season: Some(season), sensitivity: 4.0, effect_min: 0.05, ..spec() };
        let mut detector = Detector::new();
        let mut errors = Vec::new();
        for i in 0..240 * 12 {
            let o = detector.observe(&seasonal, at(i), wave(i));
            if i >= 240 * 10 {
                errors.push((o.expected - wave(i)).abs());
            }
        }
        let mean = errors.iter().sum::<f64>() / errors.len() as f64;
        assert!(mean < 15.0, "the expected value follows the season: mean error {mean}");
    }

    #[test]
    fn a_day_without_data_starts_anew() {
        let mut detector = Detector::new();
        for (i, v) in noise(6, 100, 100.0, 2.0).into_iter().enumerate() {
            detector.observe(&spec(), at(i), v);
        }
        let late = at(100) + Duration::from_secs(25 * 3600);
        let o = detector.observe(&spec(), late, 900.0);
        assert!(o.expected.is_nan() && o.anomaly_since.is_none(), "{o:?}");
    }

    #[test]
    fn the_state_is_small() {
        let bytes = size_of::<Detector>() + LEARN_POINTS * 8 + SEASON_SLICES * size_of::<Slice>();
        assert!(bytes <= 1_280, "{bytes} bytes a series");
    }

    proptest! {
        #[test]
        fn any_input_gets_an_answer(values in prop::collection::vec((any::<f64>(), -100_000i64..100_000), 0..300)) {
            let mut detector = Detector::new();
            let mut now = 1_700_000_000_000i64;
            for (v, dt) in values {
                now = now.saturating_add(dt);
                let o = detector.observe(&spec(), Timestamp::from_millis(now), v);
                prop_assert!(o.score >= 0.0);
            }
        }
    }
}
