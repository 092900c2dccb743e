//! What a target's state makes of one scrape after another.

use super::*;
use crate::testing::{scrape_config, step};

/// A target whose scrapes are read one after another, 15 s apart unless said.
struct Target {
    state: TargetState,
    rows: Rows,
    now: i64,
}

impl Target {
    fn new(config: ScrapeConfig) -> Self {
        let labels = Labels::from_pairs([("instance", "i"), ("job", "j")]);
        let interval = config.scrape_interval;
        Self {
            state: TargetState::new(Arc::new(config), labels, interval),
            rows: Rows::default(),
            now: 1_000_000,
        }
    }

    fn read(&mut self, format: Format, body: &str) -> Result<(), ScrapeError> {
        self.now += 15;
        let at = Timestamp::from_millis(self.now * 1000);
        let result = self.state.read(body.as_bytes(), format, at, &mut self.rows);
        if result.is_err() {
            self.state.fail(at, &mut self.rows);
        }
        result
    }

    /// Rows as `series value @seconds`, zeros first, then samples, then what went stale. Times count from the scrape.
    fn scrape(&mut self, format: Format, body: &str) -> Vec<String> {
        self.read(format, body).unwrap();
        self.show()
    }

    fn text(&mut self, body: &str) -> Vec<String> {
        self.scrape(Format::Text, body)
    }

    fn openmetrics(&mut self, body: &str) -> Vec<String> {
        self.scrape(Format::OpenMetrics, &format!("{body}# EOF\n"))
    }

    fn show(&self) -> Vec<String> {
        let rows = self.rows.zeros.iter().chain(&self.rows.samples).chain(&self.rows.stale);
        rows.map(|row| {
            let labels = self.state.series.labels[row.series as usize].without(&["job", "instance"]);
            let value =
                if davy_model::is_stale(row.value) { "stale".to_owned() } else { row.value.to_string() };
            let ago = row.at.as_millis() as f64 / 1e3 - self.now as f64;
            if ago == 0.0 { format!("{labels} {value}") } else { format!("{labels} {value} @{ago}") }
        })
        .collect()
    }

    fn counts(&self) -> (u64, u64, u64, u64) {
        let Counts { scraped, kept, added, duplicates } = self.rows.counts;
        (scraped, kept, added, duplicates)
    }
}

#[test]
fn a_repeated_scrape_yields_the_same_series() {
    let mut t = Target::new(scrape_config("j"));
    let body = |v: u32| format!("# TYPE a gauge\na {v}\nb{{x=\"1\"}} {v}\nb{{x=\"2\"}}\t{v}\nc {{}} {v}\n");
    assert_eq!(t.text(&body(1)), ["a 1", "b{x=\"1\"} 1", "b{x=\"2\"} 1", "c 1"]);
    assert_eq!(t.counts(), (4, 4, 4, 0));
    assert_eq!(t.text(&body(2)), ["a 2", "b{x=\"1\"} 2", "b{x=\"2\"} 2", "c 2"]);
    assert_eq!(t.counts(), (4, 4, 0, 0));
}

#[test]
fn a_name_that_gets_labels_is_not_taken_for_the_name_alone() {
    let mut t = Target::new(scrape_config("j"));
    assert_eq!(t.text("a 1\nab 1\n"), ["a 1", "ab 1"]);
    assert_eq!(t.text("a {x=\"1\"} 2\nab 2\n"), ["a{x=\"1\"} 2", "ab 2", "a stale"]);
    assert_eq!(t.text("a  \t{x=\"2\"} 3\nab 3\n"), ["a{x=\"2\"} 3", "ab 3", "a{x=\"1\"} stale"]);
    assert_eq!(t.text("abc 4\n"), ["abc 4", "a{x=\"2\"} stale", "ab stale"]);
}

#[test]
fn series_that_vanish_are_marked_once() {
    let mut t = Target::new(scrape_config("j"));
    t.text("a 1\nb 1\nc 1\n");
    assert_eq!(t.text("a 2\nc 2\n"), ["a 2", "c 2", "b stale"]);
    assert_eq!(t.text("a 3\nc 3\n"), ["a 3", "c 3"]);
    assert_eq!(t.text("a 4\nb 4\nc 4\n"), ["a 4", "b 4", "c 4"]);
    assert_eq!(t.counts().2, 0, "it was seen before");
}

