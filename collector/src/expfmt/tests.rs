//! Readings of both formats, good and bad, and what may never happen on any bytes.

use proptest::prelude::*;

use super::*;

/// Samples as `name{labels} value @ms`, metadata as `# ...`; an error as its message.
fn check(format: Format, body: &str, want: &[&str]) {
    let mut got = Vec::new();
    let result = parse(body.as_bytes(), format, |e| got.push(show(&e)));
    got.extend(result.err().map(|e| e.to_string()));
    assert_eq!(got, want, "{body:?}");
}

fn show(event: &Event<'_, '_>) -> String {
    match event {
        Event::Help { family, help } => format!("# {family} help {help:?}"),
        Event::Type { family, metric_type } => format!("# {family} type {metric_type}"),
        Event::Unit { family, unit } => format!("# {family} unit {unit}"),
        Event::Sample { labels, point } => {
            let labels = labels.iter().map(|(n, v)| format!("{n}={v:?}")).collect::<Vec<_>>().join(",");
            let at = point.timestamp.map_or(String::new(), |t| format!(" @{}", t.as_millis()));
            let exemplar = point.exemplar.as_ref().map_or(String::new(), |e| {
                let at = e.timestamp.map_or(String::new(), |t| format!(" @{}", t.as_millis()));
                format!(" # {:?} {}{at}", e.labels, e.value)
            });
            format!("{labels} {}{at}{exemplar}", point.value)
        }
    }
}

#[test]
fn text_as_its_specification_shows_it() {
    check(
        Format::Text,
        r#"# HELP http_requests_total The total number of HTTP requests.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total{method="post",code="400"}    3 1395066363000

# Escaping in label values:
msdos_file_access_time_seconds{path="C:\\DIR\\FILE.TXT",error="Cannot find file:\n\"FILE.TXT\""} 1.458255915e9

metric_without_timestamp_and_labels 12.47
something_weird{problem="division by zero"} +Inf -3982045
  spaced  { a = "1" , b = "" , }	NaN
"#,
        &[
            r#"# http_requests_total help "The total number of HTTP requests.""#,
            "# http_requests_total type counter",
            r#"__name__="http_requests_total",method="post",code="200" 1027 @1395066363000"#,
            r#"__name__="http_requests_total",method="post",code="400" 3 @1395066363000"#,
            r#"__name__="msdos_file_access_time_seconds",path="C:\\DIR\\FILE.TXT",error="Cannot find file:\n\"FILE.TXT\"" 1458255915"#,
            r#"__name__="metric_without_timestamp_and_labels" 12.47"#,
            r#"__name__="something_weird",problem="division by zero" inf @-3982045"#,
            r#"__name__="spaced",a="1",b="" NaN"#,
        ],
    );
}

#[test]
fn openmetrics_has_exemplars_units_and_seconds() {
    check(
        Format::OpenMetrics,
        r#"# TYPE foo_seconds histogram
# UNIT foo_seconds seconds
# HELP foo_seconds "It"\nis \"quoted\".
foo_seconds_bucket{le="0.1"} 8 # {trace_id="KOO5S4vxi0o"} 0.067
foo_seconds_bucket{le="+Inf"} 17 1520879607.789 # {trace_id="oHg5",x=""} 9.8 1520879607.789
foo_seconds_created 1520430000.123
# EOF
"#,
        &[
            "# foo_seconds type histogram",
            "# foo_seconds unit seconds",
            r#"# foo_seconds help "\"It\"\nis \"quoted\".""#,
            r#"__name__="foo_seconds_bucket",le="0.1" 8 # [("trace_id", "KOO5S4vxi0o")] 0.067"#,
            r#"__name__="foo_seconds_bucket",le="+Inf" 17 @1520879607789 # [("trace_id", "oHg5"), ("x", "")] 9.8 @1520879607789"#,
            r#"__name__="foo_seconds_created" 1520430000.123"#,
        ],
    );
}

