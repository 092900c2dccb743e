//! "Did you mean": the known word nearest to one that is not known.

/// Longer words are not compared: the work is quadratic.
const BYTES_MAX: usize = 64;

/// `; did you mean `word`?`, or nothing if no word is near.
pub(super) fn did_you_mean<'a>(got: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    if got.len() > BYTES_MAX {
        return String::new();
    }
    let got_lower = got.to_ascii_lowercase().replace('-', "_");
    let near = known
        .into_iter()
        .map(|word| (distance(&got_lower, word), word))
        .filter(|(d, word)| *d <= 1.max(word.len().min(got.len()) / 3))
        .min();
    near.map_or_else(String::new, |(_, word)| format!("; did you mean `{word}`?"))
}

/// Insertions, deletions, substitutions and swaps of neighbours that lead from `a` to `b` (optimal string
/// alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (last[j - 1] + cost).min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_suggested_and_far_ones_are_not() {
        let known = ["scrape_interval", "scrape_timeout", "url"];
        assert_eq!(did_you_mean("scrape_intervall", known), "; did you mean `scrape_interval`?");
        assert_eq!(did_you_mean("Scrape-Timeuot", known), "; did you mean `scrape_timeout`?");
        assert_eq!(did_you_mean("ulr", known), "; did you mean `url`?");
        assert_eq!(did_you_mean("kubernetes", known), "");
    }

    #[test]
    fn swapped_neighbours_are_one_step() {
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
