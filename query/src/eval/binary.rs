//! Operators between two operands: scalars, a vector and a scalar, and two vectors joined by their labels.

use std::collections::HashMap;
use std::sync::Arc;

use davy_model::{Labels, name};

use super::budget::POINTS_PER_SERIES;
use super::merge::Merged;
use super::notes::Note;
use super::series::{Point, Series};
use super::{Evaluation, Sink};
use crate::ast::{Binary, Cardinality, Matching, Operator, ValueType};
use crate::histogram::Histo;
use crate::{EvalError, Source};

type Map<T> = HashMap<Labels, T, foldhash::fast::RandomState>;

/// What an operator makes of two points.
enum Combined {
    Keep(Point),
    /// A comparison that does not hold; what it would have kept.
    Drop,
    /// There is no answer for these types.
    Incompatible,
}

impl Matching {
    /// What must be equal on both sides.
    fn signature(&self, labels: &Labels) -> Labels {
        let names = self.labels.iter().map(String::as_str);
        if self.on {
            labels.only(&names.collect::<Vec<_>>())
        } else {
            labels.without(&names.chain([name::METRIC]).collect::<Vec<_>>())
        }
    }
}

impl<S: Source> Evaluation<'_, S> {
    pub(super) fn binary_vector(&self, b: &Binary, sink: &mut Sink<'_>) -> Result<(), EvalError> {
        match (b.left.value_type(), b.right.value_type()) {
            (ValueType::Vector, ValueType::Vector) if b.operator.is_set() => self.set(b, sink),
            (ValueType::Vector, ValueType::Vector) => self.joined(b, sink),
            (ValueType::Vector, _) => self.with_scalar(b, false, sink),
            _ => self.with_scalar(b, true, sink),
        }
    }

    pub(super) fn binary_scalar(&self, b: &Binary) -> Result<Vec<f64>, EvalError> {
        let (left, right) = (self.scalar(&b.left)?, self.scalar(&b.right)?);
        Ok(left.iter().zip(&right).map(|(l, r)| scalars(b.operator, *l, *r)).collect())
    }

    /// `swapped`: the scalar is on the left.
    fn with_scalar(&self, b: &Binary, swapped: bool, sink: &mut Sink<'_>) -> Result<(), EvalError> {
        let (vector, scalar) = if swapped { (&b.right, &b.left) } else { (&b.left, &b.right) };
        let scalar = self.scalar(scalar)?;
        let loses_name = !b.operator.is_comparison() || b.returns_bool;
        let operate = |series: &mut Series| {
            for i in 0..self.grid.count {
                let Some(point) = series.point(i) else { continue };
                let scalar = Point::Float(scalar[i]);
                let (l, r) = if swapped { (&scalar, &point) } else { (&point, &scalar) };
                let combined = match self.combine(b, l, r) {
                    // The vector's value is what a comparison keeps.
                    Combined::Keep(_) if b.operator.is_comparison() && !b.returns_bool => Some(point),
                    Combined::Keep(p) => Some(p),
                    Combined::Drop | Combined::Incompatible => None,
                };
                series.set(i, None);
                series.set(i, combined);
            }
        };
        if loses_name {
            self.nameless(vector, operate, sink)
        } else {
            self.vector(vector, &mut |mut series| {
                operate(&mut series);
                if series.is_empty() { Ok(()) } else { sink(series) }
            })
        }
    }

    fn combine(&self, b: &Binary, left: &Point, right: &Point) -> Combined {
        let compared = |holds: bool| {
            if b.returns_bool {
                Combined::Keep(Point::Float(f64::from(u8::from(holds))))
            } else if holds {
                Combined::Keep(left.clone())
            } else {
                Combined::Drop
            }
        };
        let incompatible = || {
            let of = |p: &Point| match p {
                Point::Float(_) => "float",
                Point::Histogram(_) => "histogram",
            };
            let note =
                Note::IncompatibleTypes { left: of(left), operator: b.operator.name(), right: of(right) };
            self.notes.add(note, b.position);
            Combined::Incompatible
        };
        let histogram = |mut h: Histo| {
            h.compact();
            Combined::Keep(Point::Histogram(Arc::new(h)))
        };
        match (left, right) {
            (Point::Float(l), Point::Float(r)) => {
                if b.operator.is_comparison() {
                    compared(holds(b.operator, *l, *r))
                } else {
                    Combined::Keep(Point::Float(arithmetic(b.operator, *l, *r)))
                }
            }
            (Point::Float(f), Point::Histogram(h)) | (Point::Histogram(h), Point::Float(f))
                if b.operator == Operator::Multiply =>
            {
                let mut h = (**h).clone();
                h.scale(*f);
                histogram(h)
            }
            (Point::Histogram(h), Point::Float(f)) if b.operator == Operator::Divide => {
                let mut h = (**h).clone();
                h.divide(*f);
                histogram(h)
            }
            (Point::Histogram(l), Point::Histogram(r)) => match b.operator {
                Operator::Equal => compared(l.is_same(r)),
                Operator::NotEqual => compared(!l.is_same(r)),
                Operator::Add | Operator::Subtract => {
                    let mut h = (**l).clone();
                    let done = if b.operator == Operator::Add { h.add(r) } else { h.subtract(r) };
                    if done.is_ok() {
                        return histogram(h);
                    }
                    let note = Note::MismatchInOperation { operator: b.operator.name() };
                    self.notes.add(note, b.position);
                    Combined::Incompatible
                }
                _ => incompatible(),
            },
            _ => incompatible(),
        }
    }

    fn set(&self, b: &Binary, sink: &mut Sink<'_>) -> Result<(), EvalError> {
        let steps = self.grid.count;
        let mut held = self.meter.hold();
        let mut seen: Map<Vec<bool>> = Map::default();
        let mut note = |held: &mut super::budget::Held<'_, '_>, series: &Series| {
            let places = match seen.entry(b.matching.signature(&series.labels)) {
                std::collections::hash_map::Entry::Occupied(e) => e.into_mut(),
                std::collections::hash_map::Entry::Vacant(e) => {
                    held.grow(steps / 8 + POINTS_PER_SERIES)?;
                    e.insert(vec![false; steps])
                }
            };
            places.iter_mut().enumerate().for_each(|(i, p)| *p |= series.has(i));
            Ok::<(), EvalError>(())
        };
        if b.operator == Operator::Or {
            let mut merged = Merged::new(self);
            self.vector(&b.left, &mut |series| {
                note(&mut held, &series)?;
                merged.add(series)
            })?;
            self.vector(&b.right, &mut |mut series| {
                if let Some(taken) = seen.get(&b.matching.signature(&series.labels)) {
                    series.retain(|i| !taken[i]);
                }
                if series.is_empty() { Ok(()) } else { merged.add(series) }
            })?;
            return merged.emit(sink);
        }
        self.vector(&b.right, &mut |series| note(&mut held, &series))?;
        let wanted = b.operator == Operator::And;
        self.vector(&b.left, &mut |mut series| {
            match seen.get(&b.matching.signature(&series.labels)) {
                Some(there) => series.retain(|i| there[i] == wanted),
                None if wanted => return Ok(()),
                None => {}
            }
            if series.is_empty() { Ok(()) } else { sink(series) }
        })
    }

    /// Each series of the many side finds the one of the other side at each step.
    fn joined(&self, b: &Binary, sink: &mut Sink<'_>) -> Result<(), EvalError> {
        let steps = self.grid.count;
        let one_is_left = b.matching.cardinality == Cardinality::OneToMany;
        let (many, one) = if one_is_left { (&b.right, &b.left) } else { (&b.left, &b.right) };
        let mut held = self.meter.hold();
        let mut ones: Map<Vec<Series>> = Map::default();
        self.vector(one, &mut |series| {
            held.grow(steps + POINTS_PER_SERIES)?;
            ones.entry(b.matching.signature(&series.labels)).or_default().push(series);
            Ok(())
        })?;
        let several: Vec<&Vec<Series>> = ones.values().filter(|members| members.len() > 1).collect();
        let conflicts: Vec<usize> = (0..steps).filter(|i| pair_at(&several, *i).is_some()).collect();
        let mut join = Join { merged: Merged::new(self), taken: Map::default(), groups: Map::default() };
        self.vector(many, &mut |series| {
            self.check()?;
            if let Some(at) = conflicts.iter().find(|i| series.has(**i))
                && let Some(pair) = pair_at(&several, *at)
            {
                return Err(duplicate(b, one_is_left, pair));
            }
            let signature = b.matching.signature(&series.labels);
            let Some(members) = ones.get(&signature) else { return Ok(()) };
            for member in members {
                let out = self.join_pair(b, &series, member, one_is_left);
                if !out.is_empty() {
                    join.add(b, &signature, out)?;
                }
            }
            Ok(())
        })?;
        join.merged.emit(sink)
    }

    /// The result of one series of the many side and one of the other.
    fn join_pair(&self, b: &Binary, many: &Series, one: &Series, one_is_left: bool) -> Series {
        let mut out = Series::empty(result_labels(b, &many.labels, &one.labels), self.grid.count);
        let plain = many.histograms.is_none() && one.histograms.is_none() && !b.operator.is_comparison();
        for i in 0..self.grid.count {
            if plain {
                let (m, o) = (many.floats[i], one.floats[i]);
                if super::series::is_present(m) && super::series::is_present(o) {
                    let (l, r) = if one_is_left { (o, m) } else { (m, o) };
                    out.floats[i] = arithmetic(b.operator, l, r);
                }
                continue;
            }
            let (Some(m), Some(o)) = (many.point(i), one.point(i)) else { continue };
            let (l, r) = if one_is_left { (&o, &m) } else { (&m, &o) };
            if let Combined::Keep(point) = self.combine(b, l, r) {
                out.set(i, Some(point));
            }
        }
        out
    }
}

