//! Text from outside (labels, annotations, answers) made safe to show: one place for every escape.

/// Text on one line, at most `chars_max` characters, with what could deceive the eye or a parser spelled out.
pub(crate) fn one_line(text: &str, chars_max: usize) -> String {
    lines(&text.split_whitespace().collect::<Vec<_>>().join(" "), chars_max)
}

/// The same, line breaks kept.
pub(crate) fn lines(text: &str, chars_max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(chars_max * 4));
    for (i, c) in text.chars().enumerate() {
        if i == chars_max {
            out.push('…');
            break;
        }
        if c != '\n' && deceives(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// Control characters, and the marks that turn or hide text: bidi (Trojan Source, CVE-2021-42574), zero width,
/// line separators.
fn deceives(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// For Slack's `mrkdwn` and `plain_text`: with these three no mention, link or date can be formed.
pub(crate) fn slack(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// For HTML text and quoted attributes.
pub(crate) fn html(text: &str) -> String {
    slack(text).replace('"', "&quot;").replace('\'', "&#39;")
}

/// Where people find the release's report; Davy itself without an id.
pub(crate) fn release_url(external_url: &str, id: &str) -> String {
    let base = external_url.trim_end_matches('/');
    if id.is_empty() {
        return base.to_owned();
    }
    let mut url = format!("{base}/api/davy/v1/releases/");
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-') {
            url.push(char::from(byte));
        } else {
            url += &format!("%{byte:02X}");
        }
    }
    url + "/report"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_deceives_is_spelled_out_and_length_is_bounded() {
        assert_eq!(one_line("a\r\nBcc: x\t\0b", 99), r"a Bcc: x \u{0}b");
        assert_eq!(lines("a\nb\u{202e}c\x1b[2J", 99), "a\nb\\u{202e}c\\u{1b}[2J");
        assert_eq!(one_line("abcdef", 3), "abc…");
        assert_eq!(one_line("结账服务变差", 99), "结账服务变差");
    }

    #[test]
    fn markup_is_escaped() {
        assert_eq!(slack("<!channel> & <http://x|y>"), "&lt;!channel&gt; &amp; &lt;http://x|y&gt;");
        assert_eq!(html("<b a='\"'>"), "&lt;b a=&#39;&quot;&#39;&gt;");
    }

    #[test]
    fn an_id_cannot_leave_its_path_segment() {
        assert_eq!(
            release_url("http://davy:9600/", "a/../b?c>|"),
            "http://davy:9600/api/davy/v1/releases/a%2F..%2Fb%3Fc%3E%7C/report"
        );
        assert_eq!(release_url("http://davy:9600", ""), "http://davy:9600");
    }
}
