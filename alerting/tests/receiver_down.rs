//! A receiver that is down for an hour, in virtual time: errors, silence, resets after it took the message, 429.
//! Everything arrives, under the same ids, and hardly anything twice. The figures: `-- --nocapture`.

use std::collections::BTreeMap;
use std::time::Duration;

use davy_alerting::alert::Alert;
use davy_alerting::book::AlertBook;
use davy_alerting::breaker::Breakers;
use davy_alerting::config::{GroupBy, Integration, Receiver, Route, WebhookConfig};
use davy_alerting::dispatch::{DEAD, DeliveryError, Dispatcher};
use davy_alerting::record::target_of;
use davy_model::{Labels, Timestamp};
use davy_store::control::{Control, ControlBatch, OutboxRecord};

/// Messages in flight at once, as the outbox's loop has them.
const AT_ONCE: usize = 16;
const MINUTE: i64 = 60;
const DOWN: std::ops::Range<i64> = 10 * MINUTE..70 * MINUTE;
const END: i64 = 100 * MINUTE;

fn at(s: i64) -> Timestamp {
    Timestamp::from_millis(s * 1000)
}

/// What the receiver got, by the message's id.
#[derive(Default)]
struct Hook {
    got: BTreeMap<String, Vec<String>>,
}

impl Hook {
    fn answer(&mut self, record: &OutboxRecord, second: i64) -> Result<(), DeliveryError> {
        let fails = |retry_after: Option<u64>, detail: &str| {
            let retry_after = retry_after.map(Duration::from_secs);
            Err(DeliveryError { retryable: true, retry_after, detail: detail.to_owned() })
        };
        if DOWN.contains(&second) {
            return match (second - DOWN.start) / (12 * MINUTE) {
                0 => fails(None, "status 500"),
                1 => fails(None, "timed out"),
                2 => {
                    // It has the message, and the sender never hears of it.
                    self.take(record);
                    fails(None, "connection reset")
                }
                3 => fails(Some(30), "status 429"),
                _ => fails(None, "connection refused"),
            };
        }
        self.take(record);
        Ok(())
    }

    fn take(&mut self, record: &OutboxRecord) {
        self.got.entry(record.id.clone()).or_default().push(record.detail.clone());
    }
}

fn dispatcher() -> Dispatcher {
    let webhook = || {
        Integration::Webhook(WebhookConfig {
            url: "http://127.0.0.1:9/".into(),
            signing_secret: None,
            send_resolved: true,
            timeout: Duration::from_secs(5),
            max_alerts: 0,
            http: Default::default(),
        })
    };
    let grouped = Route {
        receiver: "team".into(),
        group_by: GroupBy::Labels(vec!["service".into()]),
        continue_matching: true,
        ..Route::default()
    };
    let each = Route { receiver: "hook".into(), ..Route::default() };
    let root = Route { receiver: "hook".into(), routes: vec![grouped, each], ..Route::default() };
    let receivers =
        ["hook", "team"].map(|name| Receiver { name: name.into(), integrations: vec![webhook()] });
    Dispatcher::new(root, receivers.into(), 7)
}

fn alert(n: i64, now: Timestamp) -> Alert {
    let (name, service) = (format!("A{n}"), format!("s{}", n % 40));
    let labels = [("alertname", name.as_str()), ("service", service.as_str()), ("severity", "warning")];
    Alert::new(Labels::from_pairs(labels), BTreeMap::new(), now)
}

#[test]
fn a_receiver_that_is_down_for_an_hour_gets_everything_once() {
    let folder = tempfile::tempdir().unwrap();
    let control = Control::open(&folder.path().join("control.db")).unwrap();
    let (dispatcher, mut book, mut breakers) = (dispatcher(), AlertBook::default(), Breakers::default());
    let (mut hook, mut written, mut attempts) = (Hook::default(), BTreeMap::new(), 0_u32);
    for second in 0..END {
        let now = at(second);
        if second < 80 * MINUTE && second % 3 == 0 {
            book.raise(alert(second, now), now);
        }
        if second % 3 == 1 && second > 15 * MINUTE {
            book.resolve(&alert(second - 15 * MINUTE - 1, now).fingerprint(), now);
        }
        let dispatch = dispatcher.poll(&mut book, now);
        written.extend(dispatch.outbox.iter().map(|r| (r.id.clone(), r.detail.clone())));
        if !dispatch.outbox.is_empty() {
            let batch = ControlBatch { outbox: dispatch.outbox, ..ControlBatch::default() };
            control.write(&batch).unwrap();
        }
        loop {
            let due = control.outbox_due(now, &breakers.open(now), AT_ONCE).unwrap();
            let admitted = breakers.admit(due);
            if admitted.is_empty() {
                break;
            }
            let mut batch = ControlBatch::default();
            for record in admitted {
                let (target, result) = (target_of(&record), hook.answer(&record, second));
                attempts += 1;
                breakers.heard(&target, &result, now);
                batch.outbox.push(dispatcher.after_attempt(record, result, now));
            }
            control.write(&batch).unwrap();
        }
    }
    let delivered: usize = hook.got.values().map(Vec::len).sum();
    let twice = delivered - hook.got.len();
    println!(
        "{} messages, {attempts} attempts, {twice} delivered again ({:.2} %)",
        written.len(),
        100.0 * twice as f64 / written.len() as f64
    );
    assert!(written.len() > 3000, "{}", written.len());
    assert_eq!(control.outbox_pending().unwrap(), 0);
    assert!(control.outbox(DEAD, 10).unwrap().is_empty());
    for (id, detail) in &written {
        let got = hook.got.get(id).unwrap_or_else(|| panic!("{id} never arrived"));
        assert!(got.iter().all(|d| d == detail), "{id} said two things");
    }
    assert!(twice * 100 <= written.len(), "{twice} of {} came twice", written.len());
}
