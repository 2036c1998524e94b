"""The merged reward model: slice a base, train members, merge, score."""
