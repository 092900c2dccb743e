//! Templates by example; where Go's own words are known, they are expected.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

struct Few;

impl Functions for Few {
    fn has(&self, name: &str) -> bool {
        matches!(name, "upper" | "fail" | "many")
    }

    fn call(&self, name: &str, args: &[Value]) -> Result<Value, CallError> {
        match (name, args) {
            ("upper", [Value::Text(t)]) => Ok(Value::from(t.to_uppercase())),
            ("upper", [other]) => Err(CallError::wrong_type("string", other)),
            ("many", [Value::Int(n)]) => Ok(Value::from("x".repeat(*n as usize))),
            ("fail", _) => Err(CallError::failed("as asked")),
            _ => Err(CallError::wrong_number(name, 1, args.len())),
        }
    }
}

fn data() -> Value {
    Value::record(
        "test.data",
        vec![
            ("Labels", Value::texts([("job", "api"), ("instance", "a:80")])),
            ("Value", Value::Float(1.5)),
            ("Count", Value::Int(3)),
            ("Numbers", Value::list("[]float64", vec![Value::Float(1.0), Value::Float(2.5)])),
            ("Empty", Value::list("[]float64", vec![])),
        ],
    )
}

fn run(text: &str) -> String {
    let parsed = Template::parse("test", text, &Few);
    match parsed.and_then(|t| t.execute(&data(), &Few, Limits::default())) {
        Ok(out) => out,
        Err(error) => error.to_string(),
    }
}

fn check(text: &str, want: &str) {
    assert_eq!(run(text), want, "{text}");
}

fn refuses(text: &str, want: &Expect) {
    want.assert_eq(&run(text));
}

#[test]
fn values_and_fields_are_printed() {
    check("plain", "plain");
    check(
        "{{1}} {{-1}} {{1.5}} {{0x10}} {{1_000}} {{'a'}} {{true}} {{\"q\\\"\\u00e9\"}} {{`raw\\n`}}",
        "1 -1 1.5 16 1000 97 true q\"é raw\\n",
    );
    check("{{.Value}} {{.Labels.job}} {{.Labels.none}}|{{.Labels}}", "1.5 api |map[instance:a:80 job:api]");
    check("{{$.Labels.job}} {{$x := .Labels}}{{$x.instance}} {{$x = 3}}{{$x}}", "api a:80 3");
    check(
        "{{(index .Numbers 1)}} {{len .Labels}} {{slice \"abcdef\" 1 3}} {{index .Labels \"job\"}}",
        "2.5 2 bc api",
    );
    check("{{print 1 2 \"a\" 3.5 \"b\"}} {{println 1 \"a\"}}", "1 2a3.5b 1 a\n");
}

#[test]
fn blocks_branch_and_repeat() {
    check(
        "{{if .Value}}yes{{else}}no{{end}} {{if .Empty}}yes{{else if eq .Count 3}}three{{else}}no{{end}}",
        "yes three",
    );
    check("{{with .Labels.job}}[{{.}}]{{end}}{{with .Labels.none}}x{{else}}none{{end}}", "[api]none");
    check("{{with .Labels.none}}x{{else with .Labels.job}}{{.}}{{end}}", "api");
    check("{{range .Numbers}}{{.}},{{end}}{{range .Empty}}x{{else}}empty{{end}}", "1,2.5,empty");
    check(
        "{{range $i, $v := .Numbers}}{{$i}}={{$v}} {{end}}{{range $k, $v := .Labels}}{{$k}}={{$v}} {{end}}",
        "0=1 1=2.5 instance=a:80 job=api ",
    );
    check(
        "{{range $v := .Numbers}}{{if eq $v 1.0}}{{continue}}{{end}}{{$v}}{{end}}{{range .Numbers}}{{.}}{{break}}{{end}}",
        "2.51",
    );
    check("{{range 3}}{{.}}{{end}}{{$n := 0}}{{range .Numbers}}{{$n = .}}{{end}}{{$n}}", "0122.5");
}

#[test]
fn templates_call_each_other() {
    check("{{define \"x\"}}<{{.}}>{{end}}{{template \"x\" .Count}}{{template \"x\"}}", "<3><<no value>>");
    check("{{block \"b\" .Labels}}{{.job}}{{end}}", "api");
    check("{{define \"x\"}}in{{end}}{{tmpl \"x\" .}}{{tmpl \"x\" . | upper}}", "inIN");
}