#[test]
fn a_failed_scrape_ends_every_series_and_nothing_of_it_counts() {
    let mut t = Target::new(scrape_config("j"));
    t.text("a 1\nb 1\n");
    assert!(t.read(Format::Text, "a 2\nnew 2\nb").is_err());
    assert_eq!(t.show(), ["a stale", "b stale"]);
    assert!(t.read(Format::Text, "a 2\nnew 2\nb").is_err());
    assert_eq!(t.show(), [""; 0], "they ended already");
    assert_eq!(t.text("a 3\nnew 3\n"), ["a 3", "new 3"]);
    assert_eq!(t.counts(), (2, 2, 1, 0));
}

#[test]
fn timestamps_of_the_target_are_honoured_or_not() {
    let mut t = Target::new(scrape_config("j"));
    let at = (t.now + 15) * 1000 - 5000;
    assert_eq!(t.text(&format!("a 1 {at}\nb 1\n")), ["a 1 @-5", "b 1"]);
    assert_eq!(t.text(""), ["b stale"], "a is not marked");
    let mut t = Target::new(ScrapeConfig { honor_timestamps: false, ..scrape_config("j") });
    assert_eq!(t.text("a 1 5000\n"), ["a 1"]);
    assert_eq!(t.text(""), ["a stale"]);
}

#[test]
fn of_duplicates_the_first_wins_and_the_rest_is_counted() {
    let mut config = scrape_config("j");
    config.metric_relabel = vec![step("x", ".*", "x", "")];
    let mut t = Target::new(config);
    for _ in 0..2 {
        assert_eq!(t.text("a{x=\"1\"} 1\na{x=\"2\"} 2\na{y=\"\",x=\"1\"} 3\n"), ["a 1"]);
        assert_eq!((t.rows.counts.kept, t.rows.counts.duplicates), (3, 2));
    }
    assert_eq!(t.text("a 1 5000\na 2 6000\na 3 6000\n").len(), 2, "two times are two samples");
}

#[test]
fn relabelling_drops_and_the_limits_count_what_is_left() {
    let mut config = scrape_config("j");
    config.metric_relabel = vec![crate::config::RelabelConfig {
        action: crate::config::RelabelAction::Drop,
        ..step("__name__", "go_.*", "", "")
    }];
    config.limits.samples_max = 2;
    let mut t = Target::new(config);
    for _ in 0..2 {
        assert_eq!(t.text("go_a 1\na 1\ngo_b 1\nb 1\n"), ["a 1", "b 1"]);
        assert_eq!((t.rows.counts.scraped, t.rows.counts.kept), (4, 2));
    }
    let error = t.read(Format::Text, "a 1\nb 1\nc 1\n").unwrap_err();
    assert_eq!(
        (error.reason(), error.to_string()),
        (super::super::Reason::Limit, "more than 2 samples".to_owned())
    );
    assert_eq!(t.show(), ["a stale", "b stale"]);
}

#[test]
fn a_new_counter_of_a_running_target_counts_from_the_scrape_before() {
    let mut t = Target::new(scrape_config("j"));
    assert_eq!(t.text("# TYPE r counter\nr{code=\"200\"} 5\nqueue 1\n"), ["r{code=\"200\"} 5", "queue 1"]);
    let second = "# TYPE r counter\nr{code=\"200\"} 6\nr{code=\"500\"} 3\nr{code=\"404\"} 0\nqueue 1\nqueue2 1\nx_total 1\n";
    assert_eq!(
        t.text(second),
        [
            "r{code=\"500\"} 0 @-15",
            "x_total 0 @-15",
            "r{code=\"200\"} 6",
            "r{code=\"500\"} 3",
            "r{code=\"404\"} 0",
            "queue 1",
            "queue2 1",
            "x_total 1"
        ]
    );
    assert_eq!(t.text(second).len(), 6, "only once");
}

