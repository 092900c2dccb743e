//! Recovery: what is on disk becomes the head again.

use std::sync::atomic::Ordering;

use davy_model::Timestamp;

use crate::Options;
use crate::error::Error;
use crate::head::{Batch, Head, Start};
use crate::log::Log;
use crate::partition::{SPANS_UNTIL, Seal};
use crate::partitions::{Folder, Opened};
use crate::record::GroupRow;
use crate::stats::Recovery;

pub(crate) fn recover(
    log: &mut Log,
    folder: &Folder,
    now: Timestamp,
    options: &Options,
) -> Result<(Head, Recovery), Error> {
    let before = log.quarantined()?;
    folder.quarantined.fetch_add(before, Ordering::Relaxed);
    let Opened { partitions, set_aside } = folder.open_all()?;
    let seals: Vec<Seal> = partitions.iter().flat_map(|p| p.seals()).collect();
    let spans_sealed = partitions.iter().filter_map(|p| p.read_meta(SPANS_UNTIL)).max().unwrap_or(0) as u64;
    let catalogue = log.catalogue()?;
    let newest_seal = seals.iter().map(|s| s.record).max().unwrap_or(0) as u64;
    log.set_next_record(catalogue.next_record.max(newest_seal + 1));
    let start = Start {
        next_group: catalogue.next_group,
        next_span_record: catalogue.next_span_record.max(spans_sealed + 1),
        floor: floor(&seals, now),
        seal: seals.iter().map(|s| s.number).max().unwrap_or(0),
        spans_sealed,
        partitions,
    };
    let mut head = Head::new(options.limits.clone(), options.head_range_millis(), start);
    head.restore(&catalogue.series);
    catalogue.metadata.into_iter().for_each(|(metric, m)| head.set_metadata(metric, m));
    let mut recovery = Recovery { series: head.series_active(), ..Recovery::default() };
    log.replay_samples(|number, samples| {
        let rows: Vec<GroupRow> =
            samples.rows.into_iter().filter(|(_, r)| !is_sealed(&seals, number, r.time)).collect();
        let batch = Batch { rows, exemplars: samples.exemplars, ..Batch::default() };
        let refused = head.apply(&batch);
        recovery.samples += (batch.samples() - refused) as u64;
    })?;
    log.replay_spans(|number, block| {
        if number > spans_sealed {
            recovery.spans += block.len() as u64;
            head.apply(&Batch { spans: vec![block], span_record: number, ..Batch::default() });
        }
    })?;
    let records_set_aside = log.quarantined()? - before;
    folder.quarantined.fetch_add(records_set_aside, Ordering::Relaxed);
    recovery.quarantined = set_aside + records_set_aside;
    Ok((head, recovery))
}

/// A crash between sealing and trimming leaves records of what is sealed already.
fn is_sealed(seals: &[Seal], record: u64, time: i64) -> bool {
    seals.iter().any(|s| time < s.until && record as i64 <= s.record)
}

/// Where sealing stopped; but a clock that was ahead must not shut out what comes now.
fn floor(seals: &[Seal], now: Timestamp) -> i64 {
    seals.iter().map(|s| s.until).filter(|until| *until <= now.as_millis()).max().unwrap_or(i64::MIN)
}
