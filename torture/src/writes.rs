//! Writes an entry of the ledger through the store's own interface.

use davy_model::Timestamp;
use davy_store::control::Control;
use davy_store::{Durability, Store};

use crate::ledger::{Entry, Refused, What};
use crate::payload::{SERIES, audit, decision, epoch, exemplar, labels, release, spans, value};

/// All of it, or nothing: a batch of which a sample is refused is not committed.
pub fn telemetry(store: &Store, now: Timestamp, e: &Entry, durability: Durability) -> Result<(), Refused> {
    let (epoch, mut batch) = (epoch(e.sequence), store.appender(now));
    for n in 0..SERIES {
        let series = batch.series(&labels(e.source, epoch, n))?;
        batch.append(series, e.time(), value(e.source, epoch, n, e.at))?;
        if n == 0 {
            batch.exemplar(series, exemplar(e.source, epoch, e.at));
        }
    }
    if e.what == What::Push {
        batch.spans(spans(e.source, e.sequence, e.at));
    }
    Ok(batch.commit(durability)?)
}

pub fn control(control: &Control, e: &Entry) -> Result<(), Refused> {
    if e.what == What::Release {
        let audit = audit(e.source, e.sequence, e.at, What::Release);
        control.create_release(release(e.source, e.sequence, e.at), audit)?;
        return Ok(());
    }
    Ok(control.write(&decision(e.source, e.sequence, e.at))?)
}
