//! What every actuator owes at its level.

use std::sync::Arc;

use davy::clock::SystemClock;
use davy_alerting::actuate::Actuator;
use davy_alerting::config::{ActionSpec, ActuatorConfig};
use davy_alerting::release::{
    ActRequest, CallOutcome, Desired, Expect, Level, Live, ReadError, Subject, TargetState,
};

/// A target, and what someone else may do to it.
pub(crate) struct Target {
    pub(crate) config: ActuatorConfig,
    /// Another share, set by other means; in percent.
    pub(crate) someone_sets: Box<dyn Fn(u8) + Send + Sync>,
}

pub(crate) fn actuator(config: &ActuatorConfig) -> Actuator {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let spec = ActionSpec { name: "split".into(), actuator: config.clone() };
    Actuator::new(&spec, "http://davy.example", Arc::new(SystemClock)).expect("a good action")
}

pub(crate) fn subject() -> Subject {
    Subject { service: "checkout".into(), baseline: "v1".into(), canary: "v2".into() }
}

pub(crate) fn expect(state: &TargetState) -> Expect {
    Expect { uid: state.uid.clone(), generation: state.generation.clone(), token: state.token.clone() }
}

pub(crate) fn request(desired: Desired, expected: Option<Expect>) -> ActRequest {
    let generation = expected.as_ref().map_or("0", |e| &e.generation);
    let key = format!("{}/v2/target/{generation}", desired.as_str());
    ActRequest {
        actuator: "split".into(),
        marker: key.clone(),
        key,
        desired,
        release_id: "checkout-v2-7".into(),
        release: 7,
        subject: subject(),
        expect: expected,
        reason: "errors are worse".into(),
        evidence: None,
    }
}

/// Where shares can be set: from 25 % down to nothing, up to all, and everything that can come in between.
pub(crate) async fn conforms(target: &Target) {
    let davy = actuator(&target.config);
    let level = davy.level();
    let read = async || davy.read(&subject()).await.expect("it can be read");

    // What is there is what someone set, and a read changes nothing.
    (target.someone_sets)(25);
    let first = read().await;
    assert_eq!(first.live, Live::Share(0.25), "what is there");
    assert_eq!(read().await, first, "reading twice");

    // A call sets what is wanted, absolutely, and moves the generation.
    let down = request(Desired::Baseline, Some(expect(&first)));
    let outcome = davy.call(&down).await;
    assert!(matches!(outcome, CallOutcome::Accepted { .. }), "{outcome:?}");
    let second = read().await;
    assert_eq!(second.live, Live::Baseline);
    assert_eq!(second.uid, first.uid);
    assert_ne!(second.generation, first.generation, "a change moves the generation");
    assert_eq!(second.marker.as_ref(), Some(&down.marker), "the mark is kept");

    // The same call again, as after a lost answer, is refused and changes nothing.
    let again = davy.call(&down).await;
    assert!(matches!(again, CallOutcome::Conflict { .. }), "{again:?}");
    assert_eq!(read().await, second);

    // Someone brings it back as it was: the old call must not fit again.
    (target.someone_sets)(25);
    let third = read().await;
    assert_eq!(third.live, Live::Share(0.25));
    if level == Level::A {
        assert_ne!(third.generation, first.generation, "a generation never comes back");
    }
    let late = davy.call(&down).await;
    assert!(matches!(late, CallOutcome::Conflict { .. }), "a late call: {late:?}");
    assert_eq!(read().await.live, Live::Share(0.25));

    // Every share there is.
    for desired in
        [Desired::Share(5), Desired::Share(50), Desired::Canary, Desired::Share(1), Desired::Baseline]
    {
        let before = read().await;
        let outcome = davy.call(&request(desired, Some(expect(&before)))).await;
        assert!(matches!(outcome, CallOutcome::Accepted { .. }), "{desired:?}: {outcome:?}");
        let now = read().await;
        let near = match (&now.live, desired) {
            (Live::Share(share), _) => (share * 100.0 - f64::from(desired.percent())).abs() < 1.0,
            (live, desired) => live.is(desired),
        };
        assert!(near, "{desired:?}: {:?}", now.live);
        assert_ne!(now.generation, before.generation);
    }
}

/// One that is not there any more says so, and is never called "carried out" or "perhaps".
pub(crate) async fn is_away(config: &ActuatorConfig) {
    let davy = actuator(config);
    let read = davy.read(&subject()).await;
    assert!(matches!(read, Err(ReadError::Unreachable(_))), "{read:?}");
    let expected = Expect { uid: "u".into(), generation: "1".into(), token: "1".into() };
    let outcome = davy.call(&request(Desired::Baseline, Some(expected))).await;
    assert!(matches!(outcome, CallOutcome::NotSent { .. }), "{outcome:?}");
}
