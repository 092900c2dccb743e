//! Files that no user writes by hand: refused quickly, and never a panic.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use davy::config::Config;
use proptest::prelude::*;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("davy.yaml"), Path::new("/nonexistent")).map_err(|e| e.to_string())
}

/// Far above what any takes (tens of milliseconds), far below what an expanded bomb would.
const SOON: Duration = Duration::from_secs(20);

fn refused_soon(text: String) -> String {
    let (done, wait) = mpsc::channel();
    std::thread::spawn(move || done.send(parse(&text).map(|_| ())));
    wait.recv_timeout(SOON).expect("it is answered soon, without a panic").expect_err("it is refused")
}

#[test]
fn alias_bombs_are_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..12 {
        let alias = format!("*a{}, ", i - 1).repeat(10);
        text += &format!("a{i}: &a{i} [{alias}]\n");
    }
    let error = refused_soon(text);
    assert!(error.contains("aliases that stand for too many"), "{error}");
}

#[test]
fn depth_bombs_are_refused() {
    for text in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000), "? ".repeat(100_000)] {
        let error = refused_soon(text);
        assert!(error.contains("nested deeper than 24"), "{error}");
    }
    let block: String = (0..500).map(|i| format!("{}a:\n", " ".repeat(i))).collect();
    refused_soon(block);
}

#[test]
fn a_file_of_more_than_a_mebibyte_is_refused_and_one_below_is_read() {
    let error = refused_soon("#".repeat((1 << 20) + 1));
    assert!(error.contains("larger than 1048576 bytes"), "{error}");

    let jobs: String = (0..9000)
        .map(|i| {
            format!(
                "  - job_name: j{i}\n    static_configs:\n      - targets: ['10.0.0.1:80', '10.0.0.2:80']\n"
            )
        })
        .collect();
    let text = format!("scrape_configs:\n{jobs}");
    assert!(text.len() > 700_000 && text.len() < 1 << 20, "{}", text.len());
    let config = parse(&text).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(config.scrape_configs.len(), 9000);
}

#[test]
fn a_hundred_thousand_errors_are_twenty() {
    let flow = format!("{{{}}}", (0..90_000).map(|i| format!("k{i}: 1,")).collect::<String>());
    let error = refused_soon(flow);
    assert_eq!(error.matches("unknown key").count(), 20, "{error}");
    let list = format!("scrape_configs: [{}]", "1,".repeat(200_000));
    assert_eq!(refused_soon(list).matches("expected a mapping").count(), 20);
}

#[test]
fn one_anchor_may_be_used_by_hundreds_of_jobs() {
    let jobs: String = (0..500).map(|i| format!("  - {{<<: *base, job_name: j{i}}}\n")).collect();
    let text = format!("scrape_configs:\n  - &base {{job_name: base, scrape_interval: 5s}}\n{jobs}");
    let config = parse(&text).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(config.scrape_configs.len(), 501);
    assert_eq!(config.scrape_configs[500].scrape_interval, Duration::from_secs(5));
}

#[test]
fn a_byte_that_is_no_character_is_told_with_its_line() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let path = folder.path().join("davy.yaml");
    std::fs::write(&path, b"global: {}\n# \xff\n").expect("it is ours to write");
    let errors = Config::load(&path).expect_err("it is no UTF-8");
    assert!(errors.to_string().contains("is not UTF-8: line 2"), "{errors}");
}

proptest! {
    #[test]
    fn any_text_is_answered_without_a_panic(text in any::<String>()) {
        let _ = parse(&text);
    }

    /// Words of the schema and signs of YAML in any order reach deeper than random text.
    #[test]
    fn any_soup_of_words_is_answered_without_a_panic(words in prop::collection::vec(word(), 0..60)) {
        let _ = parse(&words.concat());
    }

    /// A whole file with one piece cut out or doubled.
    #[test]
    fn any_damage_is_answered_without_a_panic(from in 0usize..4000, len in 0usize..60, double in any::<bool>()) {
        let text = include_str!("good/everything.yaml");
        let from = text.floor_char_boundary(from);
        let to = text.floor_char_boundary(from + len);
        let (head, cut, tail) = (&text[..from], &text[from..to], &text[to..]);
        let _ = parse(&if double { [head, cut, cut, tail].concat() } else { [head, tail].concat() });
    }
}

fn word() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "\n",
        "\n  ",
        "\n    ",
        "\n- ",
        "\n  - ",
        ": ",
        ", ",
        "{",
        "}",
        "[",
        "]",
        "\"",
        "'",
        "|\n",
        "&a ",
        "*a",
        "<<: *a",
        "~",
        "1",
        "-1",
        "1e999",
        "15s",
        "é",
        "\u{202e}",
        "global",
        "scrape_configs",
        "job_name",
        "static_configs",
        "targets",
        "relabel_configs",
        "regex",
        "(.*)",
        "action",
        "hashmod",
        "releases",
        "service",
        "metrics",
        "preset",
        "http",
        "policy",
        "on_fail",
        "rollback",
        "route",
        "receiver",
        "receivers",
        "matchers",
        "a=~\"(\"",
        "name",
        "webhook_configs",
        "url",
        "thresholds",
        "query",
        "storage",
        "otlp",
        "grpc",
        "127.0.0.1:1",
    ])
}