#[test]
fn a_counter_that_comes_back_is_not_new() {
    let mut t = Target::new(scrape_config("j"));
    t.text("a_total 100\n");
    t.text("b_total 1\n");
    assert_eq!(t.text("a_total 101\n"), ["a_total 101", "b_total stale"]);
}

#[test]
fn a_counter_with_a_foreign_timestamp_gets_no_zero() {
    let mut t = Target::new(scrape_config("j"));
    t.text("");
    let at = (t.now + 14) * 1000;
    assert_eq!(t.text(&format!("a_total 7 {at}\n")), ["a_total 7 @-1"]);
}

#[test]
fn a_target_that_has_just_started_counts_from_its_start() {
    let mut t = Target::new(scrape_config("j"));
    let start = t.now + 15 - 4;
    let body =
        format!("r_total 2\nlatency_bucket{{le=\"1\"}} 1\nq 1\nprocess_start_time_seconds {start}.5\n");
    let zeros = ["r_total 0 @-3.5", "latency_bucket{le=\"1\"} 0 @-3.5"];
    assert_eq!(t.text(&body)[..2], zeros);
    let mut t = Target::new(scrape_config("j"));
    assert_eq!(t.text("r_total 2\nprocess_start_time_seconds 5\n").len(), 2, "an old process gets none");
}

#[test]
fn an_exporter_that_has_just_started_counts_for_others() {
    for foreign in ["node_exporter_build_info 1", "node_cpu_seconds_total 4556"] {
        let mut t = Target::new(scrape_config("j"));
        let body = format!("process_start_time_seconds {}\nr_total 2\n{foreign}\n", t.now + 13);
        assert_eq!(t.text(&body).len(), 3, "{foreign}");
    }
}

#[test]
fn after_an_outage_a_new_process_counts_from_its_own_start() {
    let mut t = Target::new(scrape_config("j"));
    t.text("process_start_time_seconds 5\nr_total 1\n");
    assert!(t.read(Format::Text, "down").is_err());
    let start = t.now + 10;
    let got = t.text(&format!("process_start_time_seconds {start}\nr_total 1\nnew_total 2\n"));
    assert_eq!(got[0], "new_total 0 @-5");
}

#[test]
fn start_times_of_openmetrics_place_the_zero_and_are_not_stored() {
    let mut t = Target::new(scrape_config("j"));
    let body = |created: f64| {
        format!(
            "# TYPE r counter\nr_total{{p=\"a\"}} 4\nr_created{{p=\"a\"}} {created}\n\
             # TYPE l histogram\nl_bucket{{p=\"a\",le=\"1\"}} 2\nl_bucket{{p=\"a\",le=\"+Inf\"}} 3\nl_count{{p=\"a\"}} 3\n\
             l_sum{{p=\"a\"}} 4\nl_created{{p=\"a\"}} {created}\n"
        )
    };
    let created = t.now as f64 + 15.0 - 20.0;
    let got = t.openmetrics(&body(created));
    assert_eq!(got.iter().filter(|r| r.ends_with("0 @-20")).count(), 5);
    assert_eq!(got.len(), 10);
    assert_eq!((t.rows.counts.scraped, t.rows.counts.kept), (7, 5));

    let got = t.openmetrics(&body(created));
    assert_eq!(got.len(), 5, "the same start says nothing new");

    let restarted = t.now as f64 + 5.0;
    let got = t.openmetrics(&body(restarted));
    assert_eq!(
        got.iter().filter(|r| r.ends_with("0 @-10")).count(),
        5,
        "a reset that the values hide: {got:?}"
    );
}

#[test]
fn an_exemplar_is_stored_once() {
    let mut t = Target::new(scrape_config("j"));
    let body = "# TYPE r counter\nr_total 1 # {trace_id=\"a\"} 1\n";
    t.openmetrics(body);
    assert_eq!(t.rows.exemplars.len(), 1);
    assert_eq!(t.rows.exemplars[0].1.timestamp.as_millis(), t.now * 1000);
    t.openmetrics(body);
    assert_eq!(t.rows.exemplars.len(), 0);
    t.openmetrics("# TYPE r counter\nr_total 2 # {trace_id=\"b\"} 1 5.5\n");
    assert_eq!(t.rows.exemplars[0].1.timestamp.as_millis(), 5500);
    t.openmetrics(&format!("# TYPE r counter\nr_total 2 # {{trace_id=\"{}\"}} 1\n", "x".repeat(200)));
    assert_eq!(t.rows.exemplars.len(), 0, "longer than OpenMetrics allows");
}