/// Results of a join as far as they are there.
struct Join<'e, 'a, S> {
    merged: Merged<'e, 'a, S>,
    /// Steps at which a signature has its one result, of one-to-one joins.
    taken: Map<Vec<bool>>,
    /// The same for each result's labels, of the others.
    groups: Map<Vec<bool>>,
}

impl<S: Source> Join<'_, '_, S> {
    fn add(&mut self, b: &Binary, signature: &Labels, out: Series) -> Result<(), EvalError> {
        let one_to_one = b.matching.cardinality == Cardinality::OneToOne;
        let steps = out.floats.len();
        let taken = if one_to_one {
            self.taken.entry(signature.clone()).or_insert_with(|| vec![false; steps])
        } else {
            self.groups.entry(out.labels.clone()).or_insert_with(|| vec![false; steps])
        };
        for (_, taken) in taken.iter_mut().enumerate().filter(|(i, _)| out.has(*i)) {
            if std::mem::replace(taken, true) {
                return Err(EvalError::MultipleMatches { one_to_one });
            }
        }
        self.merged.add(out)
    }
}

/// Two series of the one side that have the same signature at a step, of those that share one.
fn pair_at<'s>(several: &[&'s Vec<Series>], i: usize) -> Option<(&'s Labels, &'s Labels)> {
    several.iter().find_map(|members| {
        let mut there = members.iter().filter(|m| m.has(i));
        Some((&there.next()?.labels, &there.next()?.labels))
    })
}

