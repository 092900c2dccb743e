//! Which splitter the story is played with, and why.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;
use serde::Serialize;

use crate::demo::DemoError;

const PROGRAM: &str = "haproxy";
/// Where daemons are installed; not in everyone's `PATH`.
const DAEMONS: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];
/// The first that takes new servers by its runtime API without being started for experiments.
const VERSION_MIN: (u32, u32) = (2, 6);

/// `--splitter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Asked {
    /// HAProxy where it is installed, else the demo's own
    #[default]
    Auto,
    /// HAProxy or nothing
    Haproxy,
    /// The demo's own
    Builtin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::demo) enum Kind {
    #[default]
    Builtin,
    Haproxy,
}

/// What is told of the splitter.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub(in crate::demo) struct About {
    pub(in crate::demo) kind: Kind,
    /// Of HAProxy.
    pub(in crate::demo) version: Option<String>,
    pub(in crate::demo) why: String,
}

impl About {
    pub(in crate::demo) fn name(&self) -> String {
        match (self.kind, &self.version) {
            (Kind::Builtin, _) => "the demo's own splitter".to_owned(),
            (Kind::Haproxy, None) => "HAProxy".to_owned(),
            (Kind::Haproxy, Some(version)) => format!("HAProxy {version}"),
        }
    }
}

/// An HAProxy that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::demo) struct Found {
    pub(in crate::demo) program: PathBuf,
    version: String,
}

/// Looks for HAProxy unless it is not wanted.
pub(in crate::demo) fn choose(asked: Asked) -> Result<(About, Option<Found>), DemoError> {
    let listed = std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let folders = listed.unwrap_or_default().into_iter().chain(DAEMONS.map(PathBuf::from));
    decide(asked, folders, say_version)
}

fn decide(
    asked: Asked,
    folders: impl IntoIterator<Item = PathBuf>,
    say_version: impl Fn(&Path) -> Result<String, String>,
) -> Result<(About, Option<Found>), DemoError> {
    let found = match asked {
        Asked::Builtin => Err("it was asked for".to_owned()),
        Asked::Auto | Asked::Haproxy => find(folders, say_version),
    };
    match (asked, found) {
        (_, Ok(found)) => {
            let why = match asked {
                Asked::Haproxy => "it was asked for",
                Asked::Auto | Asked::Builtin => "it is installed",
            };
            let version = Some(found.version.clone());
            Ok((About { kind: Kind::Haproxy, version, why: why.to_owned() }, Some(found)))
        }
        (Asked::Haproxy, Err(why)) => Err(DemoError::NoHaproxy(why)),
        (Asked::Auto | Asked::Builtin, Err(why)) => {
            Ok((About { kind: Kind::Builtin, version: None, why }, None))
        }
    }
}

fn find(
    folders: impl IntoIterator<Item = PathBuf>,
    say_version: impl Fn(&Path) -> Result<String, String>,
) -> Result<Found, String> {
    let program = folders
        .into_iter()
        .map(|folder| folder.join(PROGRAM))
        .find(|program| program.is_file())
        .ok_or_else(|| format!("no program {PROGRAM} is in PATH, {}", DAEMONS.join(" or ")))?;
    let said = say_version(&program)?;
    let version =
        version(&said).ok_or_else(|| format!("{PROGRAM} -v does not tell its version: {:?}", said.trim()))?;
    if number(&version).is_none_or(|n| n < VERSION_MIN) {
        let (major, minor) = VERSION_MIN;
        return Err(format!("HAProxy {version} is installed, expected {major}.{minor} or later"));
    }
    Ok(Found { program, version })
}

fn say_version(program: &Path) -> Result<String, String> {
    let output =
        Command::new(program).arg("-v").output().map_err(|error| format!("{PROGRAM} -v: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/`
fn version(said: &str) -> Option<String> {
    let rest = said.split_once("version ")?.1;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    Some(rest[..end].to_owned()).filter(|version| number(version).is_some())
}

/// Major and minor.
fn number(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is chosen where a `haproxy` is installed that says this, or none.
    fn chosen(asked: Asked, said: Option<&str>) -> Result<(About, Option<Found>), DemoError> {
        let folder = tempfile::tempdir().unwrap();
        if said.is_some() {
            std::fs::write(folder.path().join(PROGRAM), "").unwrap();
        }
        decide(asked, [folder.path().to_owned()], |_| Ok(said.unwrap_or_default().to_owned()))
    }

    #[test]
    fn versions_are_read_as_haproxy_tells_them() {
        let debian = "HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/";
        assert_eq!(version(debian).as_deref(), Some("2.6.12"));
        assert_eq!(version("HA-Proxy version 1.8.4-1deb90d 2018/02/08").as_deref(), Some("1.8.4"));
        assert_eq!(version("HAProxy version 3.3-dev1").as_deref(), Some("3.3"));
        assert_eq!(version("usage"), None);
        assert!(number("2.10.1") > Some(VERSION_MIN) && number("1.9.0") < Some(VERSION_MIN));
    }

    #[test]
    fn haproxy_is_taken_where_it_is_unless_the_own_splitter_is_asked_for() {
        let installed = Some("HAProxy version 9.1.2 2030/01/01");
        let (about, found) = chosen(Asked::Auto, installed).unwrap();
        assert_eq!((about.kind, about.name().as_str()), (Kind::Haproxy, "HAProxy 9.1.2"));
        assert!(found.unwrap().program.ends_with(PROGRAM));
        let (about, found) = chosen(Asked::Builtin, installed).unwrap();
        assert_eq!((about.kind, found, about.why.as_str()), (Kind::Builtin, None, "it was asked for"));
    }

    #[test]
    fn without_one_or_with_one_too_old_the_own_splitter_says_why() {
        for (said, why) in [(None, "no program haproxy"), (Some("HA-Proxy version 1.8.4-1 2018"), "1.8.4")] {
            let (about, found) = chosen(Asked::Auto, said).unwrap();
            assert_eq!((about.kind, found), (Kind::Builtin, None));
            assert!(about.why.contains(why), "{}", about.why);
            let error = chosen(Asked::Haproxy, said).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("--splitter builtin"), "{error}");
        }
    }
}
