//! A program that ends with the demo, however the demo ends.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::timeout;

const END_TIMEOUT: Duration = Duration::from_secs(10);

/// Neither `davy run` nor HAProxy watches its stdin, so a shell does: whoever kills the demo closes the pipe, and
/// the shell ends the program. Ends with the program's own exit code where that ends first.
const LEASH: &str = r#"exec 3<&0
"$@" & program=$!
{ cat <&3 >/dev/null; kill "$program"; } 2>/dev/null &
wait "$program""#;

/// Runs the program until the child's stdin closes.
pub(super) fn leashed(program: &Path) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", LEASH, "leash"])
        .arg(program)
        .stdin(Stdio::piped())
        // Ctrl-C at the terminal is the story's to handle, in order.
        .process_group(0)
        .kill_on_drop(true);
    command
}

/// Ends the program as a service manager would and waits for it, so that nothing of it is left behind.
pub(super) async fn end(mut child: Child) {
    drop(child.stdin.take());
    if timeout(END_TIMEOUT, child.wait()).await.is_err() {
        // Killing is also what dropping does; waiting leaves no zombie.
        let _ = child.kill().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_leash_ends_the_program_when_its_holder_is_gone() {
        let mut child = leashed(Path::new("sleep")).arg("600").stderr(Stdio::null()).spawn().unwrap();
        assert!(child.try_wait().unwrap().is_none());
        drop(child.stdin.take());
        let status = timeout(Duration::from_secs(20), child.wait()).await.unwrap().unwrap();
        // The shell reports a program that a signal ended as 128 + 15.
        assert_eq!(status.code(), Some(143));
    }

    #[tokio::test]
    async fn the_leash_passes_on_how_the_program_ended() {
        let mut child = leashed(Path::new("sh")).args(["-c", "exit 7"]).spawn().unwrap();
        // Waiting would close the pipe.
        let _held = child.stdin.take();
        let status = timeout(Duration::from_secs(20), child.wait()).await.unwrap().unwrap();
        assert_eq!(status.code(), Some(7));
    }
}