fn duplicate(b: &Binary, one_is_left: bool, (first, second): (&Labels, &Labels)) -> EvalError {
    let names: Vec<&str> = b.matching.labels.iter().map(String::as_str).collect();
    EvalError::ManyToMany {
        group: if b.matching.on { first.only(&names) } else { b.matching.signature(first) },
        side: if one_is_left { "left" } else { "right" },
        one: second.clone(),
        other: first.clone(),
    }
}

fn result_labels(b: &Binary, many: &Labels, one: &Labels) -> Labels {
    let mut labels = many.builder();
    if !b.operator.is_comparison() || b.returns_bool {
        labels.remove(name::METRIC);
    }
    let m = &b.matching;
    if m.cardinality == Cardinality::OneToOne {
        labels.retain(|n, _| m.labels.iter().any(|l| l == n) == m.on);
    }
    for label in &m.include {
        match one.get(label) {
            Some(v) => labels.set(label, v),
            None => labels.remove(label),
        };
    }
    labels.build()
}

fn scalars(operator: Operator, l: f64, r: f64) -> f64 {
    if operator.is_comparison() {
        f64::from(u8::from(holds(operator, l, r)))
    } else {
        arithmetic(operator, l, r)
    }
}

fn holds(operator: Operator, l: f64, r: f64) -> bool {
    match operator {
        Operator::Equal => l == r,
        Operator::NotEqual => l != r,
        Operator::Greater => l > r,
        Operator::GreaterEqual => l >= r,
        Operator::Less => l < r,
        Operator::LessEqual => l <= r,
        _ => false,
    }
}

#[inline]
fn arithmetic(operator: Operator, l: f64, r: f64) -> f64 {
    match operator {
        Operator::Add => l + r,
        Operator::Subtract => l - r,
        Operator::Multiply => l * r,
        Operator::Divide => l / r,
        Operator::Modulo => l % r,
        Operator::Power => l.powf(r),
        Operator::Atan2 => l.atan2(r),
        _ => f64::NAN,
    }
}
