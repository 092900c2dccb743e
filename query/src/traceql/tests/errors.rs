//! What is said of a query that cannot be read.

use expect_test::{Expect, expect};

use super::super::{Query, parse_field};

#[expect(clippy::needless_pass_by_value, reason = "it reads better at the call")]
fn check(query: &str, want: Expect) {
    let said = match Query::parse(query) {
        Ok(_) => "is read".to_owned(),
        Err(error) => error.to_string(),
    };
    want.assert_eq(&said);
}

#[test]
fn an_error_says_where_and_what_was_expected() {
    check(
        "",
        expect![[r#"line 1, column 1: expected "{" of a spanset, as in { status = error }, got the end"#]],
    );
    check(
        "{ nonsense",
        expect![[
            r#"line 1, column 3: unknown field "nonsense": expected a scope (span.nonsense, resource.nonsense, .nonsense) or an intrinsic (name, status, kind, duration …)"#
        ]],
    );
    check(
        "{ status = error",
        expect![[r#"line 1, column 17: expected "}", "&&", "||" or a comparison, got the end"#]],
    );
    check("{ span. = 1 }", expect!["line 1, column 7: expected the name of an attribute after the dot"]);
    check("{ span }", expect![[r#"line 1, column 3: expected an attribute after "span", as in span.foo"#]]);
    check(
        "{ duration > 10 parsecs }",
        expect![[r#"line 1, column 17: expected "}", "&&", "||" or a comparison, got "parsecs""#]],
    );
    check(
        "{ duration > 10parsecs }",
        expect!["line 1, column 16: expected a unit of time after the number: ns, us, ms, s, m, h, d or w"],
    );
    check("{ name = \"GET }", expect!["line 1, column 10: text is not closed: expected a second quote"]);
    check(
        "{ status = \"error\" }",
        expect![[r#"line 1, column 12: "=" compares a status (ok, error, unset) with a text"#]],
    );
    check(
        "{ status > ok }",
        expect![[r#"line 1, column 12: a status (ok, error, unset) can only be compared by "=" and "!=""#]],
    );
    check(
        "{ .foo =~ bar }",
        expect![[r#"line 1, column 11: expected a regular expression in quotes after "=~""#]],
    );
    check(
        "{ .foo =~ \"(\" }",
        expect![[
            r#"line 1, column 11: bad regex "(": regex parse error:     ^(?s:()$      ^ error: unclosed group"#
        ]],
    );
    check(
        "{ duration =~ \"1\" }",
        expect![[r#"line 1, column 12: "=~" matches texts, this is a number or duration"#]],
    );
    check("{ .foo < nil }", expect![[r#"line 1, column 10: nil can only be compared by "=" and "!=""#]]);
    check(
        "{ duration }",
        expect!["line 1, column 3: a filter must be true or false, this is a number or duration"],
    );
    check("{ name && true }", expect![[r#"line 1, column 3: "&&" takes true or false, this is a text"#]]);
    check(
        "{\n  name = \"a\"\n  &&\n}",
        expect![[
            r#"line 4, column 1: expected a field or a value: resource.service.name, span.http.route, .foo, status, duration, "text", 5, 100ms, got "}""#
        ]],
    );
    check(
        "{} | count()",
        expect!["line 1, column 13: expected a comparison, as in count() > 2, got the end"],
    );
    check(
        "{} | avg(name) > 1",
        expect!["line 1, column 10: avg() takes a number or duration, this is a text"],
    );
    check(
        "{} | speed()",
        expect![
            "line 1, column 6: unknown stage speed(): expected a stage: a spanset, select(), by(), coalesce(), count() > n, avg(), max(), min() or sum() compared, rate(), count_over_time(), quantile_over_time() …"
        ],
    );
    check("{} | compare({})", expect!["line 1, column 6: compare() is not supported"]);
    check(
        "({} | count() > 1) && {}",
        expect![
            "line 1, column 5: a pipeline within parentheses is not supported: put its stages behind the query"
        ],
    );
    check("{} &~ {}", expect![[r#"line 1, column 4: the operator "&~" is not supported"#]]);
    check(
        "{} | rate() | count() > 1",
        expect!["line 1, column 15: only topk() and bottomk() may follow a function of metrics"],
    );
    check(
        "{} | topk(3)",
        expect!["line 1, column 6: topk() follows a function of metrics, as in rate() | topk(5)"],
    );
    check(
        "{} | quantile_over_time(duration)",
        expect![[
            r#"line 1, column 33: expected 1 to 64 quantiles, as in quantile_over_time(duration, .5, .99), got ")""#
        ]],
    );
    check(
        "{} | quantile_over_time(duration, 99)",
        expect!["line 1, column 35: a quantile is a number from 0 to 1"],
    );
    check("{} {}", expect![[r#"line 1, column 4: expected the end of the query, got "{""#]]);
    check(
        "{ instrumentation:version = \"1\" }",
        expect!["line 1, column 3: instrumentation:version is not kept, only instrumentation:name"],
    );
    check("{ é = 1 # }", expect!["line 1, column 9: unexpected character '#'"]);
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
        text in r#"(\{|\}|\(|\)|&&|\|\||\||=|!=|=~|"x"|"\(|\.a|span\.b|parent\.|duration|status|error|5|1\.5s|count\(\)|by|rate|!|-|>>|<|~| |é){0,24}"#,
    ) {
        let _ = Query::parse(&text);
    }
}
