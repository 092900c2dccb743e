//! What HAProxy's runtime API answers, read. Pure: the socket is next door.

use super::{ArmCounts, Order, Wanted};

/// What is asked in a look. The mark first: Davy leaves it after the weights, so that whatever is counted beside the
/// mark of a rollback is all that the canary got.
pub(super) fn question(backend: &str) -> String {
    // `4`: servers alone.
    format!("get var proc.davy_{backend}; show stat {backend} 4 -1")
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) name: String,
    pub(super) weight: u32,
    pub(super) counts: ArmCounts,
}

/// What Davy leaves with a change: how many there were, and which it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) count: u64,
    pub(super) key: String,
}

/// The answer to [`question`]; `None` for a mark while Davy has changed nothing.
pub(super) fn read(answer: &str) -> Result<(Vec<Server>, Option<Mark>), String> {
    let mut lines = answer.lines();
    let head = lines
        .find_map(|line| line.strip_prefix("# "))
        .ok_or_else(|| format!("HAProxy's answer has no table, got {:?}", answer.trim()))?;
    let columns: Vec<&str> = head.split(',').collect();
    let place = |name: &str| {
        let at = columns.iter().position(|column| *column == name);
        at.ok_or_else(|| format!("HAProxy's table has no column {name:?}"))
    };
    let (name, weight, requests) = (place("svname")?, place("weight")?, place("stot")?);
    let errors = [place("hrsp_5xx")?, place("econ")?, place("eresp")?];
    let mut servers = Vec::new();
    for line in lines.take_while(|line| !line.is_empty()) {
        let cells: Vec<&str> = line.split(',').collect();
        let number = |at: usize| -> Result<u64, String> {
            let cell = cells.get(at).copied().unwrap_or_default();
            if cell.is_empty() {
                return Ok(0);
            }
            cell.parse().map_err(|_| format!("HAProxy's table: expected a number, got {cell:?}"))
        };
        let errors = errors.iter().map(|at| number(*at)).sum::<Result<u64, String>>()?;
        servers.push(Server {
            name: cells.get(name).copied().unwrap_or_default().to_owned(),
            weight: u32::try_from(number(weight)?).unwrap_or(u32::MAX),
            counts: ArmCounts { requests: number(requests)?, errors },
        });
    }
    Ok((servers, answer.lines().find_map(mark)))
}

/// `proc.davy_checkout: type=str value=<2~set_share-50/v2/checkout@17/256-28.1>`
fn mark(line: &str) -> Option<Mark> {
    let kept = line.split_once("type=str value=<")?.1.strip_suffix('>')?;
    let (count, key) = kept.split_once('~')?;
    Some(Mark { count: count.parse().ok()?, key: key.to_owned() })
}

/// What a mark says was wanted: `rollback/VERSION/UID/GENERATION`, `set_share-PERCENT/…` or `promote/…`.
pub(super) fn order(key: &str, baseline: &str) -> Option<Order> {
    let mut parts = key.split('/');
    let (what, canary) = (parts.next()?, parts.next()?);
    let wanted = match what {
        "rollback" => Wanted::Rollback,
        "promote" => Wanted::Share(100),
        _ => Wanted::Share(what.strip_prefix("set_share-")?.parse().ok()?),
    };
    Some(Order { wanted, canary: canary.to_owned(), baseline: baseline.to_owned(), call: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "# pxname,svname,qcur,stot,econ,eresp,weight,hrsp_5xx,-,";

    #[test]
    fn servers_and_the_mark_are_read_by_the_names_of_the_columns() {
        let answer = format!(
            "proc.davy_checkout: type=str value=<1~set_share-10/v2/checkout@17/100-0.0>\n\n\
             {HEAD}\ncheckout,v1-0,0,1200,0,0,256,2,,\ncheckout,v2-0,,70,1,2,28,4,,\n\n"
        );
        let (servers, mark) = read(&answer).unwrap();
        let counts = |requests, errors| ArmCounts { requests, errors };
        let expected = [
            Server { name: "v1-0".into(), weight: 256, counts: counts(1_200, 2) },
            Server { name: "v2-0".into(), weight: 28, counts: counts(70, 7) },
        ];
        assert_eq!(servers, expected);
        assert_eq!(mark, Some(Mark { count: 1, key: "set_share-10/v2/checkout@17/100-0.0".into() }));
    }

    #[test]
    fn before_the_first_change_there_is_no_mark() {
        let answer = format!("proc.davy_checkout: undefined\n\n{HEAD}\ncheckout,v1-0,0,1,0,0,100,0,,\n\n");
        assert_eq!(read(&answer).unwrap().1, None);
    }

    #[test]
    fn what_is_no_table_is_an_error_that_shows_it() {
        assert!(read("Can't find backend.\n").unwrap_err().contains("Can't find backend"));
        assert!(read("# pxname,svname\n").unwrap_err().contains("weight"));
        assert!(read(&format!("{HEAD}\ncheckout,v1-0,0,many,0,0,1,0,,\n")).unwrap_err().contains("many"));
    }

    #[test]
    fn a_mark_says_what_was_wanted_of_which_version() {
        let of = |key: &str| order(key, "v1").map(|o| (o.wanted, o.canary));
        assert_eq!(of("rollback/v2/checkout@17/4"), Some((Wanted::Rollback, "v2".into())));
        assert_eq!(of("set_share-25/v2/checkout@17/4"), Some((Wanted::Share(25), "v2".into())));
        assert_eq!(of("promote/v2/checkout@17/4"), Some((Wanted::Share(100), "v2".into())));
        for other in ["", "rollback", "set_share-x/v2/u/1", "paused/v2/u/1"] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