#[test]
fn a_new_configuration_keeps_the_series_and_forgets_what_lines_mean() {
    let mut t = Target::new(scrape_config("j"));
    t.text("a_total 1\nb_total 1\n");
    let mut config = scrape_config("j");
    config.metric_relabel = vec![step("__name__", "b_total", "__name__", "c_total")];
    let state = std::mem::replace(&mut t.state, Target::new(scrape_config("j")).state);
    t.state = state.reconfigured(Arc::new(config), Duration::from_secs(15));
    assert_eq!(t.text("a_total 2\nb_total 2\n"), ["a_total 2", "c_total 2", "b_total stale"]);
}

#[test]
fn a_target_that_fails_with_ever_new_series_is_bounded() {
    let mut t = Target::new(scrape_config("j"));
    t.text("a 1\n");
    for scrape in 0..30 {
        let body: String = (0..1_000).map(|i| format!("a{{i=\"{scrape}-{i}\"}} 1\n")).collect();
        assert!(t.read(Format::Text, &(body + "half")).is_err());
        t.state.forget();
        assert!(t.state.series.all.len() <= SPARE_SERIES + 1_000);
    }
    assert_eq!(t.text("a 2\n"), ["a 2"]);
}

#[test]
fn a_target_with_ever_new_series_is_bounded() {
    let mut config = scrape_config("j");
    config.limits.samples_max = 1_000;
    let mut t = Target::new(config);
    for scrape in 0..60 {
        let body: String = (0..500)
            .map(|i| format!("steady_total{{i=\"{i}\"}} 1\nchurn_total{{i=\"{scrape}-{i}\"}} 1\n"))
            .collect();
        let got = t.text(&body);
        assert_eq!(got.len(), if scrape == 0 { 1_000 } else { 2_000 }, "scrape {scrape}");
        t.state.forget();
        assert!(t.state.series.all.len() <= SPARE_SERIES + 3_000);
    }
}

/// What a body says on its own: the first value of each series.
fn fresh(body: &str) -> std::collections::BTreeMap<String, String> {
    let mut all = std::collections::BTreeMap::new();
    let read = expfmt::parse(body.as_bytes(), Format::Text, |event| {
        if let expfmt::Event::Sample { labels, point } = event {
            let labels = Labels::from_pairs(labels.iter().map(|(n, v)| (&**n, &**v)));
            all.entry(labels.to_string()).or_insert(point.value.to_string());
        }
    });
    read.unwrap();
    all
}

proptest::proptest! {
    #[test]
    fn a_scrape_reads_the_same_whatever_came_before(
        scrapes in proptest::collection::vec(
            proptest::collection::vec(
                ("(# TYPE [ab] gauge|# x|[ab] ?|[ab][{](x=\"[ab }]\")?[}] ?|[{]\"[ab]\"[}]|)", 0..4u8), 0..8),
            1..6)
    ) {
        let mut t = Target::new(scrape_config("j"));
        for lines in scrapes {
            let line = |(text, value): &(String, u8)| match text.as_bytes().first() {
                None | Some(b'#') => format!("{text}\n"),
                Some(_) => format!("{text} {value}\n"),
            };
            let body: String = lines.iter().map(line).collect();
            t.read(Format::Text, &body).unwrap();
            let all = &t.state.series.labels;
            let got: std::collections::BTreeMap<String, String> = t.rows.samples.iter().map(|row| {
                let labels = all[row.series as usize].without(&["job", "instance"]);
                (labels.to_string(), row.value.to_string())
            }).collect();
            proptest::prop_assert_eq!(got, fresh(&body));
        }
    }
}
