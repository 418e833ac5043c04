//! Decides whether a person agrees to what was shown. Never takes silence for a yes.

use std::io::{IsTerminal, Write, stderr, stdin};

use super::{Exit, Failure, Out};

/// Asks whether to go on, unless `yes` was said before.
///
/// # Errors
/// Nobody is there to ask.
pub fn given(yes: bool, question: (&str, &str), out: &Out) -> Result<bool, Failure> {
    if yes {
        return Ok(true);
    }
    if !stdin().is_terminal() {
        let failure = Failure::new(Exit::Usage, "nobody is there to ask", "没有终端可供确认");
        return Err(failure.hint("add --yes to go on without asking", "如无需确认，请加 --yes"));
    }
    let mut line = String::new();
    write!(stderr().lock(), "{} [y/N] ", out.lang.tr(question.0, question.1))?;
    stdin().read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes" | "是"))
}
