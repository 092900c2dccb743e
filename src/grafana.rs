//! `davy grafana export DIR`: the boards and the provisioning that makes a Grafana find them and Davy.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use davy_dashboards::{DEFAULT_BOARDS, DEFAULT_INTERVAL, DEFAULT_URL, FILES};

/// Every file of ours holds one of these; another file of the same name is somebody else's.
const OURS: [&str; 3] = ["\"uid\": \"davy-", "uid: davy-metrics", "name: davy\n"];
/// No file that we would replace is larger.
const FILE_BYTES_MAX: u64 = 4 << 20;

#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// Folder to write to, such as /etc/grafana: `provisioning/` and `dashboards/Davy/` go below it.
    dir: PathBuf,
    /// Where Grafana reaches Davy.
    #[arg(long, default_value = DEFAULT_URL, value_parser = check_url)]
    url: String,
    /// How often Davy's data is scraped or pushed; Grafana takes rates over at least four times this.
    #[arg(long, default_value = DEFAULT_INTERVAL, value_parser = check_interval)]
    interval: String,
    /// Where Grafana sees the folder `dashboards`, if not where it is written (in a container).
    #[arg(long)]
    boards_path: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error(
        "{} is not Davy's and would be overwritten: move it away, or choose another folder; nothing was written",
        .0.display()
    )]
    Foreign(PathBuf),
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

pub fn export(args: &ExportArgs) -> ExitCode {
    match write_all(args) {
        Ok(next) => {
            print!("{next}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("davy: {error}");
            ExitCode::FAILURE
        }
    }
}

/// All or, when one of the files is somebody else's, nothing. Gives what to do next.
fn write_all(args: &ExportArgs) -> Result<String, ExportError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ExportError::Io { path, source }
    };
    fs::create_dir_all(&args.dir).map_err(failed(&args.dir))?;
    let dir = fs::canonicalize(&args.dir).map_err(failed(&args.dir))?;
    let files = files(args, &dir);
    for (path, _) in &files {
        if !may_write(path).map_err(failed(path))? {
            return Err(ExportError::Foreign(path.clone()));
        }
    }
    for (path, text) in &files {
        let folder = path.parent().unwrap_or(&dir);
        fs::create_dir_all(folder).map_err(failed(folder))?;
        // Grafana may be reading: it sees the old file or the new one, never half of one.
        let fresh = path.with_extension("new");
        fs::write(&fresh, text).map_err(failed(&fresh))?;
        fs::rename(&fresh, path).map_err(failed(path))?;
    }
    Ok(next_steps(args, &dir, files.len()))
}

/// What is written, and where.
fn files(args: &ExportArgs, dir: &Path) -> Vec<(PathBuf, String)> {
    let boards = args.boards_path.clone().unwrap_or_else(|| dir.join("dashboards"));
    let fill = |path: &str, text: &str| {
        let filled = text
            .replace(
                &format!("url: {DEFAULT_URL}"),
                &format!("url: {}", quoted(args.url.trim_end_matches('/'))),
            )
            .replace(
                &format!("timeInterval: {DEFAULT_INTERVAL}"),
                &format!("timeInterval: {}", args.interval),
            )
            .replace(
                &format!("path: {DEFAULT_BOARDS}"),
                &format!("path: {}", quoted(&boards.display().to_string())),
            );
        (dir.join(path), if path.ends_with(".yaml") { filled } else { text.to_owned() })
    };
    FILES.iter().map(|(path, text)| fill(path, text)).collect()
}

/// A YAML string in double quotes is a JSON string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn may_write(path: &Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(found) if found.is_file() && found.len() <= FILE_BYTES_MAX => {
            let text = String::from_utf8_lossy(&fs::read(path)?).into_owned();
            Ok(OURS.iter().any(|mark| text.contains(mark)))
        }
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

fn next_steps(args: &ExportArgs, dir: &Path, files: usize) -> String {
    let mut text = format!("wrote {files} files below {}\n", dir.display());
    let mut say = |line: &str| writeln!(text, "{line}").expect("a string takes all");
    if let Some(boards) = &args.boards_path {
        let (provisioning, dashboards) = (dir.join("provisioning"), dir.join("dashboards"));
        say("next: let Grafana see the two folders, then open the folder Davy under Dashboards:");
        say(&format!("  {} at /etc/grafana/provisioning", provisioning.display()));
        say(&format!("  {} at {}", dashboards.display(), boards.display()));
    } else if dir == Path::new("/etc/grafana") {
        say("next: restart Grafana, then open the folder Davy under Dashboards");
    } else {
        say("next: start Grafana on it, then open the folder Davy under Dashboards:");
        say(&format!("  GF_PATHS_PROVISIONING={} grafana server", dir.join("provisioning").display()));
    }
    say(&format!("Grafana will ask {} for metrics and traces", args.url));
    text
}