#[test]
fn pipelines_pass_the_last_argument() {
    check("{{.Labels.job | upper | printf \"%s-%s\" \"a\"}}", "a-API");
    check(
        "{{(printf \"%d\" .Count) | len}} {{not true}} {{and 1 0 fail}} {{or 0 \"x\" fail}}",
        "1 false 0 x",
    );
    check(
        "{{1 | eq 2}} {{eq 1 2 1}} {{ne \"a\" \"b\"}} {{lt 1 2}} {{ge 1.5 .Value}} {{gt \"b\" \"a\"}}",
        "false true true true true true",
    );
}

#[test]
fn spaces_are_trimmed_where_asked() {
    check("a  {{- 1 -}}  b {{- /* gone */ -}} c", "a1bc");
    check("a {{/* gone */}} b", "a  b");
    check("{{- \"x\" }}\n{{ 3 -}}\n y {{-3}}", "x\n3y -3");
}

#[test]
fn formats_follow_go() {
    check(
        "{{printf \"%5d|%-5d|%05d|%+d|%x|%X|%o|%b|%c|%U\" 42 42 42 42 255 255 8 5 65 65}}",
        "   42|42   |00042|+42|ff|FF|10|101|A|U+0041",
    );
    check(
        "{{printf \"%.2f|%8.3f|%g|%e|%v|%.3g\" 3.14159 2.5 1e21 1234.5 1e6 1234.5}}",
        "3.14|   2.500|1e+21|1.234500e+03|1e+06|1.23e+03",
    );
    check(
        "{{printf \"%s|%q|%10s|%-4s|%.2s|%x|%t|%v|%T\" \"a\" \"b\\n\" \"c\" \"d\" \"efg\" \"hi\" true nil 1.5}}",
        "a|\"b\\n\"|         c|d   |ef|6869|true|<nil>|float64",
    );
    check(
        "{{printf \"%d %s %!\" \"x\" 1}}",
        "%!d(string=x) %!s(int=1) %!!(NOVERB)".replace("%!!(NOVERB)", "%!!(MISSING)").as_str(),
    );
    check(
        "{{printf \"%d\"}} {{printf \"a\" 1 \"b\"}} {{printf \"%%\"}} {{printf \"%*d\" 4 7}}",
        "%!d(MISSING) a%!(EXTRA int=1, string=b) %    7",
    );
    check(
        "{{html \"<a&'>\"}} {{urlquery \"a b&c\"}} {{js \"<'>\"}}",
        "&lt;a&amp;&#39;&gt; a+b%26c \\u003C\\'\\u003E",
    );
}