#[test]
fn quoted_names_may_be_any_text() {
    check(
        Format::Text,
        "# TYPE \"http.status\" gauge\n{\"http.status\",\"a b\"=\"ü\",c=\"}\"} 1\nplain{\"x.y\"=\"1\"} 2\n",
        &[
            "# http.status type gauge",
            r#"__name__="http.status",a b="ü",c="}" 1"#,
            r#"__name__="plain",x.y="1" 2"#,
        ],
    );
}

#[test]
fn a_wrong_line_says_where_and_what_was_expected() {
    let text = |body: &str, want: &str| check(Format::Text, body, &[want]);
    text("1a 1\n", r#"line 1, column 1: expected a metric's name, got "1a""#);
    text("<html>\n", r#"line 1, column 1: expected a metric's name, got "<html>""#);
    text("a-b 1\n", r#"line 1, column 2: expected a blank or `{` after the metric's name, got "-b""#);
    text("a b\n", r#"line 1, column 3: expected a number, got "b""#);
    text("a\n", "line 1, column 2: expected a blank or `{` after the metric's name, got the end of the line");
    text("a \n", "line 1, column 3: expected a number, got the end of the line");
    text("a 1 2.5\n", r#"line 1, column 5: expected a timestamp in milliseconds, got "2.5""#);
    text("a 1 2 3\n", r#"line 1, column 7: expected the end of the line (a line feed), got "3""#);
    text("a 1 # {}\n", r##"line 1, column 5: expected the end of the line (a line feed), got "#""##);
    text(
        "{a=\"b\"} 1\n",
        "line 1, column 1: expected a metric's name before or within the braces, got \"{a=\\\"b\\\"}\"",
    );
    text("a{b} 1\n", r#"line 1, column 4: expected `=` after a label's name, got "}""#);
    text("a{b=c} 1\n", r#"line 1, column 5: expected a label's value in quotes, got "c}""#);
    text("a{b=\"c} 1\n", "line 1, column 5: expected a string that is closed on its line, got \"\\\"c}\"");
    text("a{b=\"1\" c=\"2\"} 1\n", r#"line 1, column 9: expected `,` or `}` after a label, got "c=\"2\"}""#);
    text(
        "a{b=\"1\",b=\"2\"} 1\n",
        r#"line 1, column 9: expected a label name of its own (not empty, not twice in a line), got "b=\"2\"}""#,
    );
    text(
        "# TYPE a frog\n",
        r#"line 1, column 10: expected a metric type (counter, gauge, histogram, summary, untyped ...), got "frog""#,
    );
    text("\n\n# HELP ü x\n", r#"line 3, column 8: expected a metric name, got "ü""#);
    let open = |body: &str, want: &str| check(Format::OpenMetrics, body, &[want]);
    open("", "line 1, column 1: expected `# EOF` as the last line, got the end of the body");
    open("# EOF\na 1\n", r#"line 2, column 1: expected nothing after `# EOF`, got "a""#);
    open("# a remark\n# EOF\n", r#"line 1, column 3: expected HELP, TYPE, UNIT or EOF after `#`, got "a""#);
    open("\n# EOF\n", "line 1, column 1: expected a metric's name, got the end of the line");
    open("a 1 NaN\n# EOF\n", r#"line 1, column 5: expected a timestamp in seconds, got "NaN""#);
    open(
        "# UNIT a_seconds bytes\n# EOF\n",
        r#"line 1, column 18: expected a unit that the family's name ends with, got "bytes""#,
    );
}

#[test]
fn half_a_line_at_the_end_fails() {
    for body in ["a 1\nb 12", "a 1\nb 12 13", "a 1\n# HELP a x", "a 1\nb", "a 1\nb{c=\"d\"}"] {
        let error = parse(body.as_bytes(), Format::Text, |_| {}).unwrap_err();
        assert_eq!(error.line, 2, "{error}");
    }
    check(
        Format::OpenMetrics,
        "a 1\n",
        &[
            r#"__name__="a" 1"#,
            "line 2, column 1: expected `# EOF` as the last line, got the end of the body",
        ],
    );
}

#[test]
fn invalid_utf8_fails_with_its_place() {
    let error = parse(b"a 1\nb{c=\"\xff\"} 1\n", Format::Text, |_| {}).unwrap_err();
    assert_eq!(error.to_string(), "line 2, column 6: expected valid UTF-8, got byte 0xff");
}

#[test]
fn many_labels_are_refused_before_they_cost_time() {
    let labels: String = (0..100_000).map(|i| format!("l{i}=\"\",")).collect();
    let error = parse(format!("a{{{labels}}} 1\n").as_bytes(), Format::Text, |_| {}).unwrap_err();
    assert_eq!(error.expected, "at most 256 labels");
}

#[test]
fn series_text_ends_where_parsing_does() {
    for line in ["a 1\n", "a{} 1\n", "a {b=\"}\\\"\"}\t1\n", "{\"a b\",c=\"\\\\\"} 1\n", "a{b=\"ü\"}1\n"] {
        let mut reader = Reader::new(line.as_bytes(), Format::Text).unwrap();
        let quick = reader.series_text();
        assert_eq!(reader.series(&mut LabelBuf::new()).unwrap(), quick, "{line:?}");
    }
}

fn escaped(s: &str) -> String {
    s.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn float() -> impl Strategy<Value = f64> {
    prop_oneof![any::<f64>(), (0u32..2000).prop_map(f64::from), Just(f64::INFINITY), Just(f64::NAN)]
}

prop_compose! {
    fn line()(
        metric in "[a-zA-Z_:][a-zA-Z0-9_:]{0,20}",
        labels in prop::collection::btree_map("[a-zA-Z][a-zA-Z0-9_. ü]{0,8}", "\\PC{0,12}|[\\\\\n\"]{0,4}", 0..6),
        value in float(),
        millis in prop::option::of(-1i64 << 50..1 << 50),
    ) -> (String, Vec<(String, String)>, f64, Option<i64>) {
        (metric, labels.into_iter().collect(), value, millis)
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&body, Format::Text, |_| {});
        let _ = parse(&body, Format::OpenMetrics, |_| {});
    }

    #[test]
    fn nearly_right_bytes_never_panic(
        body in "([ab#\"{}=,\\\\ \t\nü.1-]|TYPE|HELP|UNIT|EOF|# | [{]|counter|NaN){0,60}"
    ) {
        for format in [Format::Text, Format::OpenMetrics] {
            let _ = parse(body.as_bytes(), format, |_| {});
            let reader = Reader::new(body.as_bytes(), format).unwrap();
            let (_, _) = (reader.series_text(), reader.line_text());
        }
    }

    #[test]
    fn what_is_written_is_read_back(lines in prop::collection::vec(line(), 0..10)) {
        for format in [Format::Text, Format::OpenMetrics] {
            let mut body = String::new();
            for (metric, labels, value, millis) in &lines {
                let labels: Vec<_> = labels.iter().map(|(n, v)| format!("\"{n}\"=\"{}\"", escaped(v))).collect();
                let at = millis.map_or(String::new(), |ms| match format {
                    Format::Text => format!(" {ms}"),
                    Format::OpenMetrics => format!(" {}", Timestamp::from_millis(ms)),
                });
                body += &format!("{metric}{{{}}} {value}{at}\n", labels.join(","));
            }
            if format == Format::OpenMetrics {
                body += "# EOF\n";
            }
            let mut got = Vec::new();
            parse(body.as_bytes(), format, |e| if let Event::Sample { labels, point } = e {
                let mut labels = labels.iter().map(|(n, v)| (n.to_string(), v.to_string()));
                let metric = labels.next().unwrap().1;
                let value = if point.value.is_nan() { f64::NAN } else { point.value };
                got.push((metric, labels.collect::<Vec<_>>(), value.to_bits(), point.timestamp.map(Timestamp::as_millis)));
            }).unwrap();
            let want: Vec<_> = lines.iter().cloned().map(|(m, l, v, t)| {
                (m, l, if v.is_nan() { f64::NAN } else { v }.to_bits(), t)
            }).collect();
            prop_assert_eq!(got, want);
        }
    }
}
