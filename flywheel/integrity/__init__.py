"""Keeping a workspace intact: checks, backups, and the removal of what is no longer needed."""