fn check_url(text: &str) -> Result<String, String> {
    let url = reqwest::Url::parse(text).map_err(|e| format!("not a URL: {e}"))?;
    match url.scheme() {
        "http" | "https" if url.host().is_some() && url.query().is_none() && url.fragment().is_none() => {
            Ok(text.to_owned())
        }
        _ => Err("expected http:// or https:// and a host, such as http://127.0.0.1:9600".to_owned()),
    }
}

/// Grafana's own durations: a number and one unit.
fn check_interval(text: &str) -> Result<String, String> {
    let wrong = || format!("expected a number and ms, s or m, such as {DEFAULT_INTERVAL}; got {text:?}");
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let is_number = number.len() <= 6 && number.parse::<u32>().is_ok_and(|n| n > 0);
    if is_number && ["ms", "s", "m"].contains(&unit) { Ok(text.to_owned()) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use expect_test::expect;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: ExportArgs,
    }

    fn args(dir: &Path, more: &[&str]) -> ExportArgs {
        let dir = dir.display().to_string();
        Cli::try_parse_from([&["davy", dir.as_str()], more].concat()).unwrap_or_else(|e| panic!("{e}")).args
    }

    fn refused(more: &[&str]) -> bool {
        Cli::try_parse_from([&["davy", "x"], more].concat()).is_err()
    }

    #[test]
    fn provisioning_names_where_davy_and_the_boards_are() {
        let dir = tempfile::tempdir().unwrap();
        let more = ["--url", "https://davy.example/x/", "--interval", "5s", "--boards-path", "/var/b: #1"];
        write_all(&args(dir.path(), &more)).unwrap();
        let read = |path: &str| fs::read_to_string(dir.path().join("provisioning").join(path)).unwrap();
        let sources: serde_json::Value = serde_saphyr::from_str(&read("datasources/davy.yaml")).unwrap();
        for source in sources["datasources"].as_array().unwrap() {
            assert_eq!(source["url"], "https://davy.example/x");
        }
        assert_eq!(sources["datasources"][0]["jsonData"]["timeInterval"], "5s");
        let boards: serde_json::Value = serde_saphyr::from_str(&read("dashboards/davy.yaml")).unwrap();
        assert_eq!(boards["providers"][0]["options"]["path"], "/var/b: #1");
        assert!(dir.path().join("dashboards/Davy/release.json").is_file());
    }

    #[test]
    fn it_can_be_repeated_and_never_takes_what_is_not_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let args = args(dir.path(), &[]);
        let said = write_all(&args)
            .unwrap()
            .replace(&dir.path().canonicalize().unwrap().display().to_string(), "DIR");
        expect![[r#"
            wrote 8 files below DIR
            next: start Grafana on it, then open the folder Davy under Dashboards:
              GF_PATHS_PROVISIONING=DIR/provisioning grafana server
            Grafana will ask http://127.0.0.1:9600 for metrics and traces
        "#]]
        .assert_eq(&said);
        write_all(&args).unwrap();

        let theirs = dir.path().join("dashboards/Davy/thresholds.json");
        fs::write(&theirs, "{\"uid\": \"mine\"}").unwrap();
        let first = dir.path().join("provisioning/datasources/davy.yaml");
        fs::remove_file(&first).unwrap();
        let error = write_all(&args).unwrap_err();
        assert!(matches!(&error, ExportError::Foreign(path) if path.ends_with("thresholds.json")), "{error}");
        assert_eq!(fs::read_to_string(&theirs).unwrap(), "{\"uid\": \"mine\"}");
        assert!(!first.exists(), "nothing was written");
    }

    #[test]
    fn wrong_addresses_and_intervals_are_refused() {
        for url in ["127.0.0.1:9600", "ftp://x", "http://x?y", "http://", "http://x#y"] {
            assert!(refused(&["--url", url]), "{url}");
        }
        for interval in ["15", "s", "0s", "1h30m", "-1s", "1.5s", "9999999s", "15s\n  evil: 1"] {
            assert!(refused(&["--interval", interval]), "{interval}");
        }
        assert!(!refused(&["--url", "http://[::1]:9600/davy", "--interval", "500ms"]));
    }
}
