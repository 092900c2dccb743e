//! What the keys become: the values that the rest of Davy is handed.

use std::path::Path;
use std::time::Duration;

use davy::config::Config;
use davy_alerting::config::{Integration, OnFail, SlackDestination};
use davy_collector::config::Discovery;
use davy_detector::config::{ArmSpec, Direction, MetricKind, Preset};
use davy_egress::{Auth, Secret};
use secrecy::ExposeSecret;

fn parse(text: &str) -> Config {
    Config::parse(text, Path::new("davy.yaml"), Path::new("/etc/davy")).unwrap_or_else(|e| panic!("{e}"))
}

fn everything() -> Config {
    parse(include_str!("good/everything.yaml"))
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn the_empty_file_has_every_default() {
    let config = parse("");
    assert_eq!(config.evaluation_interval, secs(15));
    assert_eq!(config.otlp.grpc.to_string(), "127.0.0.1:4317");
    assert_eq!(config.otlp.http.to_string(), "127.0.0.1:4318");
    assert_eq!(config.storage.retention, secs(15 * 86_400));
    assert!(config.route.is_none() && config.scrape_configs.is_empty() && config.warnings.is_empty());

    let (spec, policy) = config.default_release();
    assert_eq!((spec.service, spec.presets.len()), (None, Preset::ALL.len()));
    assert_eq!((policy.on_fail, policy.rollback), (OnFail::Record, None));
}

#[test]
fn globals_are_defaults_of_jobs_and_a_short_interval_shortens_the_timeout() {
    let config = parse(
        "global: {scrape_interval: 20s, scrape_timeout: 8s, sample_limit: 7}\n\
         scrape_configs: [{job_name: a}, {job_name: b, scrape_interval: 5s, sample_limit: 9}]\n",
    );
    let [a, b] = &config.scrape_configs[..] else { panic!("two jobs") };
    assert_eq!((a.scrape_interval, a.scrape_timeout, a.limits.samples_max), (secs(20), secs(8), 7));
    assert_eq!((b.scrape_interval, b.scrape_timeout, b.limits.samples_max), (secs(5), secs(5), 9));
    assert!(a.honor_timestamps && !a.honor_labels && !a.http.follow_redirects);
    assert_eq!(
        parse("global: {scrape_interval: 2s}\nscrape_configs: [{job_name: a}]").scrape_configs[0]
            .scrape_timeout,
        secs(2)
    );
}

#[test]
fn a_job_is_read_into_its_place() {
    let config = everything();
    let job = &config.scrape_configs[0];
    assert_eq!(job.params["match[]"], ["up", "down"]);
    assert_eq!(job.limits.body_bytes_max, 10 << 20);
    let Discovery::Static { labels, .. } = &job.discovery[0] else { panic!("static first") };
    assert_eq!(labels["version"], "1.10", "a version is text, not the number 1.1");
    let Discovery::File { files, refresh_interval } = &job.discovery[1] else { panic!("files second") };
    assert_eq!(files[0], Path::new("/etc/davy/targets/*.json"), "relative to the configuration");
    assert_eq!(*refresh_interval, secs(60));
    assert_eq!(job.relabel[0].regex.replace("a:1", &job.relabel[0].replacement), "a");
    assert_eq!(job.relabel[1].modulus, 4);

    let Some(Auth::Authorization { scheme, credentials: Secret::Inline(token) }) =
        &config.scrape_configs[1].http.auth
    else {
        panic!("the old bearer_token")
    };
    assert_eq!((scheme.as_str(), token.expose_secret()), ("Bearer", "node-token"));
}

#[test]
fn a_release_is_read_into_its_place() {
    let config = everything();
    let (checkout, policy) = &config.releases[0];
    assert_eq!(checkout.presets, [Preset::Http, Preset::Process]);
    let conversion = &checkout.metrics[0];
    let MetricKind::Proportion { events, trials } = &conversion.kind else { panic!("a proportion") };
    assert_eq!(
        events.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["__name__=\"orders_total\"", "result=\"paid\""]
    );
    assert_eq!(trials.len(), 1);
    assert_eq!((conversion.direction, conversion.margin.relative), (Direction::Decrease, 0.02));
    assert!(conversion.critical && !checkout.metrics[2].critical);
    assert_eq!(
        (checkout.judge.alpha, checkout.judge.interval, checkout.judge.warm_up),
        (0.01, secs(10), secs(60))
    );
    assert_eq!(
        (policy.on_fail, policy.rollback.as_ref().map(|h| h.name.clone())),
        (OnFail::Rollback, Some("to-stable".to_owned()))
    );
    assert_eq!(policy.verify_timeout, secs(180));

    let (search, policy) = &config.releases[1];
    assert_eq!(search.presets.len(), Preset::ALL.len(), "no preset is named");
    let ArmSpec::Matchers(canary) = &search.canary else { panic!("the canary is said") };
    assert!(canary[0].matches_value("v2.1") && !canary[0].matches_value("v1"));
    assert_eq!((checkout.traffic_share, search.traffic_share), (None, Some(0.05)));
    assert_eq!((policy.on_fail, policy.watch), (OnFail::Hold, secs(3600)));
}

#[test]
fn routes_inherit_and_receivers_take_globals() {
    let config = everything();
    let root = config.route.as_ref().expect("there is a route");
    let on_call = &root.routes[0];
    assert_eq!(on_call.matchers.len(), 2);
    assert!(on_call.continue_matching);
    let checkout = &on_call.routes[0];
    assert_eq!((checkout.receiver.as_str(), checkout.repeat_interval), ("on-call", secs(3600)));
    assert_eq!(checkout.matchers.len(), 2);

    let [Integration::Webhook(hook), Integration::Email(mail), Integration::Email(local)] =
        &config.receivers[1].integrations[..]
    else {
        panic!("a webhook and two mails")
    };
    assert_eq!(hook.timeout, secs(5));
    assert_eq!(mail.to, ["on-call@example.com", "lead@example.com"]);
    assert_eq!(
        (mail.from.as_str(), mail.smarthost.1, mail.require_tls),
        ("Davy <davy@example.com>", 587, true)
    );
    assert_eq!(
        mail.auth.as_ref().map(|(user, p)| (user.as_str(), p.expose_secret())),
        Some(("davy", "smtp-password"))
    );
    assert_eq!((local.smarthost.0.as_str(), local.require_tls), ("127.0.0.1", false));
    let Integration::Slack(slack) = &config.receivers[0].integrations[0] else { panic!("Slack") };
    let SlackDestination::Webhook(url) = &slack.destination else { panic!("{slack:?}") };
    assert!(url.expose_secret().starts_with("https://hooks.slack.com/") && slack.send_resolved);
}

#[test]
fn thresholds_and_storage_are_read_into_their_places() {
    let config = everything();
    let lag = &config.thresholds[0];
    assert_eq!((lag.sensitivity, lag.effect_min, lag.hold), (5.0, 0.2, secs(300)));
    assert_eq!((lag.season, lag.direction, lag.alert), (Some(secs(86_400)), Direction::Increase, true));
    assert_eq!(config.storage.retention_bytes_max, Some(50 << 30));
    assert_eq!(config.storage.commit_interval, Duration::from_millis(500));
    assert_eq!(config.storage.limits.series_max, 500_000);
}
