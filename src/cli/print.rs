//! What commands say on standard output. A reader that has read enough (`bolide config print | head`) ends the command, quietly.

use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::process;

/// Prints a line.
pub fn line(text: impl Display) {
    write(format_args!("{text}\n"));
}

/// Prints text as it is.
pub fn text(text: impl Display) {
    write(format_args!("{text}"));
}

fn write(text: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    match out.write_fmt(text).and_then(|()| out.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => process::exit(0),
        Err(error) => {
            eprintln!("bolide: the answer cannot be written: {error}");
            process::exit(1);
        }
    }
}
