//! The broker's end of a link.
