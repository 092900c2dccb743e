//! Which spans of a trace a query picks.

use expect_test::{Expect, expect};

use super::super::{Query, Trace};
use super::{shop, span};

/// The names of the spans, a set in each pair of brackets.
fn picked(query: &str, trace: &Trace) -> String {
    let query = Query::parse(query).unwrap_or_else(|e| panic!("{query}: {e}"));
    let set = |set: &super::super::Spanset| {
        let names: Vec<&str> = set.spans.iter().map(|s| &*trace.spans[*s].name).collect();
        let shared: Vec<String> = set.attributes.iter().map(|(k, v)| format!(" {k}={}", v.label())).collect();
        format!("[{}{}]", names.join(" "), shared.concat())
    };
    query.eval(trace).iter().map(set).collect::<Vec<_>>().join(" ")
}

fn check(query: &str, want: &str) {
    let trace = Trace::new(shop()).unwrap();
    assert_eq!(picked(query, &trace), want, "{query}");
}

#[test]
fn conditions_on_fields() {
    check("{}", "[root call get select draw]");
    check("{ true }", "[root call get select draw]");
    check("{ false }", "");
    check(r#"{ name = "get" }"#, "[get]");
    check(r#"{ name =~ "get|s.*" }"#, "[get select]");
    check(r#"{ name =~ "e" }"#, "");
    check(r#"{ name !~ "[gs].*" }"#, "[root call draw]");
    check("{ status = error }", "[get]");
    check("{ status != error && kind = client }", "[call select]");
    check(r#"{ statusMessage = "card refused" }"#, "[get]");
    check("{ statusMessage = nil }", "[root call select draw]");
    check("{ duration > 50ms }", "[root call]");
    check("{ 50ms <= duration }", "[root call get]");
    check("{ span.http.status_code >= 500.5 }", "[get]");
    check("{ span.http.status_code = 500 || .share < 1 }", "[root get]");
    check("{ .retry }", "[get]");
    check("{ .retry = true }", "[get]");
    check(r#"{ span."with space" = "yes" }"#, "[root]");
    check(r#"{ resource.service.name = "cart" }"#, "[get select]");
    check(r#"{ .service.name = "cart" }"#, "[select]");
    check(r#"{ instrumentation:name = "http" && span:id = "0404040404040404" }"#, "[select]");
    check("{ span.http.status_code + 3 = 503 }", "[root]");
    check("{ -span.http.status_code * 2 ^ 2 < -2000 && span.http.status_code % 2 = 1 }", "[get]");
    check("{ duration / 2 >= 50ms }", "[root]");
}

#[test]
fn what_is_not_there_satisfies_nothing_but_nil() {
    check(r#"{ span.db.system != "mysql" }"#, "[select]");
    check(r#"{ span.db.system !~ "m.*" }"#, "[select]");
    check(r#"{ !(span.db.system = "postgresql") }"#, "[root call get draw]");
    check("{ span.db.system = nil }", "[root call get draw]");
    check("{ nil != span.db.system }", "[select]");
    check(r#"{ span.db.system = 5 }"#, "");
    check(r#"{ span.db.system != 5 }"#, "");
    check("{ span.nothing + 1 = 1 }", "");
}

#[test]
fn events_links_parents_and_the_whole_trace() {
    check(r#"{ event.exception.type = "Refused" }"#, "[get]");
    check(r#"{ event.exception.type != "Refused" }"#, "[get]");
    check("{ event.exception.type = nil && kind = server }", "[root]");
    check(r#"{ event:name = "retry" && event:timeSinceStart = 40ms }"#, "[get]");
    check("{ event:timeSinceStart > 40ms }", "");
    check("{ link:spanID != nil }", "[call]");
    check(r#"{ parent.resource.service.name = "shop" && resource.service.name = "cart" }"#, "[get]");
    check("{ parent.http.status_code = 503 }", "[select]");
    check(
        r#"{ rootName = "root" && trace:rootService = "shop" && traceDuration >= 100ms && kind = server }"#,
        "[root get]",
    );
    check("{ traceDuration > 100ms }", "");
    check("{ span:childCount = 2 }", "[root]");
    check("{ nestedSetParent < 0 }", "[root]");
    check("{ nestedSetLeft = 1 && nestedSetRight = 10 }", "[root]");
    check("{ nestedSetParent = 1 }", "[call draw]");
    check("{ span:parentID = nil }", "[root]");
}

#[test]
fn spans_by_how_they_stand_to_others() {
    check("{ status = error } && { kind = client }", "[call get select]");
    check("{ status = ok } && { kind = client }", "");
    check("{ status = ok } || { kind = client }", "[call select]");
    check(r#"{ name = "root" } > {}"#, "[call draw]");
    check(r#"{ name = "call" } >> {}"#, "[get select]");
    check(r#"{ name = "select" } < {}"#, "[get]");
    check(r#"{ name = "select" } << {}"#, "[root call get]");
    check(r#"{ name = "call" } ~ {}"#, "[draw]");
    check(r#"{ name = "call" } !>> {}"#, "[root call draw]");
    check(r#"{ name = "root" } !> { kind = client }"#, "[select]");
    check(r#"{ name = "call" } &>> { kind = client }"#, "[call select]");
    check(r#"{ name = "root" } &> { name = "nobody" }"#, "");
    check(r#"{ kind = server } >> { status = error } >> { kind = client }"#, "[select]");
    check(r#"({ name = "call" } || { name = "draw" }) < {}"#, "[root]");
}

#[test]
fn stages() {
    check("{ kind = client } | count() > 1", "[call select count()=2]");
    check("{ kind = client } | count() > 2", "");
    check("{ kind = client } | avg(duration) = 35ms", "[call select avg(duration)=35ms]");
    check(
        "{} | max(span.http.status_code) >= 503 | min(duration) < 11ms",
        "[root call get select draw max(http.status_code)=503 min(duration)=10ms]"
            .replace("http", "span.http")
            .as_str(),
    );
    check("{} | sum(span.nothing) > -1", "");
    check("{} | { kind = server } | { status = error }", "[get]");
    check("{} | select(span.db.system)", "[root call get select draw]");
    check(
        "{} | by(resource.service.name) | count() < 3",
        "[get select by(resource.service.name)=cart count()=2]",
    );
    check("{} | by(kind) | coalesce()", "[root call get select draw]");
}

#[test]
fn spans_that_are_each_others_ancestors_and_orphans_end() {
    let circle = vec![
        span(1, 1, 2, "a", "one", [0, 1]),
        span(1, 2, 1, "a", "two", [1, 1]),
        span(1, 3, 3, "a", "own", [2, 1]),
        span(1, 4, 7, "a", "orphan", [3, 1]),
    ];
    let trace = Trace::new(circle).unwrap();
    let check = |query: &str, want: Expect| want.assert_eq(&picked(query, &trace));
    check("{} >> {}", expect!["[one two]"]);
    check(r#"{ name = "one" } << {}"#, expect!["[one two]"]);
    check("{ nestedSetParent < 0 }", expect![""]);
    check("{ rootName = nil }", expect!["[one two own orphan]"]);
    check("{ nestedSetLeft = 0 }", expect!["[one two own orphan]"]);
}