#[test]
fn mistakes_in_the_text_are_told_as_go_tells_them() {
    refuses("{{", &expect!["template: test:1: unclosed action"]);
    refuses("{{\u{a0}}}", &expect!["template: test:1: unrecognized character in action: U+00A0"]);
    refuses("a\n{{ nosuch }}", &expect![[r#"template: test:2: function "nosuch" not defined"#]]);
    refuses("{{ $x }}", &expect![[r#"template: test:1: undefined variable "$x""#]]);
    refuses("{{if}}x{{end}}", &expect!["template: test:1: missing value for if"]);
    refuses("{{if true}}x", &expect!["template: test:1: unexpected EOF"]);
    refuses("{{end}}", &expect!["template: test:1: unexpected {{end}}"]);
    refuses("{{(1}}", &expect!["template: test:1: unclosed left paren"]);
    refuses("{{1)}}", &expect!["template: test:1: unexpected right paren"]);
    refuses("{{\"a}}", &expect!["template: test:1: unterminated quoted string"]);
    refuses("{{1 | 2}}", &expect!["template: test:1: non executable command in pipeline stage 2"]);
    refuses("{{break}}", &expect!["template: test:1: {{break}} outside {{range}}"]);
    refuses("{{/* x }}", &expect!["template: test:1: unclosed comment"]);
    refuses("{{1x}}", &expect![[r#"template: test:1: bad number syntax: "1x""#]]);
    refuses("{{\"a\".b}}", &expect![[r#"template: test:1: unexpected . after term "\"a\"""#]]);
    refuses("{{template x}}", &expect![[r#"template: test:1: unexpected "x" in template clause"#]]);
    refuses("{{.a =}}", &expect![[r#"template: test:1: unexpected "=" in operand"#]]);
}

#[test]
fn mistakes_at_run_time_name_the_place() {
    refuses(
        "{{ .Nope }}",
        &expect![[
            r#"template: test:1:3: executing "test" at <.Nope>: can't evaluate field Nope in type test.data"#
        ]],
    );
    refuses(
        "x\n{{ upper 1 }}",
        &expect![[r#"template: test:2:9: executing "test" at <1>: expected string; found 1"#]],
    );
    refuses(
        "{{ 1 | fail }}",
        &expect![[r#"template: test:1:7: executing "test" at <fail>: error calling fail: as asked"#]],
    );
    refuses(
        "{{ gt .Value 1 }}",
        &expect![[
            r#"template: test:1:3: executing "test" at <gt .Value 1>: error calling gt: incompatible types for comparison"#
        ]],
    );
    refuses(
        "{{ template \"x\" }}",
        &expect![[
            r#"template: test:1:12: executing "test" at <{{template "x"}}>: template "x" not defined"#
        ]],
    );
    refuses(
        "{{ index .Numbers 7 }}",
        &expect![[
            r#"template: test:1:3: executing "test" at <index .Numbers 7>: error calling index: index out of range: 7"#
        ]],
    );
    refuses(
        "{{range .Value}}{{end}}",
        &expect![[r#"template: test:1:8: executing "test" at <.Value>: range can't iterate over 1.5"#]],
    );
    refuses(
        "{{ .Labels.job 1 }}",
        &expect![[
            r#"template: test:1:10: executing "test" at <.Labels.job>: job is not a method but has arguments"#
        ]],
    );
}

#[test]
fn hostile_templates_end() {
    refuses(
        "{{range 1000000000}}{{end}}",
        &expect![[r#"template: test:1:8: executing "test" at <1000000000>: more than 200000 steps"#]],
    );
    refuses(
        "{{range 1000000000}}aaaaaaaaaaaaaaaaaaaaaaaaaaaa{{end}}",
        &expect![[
            r#"template: test:1:8: executing "test" at <1000000000>: the output is longer than 262144 bytes"#
        ]],
    );
    refuses(
        "{{define \"x\"}}{{template \"x\" .}}{{end}}{{template \"x\" .}}",
        &expect![[r#"template: test:1:29: executing "x" at <.>: exceeded maximum template depth (50)"#]],
    );
    refuses(
        "{{many 1000000}}",
        &expect![[
            r#"template: test:1:2: executing "test" at <many 1000000>: many gives 1000000 bytes, more than the 262144 allowed"#
        ]],
    );
    refuses(
        "{{$x := \"aaaaaaaaaaaaaaaa\"}}{{range 100}}{{$x = print $x $x}}{{end}}",
        &expect![[
            r#"template: test:1:48: executing "test" at <print $x $x>: print gives 524288 bytes, more than the 262144 allowed"#
        ]],
    );
    let deep = format!("{{{{{}1{}}}}}", "(".repeat(1000), ")".repeat(1000));
    refuses(&deep, &expect!["template: test:1: nested deeper than 64 parentheses"]);
    let blocks = "{{if true}}".repeat(1000);
    refuses(&blocks, &expect!["template: test:1: nested deeper than 64 blocks"]);
    let elses = format!("{{{{if false}}}}{}{{{{end}}}}", "{{else if false}}".repeat(1000));
    refuses(&elses, &expect!["template: test:1: nested deeper than 64 blocks"]);
}

proptest! {
    #[test]
    fn any_text_is_answered(text in r#"(\{\{|\}\}|\{\{- | -\}\}|if|else|end|range|with|define|template|\$x|:=|=|\||\(|\)|"a"|`|'|\.|\.Labels|\.job|1|1\.5|-|/\*|\*/|eq|index|printf|"%d"| |\n|é){0,24}"#) {
        let _ = run(&text);
    }
}
