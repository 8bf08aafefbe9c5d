//! The system's own tools, run as commands.

use std::{io, process::Command};

/// Runs one to its end.
///
/// # Errors
/// That it is not there, or what it said when it failed.
pub(super) fn run(command: &mut Command) -> io::Result<()> {
    output(command).map(drop)
}

/// As [`run`], and returns what it printed.
///
/// # Errors
/// As [`run`].
pub(super) fn output(command: &mut Command) -> io::Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| io::Error::new(error.kind(), format!("{program}: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(io::Error::other(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())))
}
