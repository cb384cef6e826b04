//! What the person in front of the window wants.

/// One wish of the person. Texts are trimmed and never blank.
///
/// An intent says what was asked for, not that it happened: the answer is the
/// next [`View`](crate::View).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intent {
    /// Found a community and be its owner.
    Found {
        /// What the person wants to be called.
        name: String,
        /// Name of the community.
        community: String,
    },
    /// Join a community with an invite.
    Join {
        /// What the person wants to be called.
        name: String,
        /// The invite, as it was pasted; white space at its ends is removed.
        ticket: String,
    },
    /// Give up on joining and go back to the first page.
    CancelJoin,
    /// Write a message in the channel.
    SendMessage {
        /// The message; it may have several lines.
        text: String,
    },
    /// Ask the model a question.
    Ask {
        /// The question; it may have several lines.
        question: String,
    },
    /// Stop the answer that is being fetched or written.
    StopAsk,
    /// Make an invite; it is expected in [`View::ticket`](crate::View::ticket).
    CreateInvite,
    /// The invite dialog was closed: [`View::ticket`](crate::View::ticket) can go.
    CloseInvite,
    /// The recovery phrase is on paper: this device can forget it, and
    /// [`View::recovery_words`](crate::View::recovery_words) can go.
    ForgetPhrase,
    /// The banner was read.
    DismissBanner,
    /// The window was closed; [`Window::run`](crate::Window::run) is about to return.
    Quit,
}
