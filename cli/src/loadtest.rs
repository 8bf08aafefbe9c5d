//! `loadtest`: the load harness, mounted.

use herdbook_loadtest::cli::{self, Args};

use crate::{connection::Global, errors::Error};

/// Runs what `args` say.
///
/// # Errors
/// [`Error::Load`]; [`Error::Differs`] if the run came to a result, and it is not well.
pub(crate) async fn run(global: &Global, args: Args) -> Result<(), Error> {
    match cli::run(args, global.json).await? {
        cli::Verdict::Well => Ok(()),
        cli::Verdict::Faulty => Err(Error::Differs),
    }
}
