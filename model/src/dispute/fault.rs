//! Why a step of a dispute counts for nothing.

/// A step that changes nothing. Its change stays in the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DisputeFault {
    /// Only people who read the charter take part.
    #[error("the author may not take part in disputes")]
    NotAllowed,
    /// Payer and payee are one.
    #[error("nobody disputes what they paid themselves")]
    OwnPayee,
    /// The claim is not 1 to the largest amount of a lock.
    #[error("the claim is out of range")]
    Claim,
    /// The summary is too long or holds what cannot be shown.
    #[error("the summary is too long, or not plain text")]
    Summary,
    /// This person disputed this lock before.
    #[error("this lock is disputed already, and only once")]
    AlreadyOpened,
    /// The opener had as many disputes as a person may ever have.
    #[error("the opener has had the most disputes a person may have")]
    TooManyOfOpener,
    /// The community had as many disputes as it may ever have.
    #[error("the community has had the most disputes it may have")]
    TooMany,
    /// No such dispute, or its opening is not in this step's past.
    #[error("no such dispute in the past of this step")]
    Unknown,
    /// The opener drew twice, or opened twice.
    #[error("the dispute is forfeited")]
    Forfeited,
    /// The author knew that the opener let it rest.
    #[error("the dispute was withdrawn")]
    Withdrawn,
    /// Only a party does this.
    #[error("only a party of the dispute does this")]
    NotParty,
    /// Only the opener does this.
    #[error("only the opener does this")]
    NotOpener,
    /// Only an owner who is no party does this.
    #[error("only an owner who is no party does this")]
    NotNeutralOwner,
    /// The author knew a half that stands before theirs.
    #[error("the other half of the seed is there already")]
    AlreadySeeded,
    /// The author knew the draw.
    #[error("the jurors are drawn already")]
    AlreadyDrawn,
    /// No other half is in this step's past.
    #[error("the other half of the seed is missing in the past of this step")]
    NotSeeded,
    /// Not the half that was committed to.
    #[error("this is not the half that was committed to")]
    Commitment,
    /// No draw is in this step's past.
    #[error("the draw is missing in the past of this step")]
    NotDrawn,
    /// The author is on no bench.
    #[error("the author is on no bench of this dispute")]
    NotOnBench,
    /// Others sit before the author, or the author declined.
    #[error("it is not this person's turn to judge")]
    NotSeated,
    /// The juror voted before.
    #[error("the juror voted already")]
    AlreadyVoted,
    /// The juror declined before.
    #[error("the juror declined already")]
    AlreadyDeclined,
    /// The refund is not 1 to the claim.
    #[error("a refund is at least 1 and at most the claim")]
    Refund,
    /// There is no such round, or the appeal is not in this step's past.
    #[error("no such round in the past of this step")]
    NoSuchRound,
    /// The author knew that the round was over.
    #[error("the round is over")]
    RoundOver,
    /// The round that is to be appealed is not over in this step's past.
    #[error("the first round is not over in the past of this step")]
    RoundNotOver,
    /// An appeal is known, or this party made one.
    #[error("there was an appeal already")]
    AlreadyAppealed,
    /// The community is too small for another bench.
    #[error("there is nobody else to judge an appeal")]
    NoSecondBench,
    /// A party, or all owners together, did this as often as they may.
    #[error("as many of these steps as a dispute holds")]
    TooManySteps,
}
