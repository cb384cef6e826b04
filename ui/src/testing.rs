//! A way into the window for tests. Not part of the public interface.

use std::rc::Rc;

pub use crate::generated::AppWindow;
use crate::present::Presenter;
use crate::window::Window;

/// The component, so that a test can find elements by their accessible label.
pub fn component(window: &Window) -> &AppWindow {
    window.component()
}

/// Counts what happens in a window, also after it was run.
pub struct Probe(Rc<Presenter>);

/// A probe of `window`.
pub fn probe(window: &Window) -> Probe {
    Probe(window.presenter())
}

impl Probe {
    /// How many views were brought on screen.
    pub fn applied(&self) -> u64 {
        self.0.applied()
    }
}
