//! Templates of alerts, with Prometheus' own scenarios (`template/template_test.go`, Apache-2.0).

use davy_model::{Labels, Timestamp, Value};
use davy_query::Expr;

use super::functions::{AlertFunctions, is_function};
use super::{Evaluate, EvaluateError, Outside};
use crate::gotemplate::{Limits, List, Template, Value as Go};

/// Answers every query the same.
struct Fixed(Vec<(Labels, Value)>);

impl Evaluate for Fixed {
    fn instant(&self, _: &Expr, _: Timestamp) -> Result<Vec<(Labels, Value)>, EvaluateError> {
        Ok(self.0.clone())
    }
}

fn expand(text: &str, input: &Go, answer: &[(&[(&str, &str)], f64)]) -> Result<String, String> {
    let labelled =
        |(l, v): &(&[(&str, &str)], f64)| (Labels::from_pairs(l.iter().copied()), Value::Float(*v));
    let source = Fixed(answer.iter().map(labelled).collect());
    let outside = Outside { external_url: "http://testhost:9090/path/prefix".into(), ..Outside::default() };
    let functions = AlertFunctions { source: &source, at: Timestamp::default(), outside: &outside };
    let template =
        Template::parse("test", text, &functions).map_err(|e| format!("error parsing template test: {e}"))?;
    template
        .execute(input, &functions, Limits::default())
        .map_err(|e| format!("error executing template test: {e}"))
}

fn check(text: &str, want: &str) {
    assert_eq!(expand(text, &Go::Nil, &[]), Ok(want.to_owned()), "{text}");
}

fn fails(text: &str, want: &str) {
    assert_eq!(expand(text, &Go::Nil, &[]), Err(want.to_owned()), "{text}");
}

fn each(text: &str, inputs: Vec<Go>, want: &str) {
    assert_eq!(expand(text, &Go::list("[]", inputs), &[]), Ok(want.to_owned()), "{text}");
}

fn floats(values: &[f64]) -> Vec<Go> {
    values.iter().map(|v| Go::Float(*v)).collect()
}

fn ints(values: &[i64]) -> Vec<Go> {
    values.iter().map(|v| Go::Int(*v)).collect()
}

fn uints(values: &[u64]) -> Vec<Go> {
    values.iter().map(|v| Go::Uint(*v)).collect()
}

fn texts(values: &[&str]) -> Vec<Go> {
    values.iter().map(|v| Go::from(*v)).collect()
}

#[test]
fn queries_are_answered() {
    let a: &[(&str, &str)] = &[("__name__", "metric"), ("instance", "a"), ("__value__", "x")];
    let b: &[(&str, &str)] = &[("__name__", "metric"), ("instance", "b")];
    let check = |text: &str, answer: &[(&[(&str, &str)], f64)], want: &str| {
        assert_eq!(expand(text, &Go::Nil, answer), Ok(want.to_owned()), "{text}");
    };
    check("{{ query \"1.5\" | first | value }}", &[(&[], 1.5)], "1.5");
    check("{{ query \"metric{instance='a'}\" | first | value }}", &[(a, 11.0)], "11");
    check("{{ query \"metric{instance='a'}\" | first | label \"instance\" }}", &[(a, 11.0)], "a");
    check("{{ query \"metric{__value__='a'}\" | first | strvalue }}", &[(a, 11.0)], "x");
    check("{{ query \"metric{instance='a'}\" | first | label \"foo\" }}", &[(a, 11.0)], "");
    check("{{ $x := query \"metric\" | first }}{{ $x.Labels.foo }}", &[(a, 11.0)], "");
    check(
        "{{ range query \"metric\" | sortByLabel \"instance\" }}{{.Labels.instance}}:{{.Value}}: {{end}}",
        &[(b, 21.0), (a, 11.0)],
        "a:11: b:21: ",
    );
    check("{{define \"x\"}}{{.arg0}} {{.arg1}}{{end}}{{template \"x\" (args 1 \"2\")}}", &[], "1 2");
    check("{{ define \"a\" }}x{{ end }}{{ $name := \"a\"}}{{ tmpl $name . }}", &[], "x");
    check("{{with query \"up\"}}{{. | first | value}}{{else}}none{{end}}", &[], "none");
}

