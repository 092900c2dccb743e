//! What one request does, drawn from a seed, and how a fault bends it. Pure.
//!
//! Latency is log-normal, as real handlers' is: median and spread as below, so p99 is about 38 ms. The fake
//! database call (a sleep) makes most of it, so that a busy machine hardly shows; the work is real CPU.

use std::f64::consts::TAU;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

const LATENCY_MEDIAN_MS: f64 = 12.0;
const LATENCY_SIGMA: f64 = 0.5;
/// No draw sleeps longer: the load generator's time-out is above it.
const LATENCY_MS_MAX: f64 = 2_000.0;
/// The 0.99 quantile of the standard normal.
const Z99: f64 = 2.326;
/// What a healthy instance fails.
const ERROR_SHARE: f64 = 0.001;
/// Checkouts that become orders.
const CONVERSION: f64 = 0.9;

/// What is wrong with an instance, as `POST /admin/fault` takes it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "strength")]
pub enum Fault {
    /// This share of the requests fails.
    Errors(f64),
    /// The tail gets longer, the median stays: p99 times this.
    Latency(f64),
    /// Each request does its work this many times.
    Cpu(f64),
    /// Each request keeps this many bytes for ever.
    Leak(f64),
}

impl Fault {
    /// Whether the strength makes sense; admin bodies come from outside.
    pub(super) fn is_valid(self) -> bool {
        match self {
            Self::Errors(share) => (0.0..=1.0).contains(&share),
            Self::Latency(factor) | Self::Cpu(factor) => (1.0..=100.0).contains(&factor),
            Self::Leak(bytes) => (0.0..=16e6).contains(&bytes),
        }
    }
}

/// One request's fate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Draw {
    pub(super) database_time: Duration,
    pub(super) fails: bool,
    pub(super) orders: bool,
    /// How often the work is done.
    pub(super) rounds: u32,
    pub(super) leaked_bytes: usize,
}

#[derive(Debug)]
pub(super) struct Behaviour {
    rng: ChaCha8Rng,
    rounds: u32,
    pub(super) fault: Option<Fault>,
}

impl Behaviour {
    pub(super) fn new(seed: u64, rounds: u32) -> Self {
        Self { rng: ChaCha8Rng::seed_from_u64(seed), rounds, fault: None }
    }

    pub(super) fn draw(&mut self) -> Draw {
        // Always the same number of draws a request, so that a fault changes nothing but its own effect.
        let (z, fails, orders) = (self.normal(), self.rng.random::<f64>(), self.rng.random::<f64>());
        let (error_share, tail, work, leak) = match self.fault {
            None => (ERROR_SHARE, 1.0, 1.0, 0.0),
            Some(Fault::Errors(share)) => (share, 1.0, 1.0, 0.0),
            Some(Fault::Latency(factor)) => (ERROR_SHARE, factor, 1.0, 0.0),
            Some(Fault::Cpu(factor)) => (ERROR_SHARE, 1.0, factor, 0.0),
            Some(Fault::Leak(bytes)) => (ERROR_SHARE, 1.0, 1.0, bytes),
        };
        let fails = fails < error_share;
        Draw {
            database_time: latency(z, tail),
            fails,
            orders: !fails && orders < CONVERSION,
            rounds: (f64::from(self.rounds) * work) as u32,
            leaked_bytes: leak as usize,
        }
    }

    /// Box and Muller's transform; one of the pair is enough here.
    fn normal(&mut self) -> f64 {
        let (u, v): (f64, f64) = (self.rng.random(), self.rng.random());
        (-2.0 * (1.0 - u).ln()).sqrt() * (TAU * v).cos()
    }
}

fn latency(z: f64, tail: f64) -> Duration {
    let ms = LATENCY_MEDIAN_MS * (LATENCY_SIGMA * z + z.max(0.0) * tail.ln() / Z99).exp();
    Duration::from_secs_f64(ms.min(LATENCY_MS_MAX) / 1e3)
}

