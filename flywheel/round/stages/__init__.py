"""The stages of a round: each is a function of the round's context that resumes after its last committed chunk."""