#[test]
fn hosts_are_stripped() {
    for (host, port, domain) in [
        ("foo.example.com", "foo.example.com", "foo"),
        ("foo.example.com:12345", "foo.example.com", "foo:12345"),
        ("192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:12345", "192.0.2.1", "192.0.2.1:12345"),
        ("2001:0DB8::1", "2001:0DB8::1", "2001:0DB8::1"),
        ("[2001:0DB8::1]:12345", "2001:0DB8::1", "[2001:0DB8::1]:12345"),
        ("[2001:0DB8::1]::12345", "[2001:0DB8::1]::12345", "[2001:0DB8::1]::12345"),
    ] {
        check(&format!("{{{{ \"{host}\" | stripPort }}}}"), port);
        check(&format!("{{{{ \"{host}\" | stripDomain }}}}"), domain);
    }
}

#[test]
fn numbers_are_humanized() {
    let h = "{{ range . }}{{ humanize . }}:{{ end }}";
    each(h, floats(&[0.0, 1.0, 1_234_567.0, 0.12]), "0:1:1.235M:120m:");
    each(h, texts(&["0.0", "1.0", "1234567.0", ".12"]), "0:1:1.235M:120m:");
    each(h, ints(&[0, -1, 1, 1_234_567, i64::MAX]), "0:-1:1:1.235M:9.223E:");
    each(h, uints(&[0, 1, 1_234_567, u64::MAX]), "0:1:1.235M:18.45E:");
    let h = "{{ range . }}{{ humanize1024 . }}:{{ end }}";
    each(h, floats(&[0.0, 1.0, 1_048_576.0, 0.12]), "0:1:1Mi:0.12:");
    each(h, ints(&[0, -1, 1, 1_234_567, i64::MAX]), "0:-1:1:1.177Mi:8Ei:");
    each(h, uints(&[0, 1, 1_234_567, u64::MAX]), "0:1:1.177Mi:16Ei:");
    let h = "{{ range . }}{{ humanizeDuration . }}:{{ end }}";
    each(
        h,
        floats(&[
            0.0,
            1.0,
            60.0,
            3600.0,
            86400.0,
            86400.0 + 3600.0,
            -(86400.0 * 2.0 + 3600.0 * 3.0 + 60.0 * 4.0 + 5.0),
            899.99,
        ]),
        "0s:1s:1m 0s:1h 0m 0s:1d 0h 0m 0s:1d 1h 0m 0s:-2d 3h 4m 5s:14m 59s:",
    );
    each(
        h,
        floats(&[0.1, 0.0001, 0.12345, 60.1, 60.5, 1.2345, 12.345]),
        "100ms:100us:123.5ms:1m 0s:1m 0s:1.234s:12.35s:",
    );
    each(h, ints(&[0, -1, 1, 1_234_567]), "0s:-1s:1s:14d 6h 56m 7s:");
    let h = "{{ range . }}{{ humanizePercentage . }}:{{ end }}";
    each(h, ints(&[0, -1, 1, 1_234_567, i64::MAX]), "0%:-100%:100%:1.235e+08%:9.223e+20%:");
    check(
        "{{ -0.22222 | humanizePercentage }}:{{ 0.0 | humanizePercentage }}:{{ 0.1234567 | humanizePercentage }}:{{ 1.23456 | humanizePercentage }}",
        "-22.22%:0%:12.35%:123.5%",
    );
    let all = "{{ range . }}{{ humanize . }}:{{ humanize1024 . }}:{{ humanizeDuration . }}:{{humanizeTimestamp .}}:{{ end }}";
    let want = "+Inf:+Inf:+Inf:+Inf:-Inf:-Inf:-Inf:-Inf:NaN:NaN:NaN:NaN:";
    each(all, floats(&[f64::INFINITY, f64::NEG_INFINITY, f64::NAN]), want);
    each(all, texts(&["+Inf", "-Inf", "NaN"]), want);
}

