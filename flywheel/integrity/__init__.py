"""Care for a workspace: whether all in it fits together, copies of it, and the space that it takes."""
