//! The faces of a node: terminal, JSON lines, window.

pub(crate) mod json;
pub(crate) mod present;
pub(crate) mod shell;
pub(crate) mod terminal;
pub(crate) mod window;