#[test]
fn times_are_humanized() {
    each(
        "{{ range . }}{{ humanizeTimestamp . }}:{{ end }}",
        ints(&[0, -1, 1, 1_234_567, 9_223_372_036]),
        "1970-01-01 00:00:00 +0000 UTC:1969-12-31 23:59:59 +0000 UTC:1970-01-01 00:00:01 +0000 UTC:1970-01-15 06:56:07 +0000 UTC:2262-04-11 23:47:16 +0000 UTC:",
    );
    check("{{ 1435065584.128 | humanizeTimestamp }}", "2015-06-23 13:19:44.128 +0000 UTC");
    check("{{ (1435065584.128 | toTime).Format \"2006\" }}", "2015");
    check("{{ (\"1435065584.128\" | toTime).Format \"2006\" }}", "2015");
    check("{{ printf \"%0.2f\" (parseDuration \"1h2m10ms\") }}", "3720.01");
}

#[test]
fn the_other_functions() {
    check("{{ reReplaceAll \"(a)b\" \"x$1\" \"ab\" }}", "xa");
    check("{{ \"aa bb CC\" | title }}", "Aa Bb CC");
    check("{{ \"aa bb CC\" | toUpper }}{{ \"aA bB CC\" | toLower }}", "AA BB CCaa bb cc");
    check("{{ match \"a+\" \"aa\" }} {{ match \"a+\" \"b\" }}", "true false");
    check(
        "{{ graphLink \"up\" }} {{ tableLink \"a b\" }}",
        "/graph?g0.expr=up&g0.tab=0 /graph?g0.expr=a+b&g0.tab=1",
    );
    check("{{ pathPrefix }} {{ externalURL }}", "/path/prefix http://testhost:9090/path/prefix");
    check("{{ \"<b>\" }}{{ \"<b>\" | safeHtml }}", "<b><b>");
    check("{{ .Foo }}", "<no value>");
}

#[test]
fn errors_are_prometheus_errors() {
    fails(
        "{{\u{a0}}}",
        "error parsing template test: template: test:1: unrecognized character in action: U+00A0",
    );
    fails("{{", "error parsing template test: template: test:1: unclosed action");
    fails(
        "{{ query \"missing\" | first }}",
        "error executing template test: template: test:1:21: executing \"test\" at <first>: error calling first: first() called on vector with no elements",
    );
    fails(
        "{{ (query \"missing\").banana }}",
        "error executing template test: template: test:1:10: executing \"test\" at <\"missing\">: can't evaluate field banana in type template.queryResult",
    );
    fails(
        "{{ humanize \"one\" }}",
        "error executing template test: template: test:1:3: executing \"test\" at <humanize \"one\">: error calling humanize: strconv.ParseFloat: parsing \"one\": invalid syntax",
    );
    fails(
        "{{ \"one\" | humanizePercentage }}",
        "error executing template test: template: test:1:11: executing \"test\" at <humanizePercentage>: error calling humanizePercentage: strconv.ParseFloat: parsing \"one\": invalid syntax",
    );
    let far =
        expand("{{ range . }}{{ humanizeTimestamp . }}:{{ end }}", &Go::list("[]", ints(&[i64::MIN])), &[]);
    assert_eq!(far, Err("error executing template test: template: test:1:16: executing \"test\" at <humanizeTimestamp .>: error calling humanizeTimestamp: -9.223372036854776e+18 cannot be represented as a nanoseconds timestamp since it overflows int64".to_owned()));
}

#[test]
fn a_replacement_that_explodes_is_refused() {
    let text = "{{ reReplaceAll \"\" (printf \"%9000s\" \"\") (printf \"%9000s\" \"\") }}";
    let error = expand(text, &Go::Nil, &[]).unwrap_err();
    assert!(error.contains("the result is longer than 1048576 bytes"), "{error}");
}

#[test]
fn names_are_those_that_are_called() {
    let list = Go::List(std::sync::Arc::new(List { type_name: "template.queryResult", items: Vec::new() }));
    assert!(is_function("query") && !is_function("nosuch"));
    drop(list);
}