/// A checkout's body.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(in crate::demo) struct Order {
    pub(in crate::demo) customer: u64,
    pub(in crate::demo) items: Vec<String>,
}

impl Order {
    pub(in crate::demo) fn of(customer: u64) -> Self {
        let items = (0..8).map(|i| format!("sku-{:05}", customer.wrapping_mul(31 + i) % 100_000)).collect();
        Self { customer, items }
    }
}

/// Real work: writes the order as JSON and hashes it, `rounds` times over.
pub(in crate::demo) fn work(order: &Order, rounds: u32) -> u64 {
    let mut digest = order.customer;
    for round in 0..rounds {
        let json = serde_json::to_vec(&(round, digest, order)).expect("an order is plain data");
        let mut hasher = DefaultHasher::new();
        json.hash(&mut hasher);
        digest = hasher.finish();
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(fault: Option<Fault>) -> Vec<Draw> {
        let mut behaviour = Behaviour::new(7, 10);
        behaviour.fault = fault;
        (0..20_000).map(|_| behaviour.draw()).collect()
    }

    fn quantile(draws: &[Draw], q: f64) -> f64 {
        let mut times: Vec<f64> = draws.iter().map(|d| d.database_time.as_secs_f64() * 1e3).collect();
        times.sort_by(f64::total_cmp);
        times[(q * times.len() as f64) as usize]
    }

    fn failed(draws: &[Draw]) -> f64 {
        draws.iter().filter(|d| d.fails).count() as f64 / draws.len() as f64
    }

    #[test]
    fn the_same_seed_draws_the_same_requests() {
        assert_eq!(draws(None), draws(None));
    }

    #[test]
    fn a_healthy_instance_fails_one_in_a_thousand_and_has_a_tail_of_three_medians() {
        let healthy = draws(None);
        assert!((failed(&healthy) - 0.001).abs() < 0.001);
        assert!((quantile(&healthy, 0.5) - 12.0).abs() < 0.5);
        assert!((quantile(&healthy, 0.99) - 38.4).abs() < 2.0);
    }

    #[test]
    fn each_fault_changes_nothing_but_its_own_effect() {
        let healthy = draws(None);
        let errors = draws(Some(Fault::Errors(0.05)));
        assert!((failed(&errors) - 0.05).abs() < 0.006);
        assert_eq!(quantile(&errors, 0.99), quantile(&healthy, 0.99));

        let latency = draws(Some(Fault::Latency(2.0)));
        assert_eq!(failed(&latency), failed(&healthy));
        assert!((quantile(&latency, 0.5) / quantile(&healthy, 0.5) - 1.0).abs() < 0.01);
        assert!((quantile(&latency, 0.99) / quantile(&healthy, 0.99) - 2.0).abs() < 0.1);

        let cpu = draws(Some(Fault::Cpu(2.5)));
        assert!(cpu.iter().zip(&healthy).all(|(c, h)| c.rounds == 25 && Draw { rounds: 10, ..*c } == *h));

        let leak = draws(Some(Fault::Leak(100.0)));
        assert!(leak.iter().all(|d| d.leaked_bytes == 100));
        assert_eq!(quantile(&leak, 0.99), quantile(&healthy, 0.99));
    }

    #[test]
    fn faults_are_written_as_kind_and_strength_and_wild_ones_are_refused() {
        let fault: Fault = serde_json::from_str(r#"{"kind":"errors","strength":0.05}"#).unwrap();
        assert_eq!(fault, Fault::Errors(0.05));
        assert!(fault.is_valid());
        assert!(!Fault::Errors(1.5).is_valid());
        assert!(!Fault::Cpu(f64::NAN).is_valid());
        assert!(!Fault::Leak(1e12).is_valid());
    }

    #[test]
    fn work_depends_on_every_round() {
        let order = Order::of(3);
        assert_eq!(work(&order, 5), work(&order, 5));
        assert_ne!(work(&order, 5), work(&order, 6));
    }
}
