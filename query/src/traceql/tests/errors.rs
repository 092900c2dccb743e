//! What is said of a query that cannot be read.

use expect_test::{Expect, expect};

use super::super::{Query, parse_field};

fn check(query: &str, want: Expect) {
    let said = match Query::parse(query) {
        Ok(_) => "is read".to_owned(),
        Err(error) => error.to_string(),
    };
    want.assert_eq(&said);
}

#[test]
fn an_error_says_where_and_what_was_expected() {
    check("", expect![[r#"line 1, column 1: expected "{" of a spanset, as in { status = error }, got the end"#]]);
    check("{ nonsense", expect![[r#""#]]);
    check("{ status = error", expect![[r#""#]]);
    check("{ span. = 1 }", expect![[r#""#]]);
    check("{ span }", expect![[r#""#]]);
    check("{ duration > 10 parsecs }", expect![[r#""#]]);
    check("{ duration > 10parsecs }", expect![[r#""#]]);
    check("{ name = \"GET }", expect![[r#""#]]);
    check("{ status = \"error\" }", expect![[r#""#]]);
    check("{ status > ok }", expect![[r#""#]]);
    check("{ .foo =~ bar }", expect![[r#""#]]);
    check("{ .foo =~ \"(\" }", expect![[r#""#]]);
    check("{ duration =~ \"1\" }", expect![[r#""#]]);
    check("{ .foo < nil }", expect![[r#""#]]);
    check("{ duration }", expect![[r#""#]]);
    check("{ name && true }", expect![[r#""#]]);
    check("{\n  name = \"a\"\n  &&\n}", expect![[r#""#]]);
    check("{} | count()", expect![[r#""#]]);
    check("{} | avg(name) > 1", expect![[r#""#]]);
    check("{} | speed()", expect![[r#""#]]);
    check("{} | compare({})", expect![[r#""#]]);
    check("({} | count() > 1) && {}", expect![[r#""#]]);
    check("{} &~ {}", expect![[r#""#]]);
    check("{} | rate() | count() > 1", expect![[r#""#]]);
    check("{} | topk(3)", expect![[r#""#]]);
    check("{} | quantile_over_time(duration)", expect![[r#""#]]);
    check("{} | quantile_over_time(duration, 99)", expect![[r#""#]]);
    check("{} {}", expect![[r#""#]]);
    check("{ instrumentation:version = \"1\" }", expect![[r#""#]]);
    check("{ é = 1 # }", expect![[r#""#]]);
}

#[test]
fn what_grafana_writes_is_read() {
    for query in [
        "{}",
        "{ }",
        r#"{resource.service.name="x" && name="GET /" && status=error && duration>100ms}"#,
        r#"{span.http.status_code>=500 || .foo=~"a|b"}"#,
        r#"{(resource.service.name="a" || resource.service.name="b") && kind=server} | select(span.http.method)"#,
        r#"{traceDuration>1s && rootServiceName="x"}"#,
        r#"{nestedSetParent<0 && true} | rate() by(resource.service.name)"#,
        r#"{nestedSetParent<0} | histogram_over_time(duration) with(sample=true)"#,
        r#"{ true } | quantile_over_time(duration, 0.9, .99) by (span.http.route) | topk(10)"#,
        r#"({status=error} && {kind=server}) >> {name="x"} | by(resource.service.name) | count() > 2 | coalesce()"#,
        r#"{event.exception.message != nil && link:traceID != nil && parent.resource.service.name="x"}"#,
        r#"{span."a b" = `raw \` && -span.n * 2 + 1 < 3.5e2 && !(.x = "y")}"#,
        r#"{ span:duration > 1h30m && trace:rootName =~ "GET.*" } // the slow ones"#,
    ] {
        assert!(Query::parse(query).is_ok(), "{query}: {}", Query::parse(query).unwrap_err());
    }
}

#[test]
fn deep_long_and_odd_texts_end_in_errors() {
    let deep = |n: usize| format!("{{ {}true{} }}", "(".repeat(n), ")".repeat(n));
    assert!(Query::parse(&deep(40)).is_ok());
    assert!(Query::parse(&deep(5_000)).is_err());
    assert!(Query::parse(&format!("{{ {} true }}", "!".repeat(10_000))).is_err());
    assert!(Query::parse(&format!("{} {{}}", "{} > ".repeat(2_000))).is_err());
    assert!(Query::parse(&format!("{}{}", "(".repeat(9_000), "{}")).is_err());
    assert!(Query::parse(&format!("{{ .a = \"{}\" }}", "x".repeat(100_000))).is_err());
    assert!(Query::parse(&format!("{{ 1{} = 2 }}", " + 1".repeat(1_000))).is_err());
    let flat = |n: usize| format!("{{ .a = 1{} }}", " || .a = 1".repeat(n));
    assert!(Query::parse(&flat(500)).is_ok(), "a long list is not deep");
    assert!(Query::parse(&flat(5_000)).is_err());
}

#[test]
fn a_field_is_written_as_it_is_read() {
    for field in ["resource.service.name", ".foo", "span.\"a b\"", "status", "span:id", "parent.resource.x"] {
        assert_eq!(parse_field(field).map(|f| f.to_string()), Ok(field.to_owned()));
    }
    assert_eq!(parse_field("span:duration").map(|f| f.to_string()), Ok("duration".to_owned()));
    assert!(parse_field("foo").is_err());
    assert!(parse_field("span.a span.b").is_err());
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused(
        text in r#"(\{|\}|\(|\)|&&|\|\||\||=|!=|=~|"x"|"(|\.a|span\.b|parent\.|duration|status|error|5|1\.5s|count\(\)|by|rate|!|-|>>|<|~| |é){0,24}"#,
    ) {
        let _ = Query::parse(&text);
    }
}
