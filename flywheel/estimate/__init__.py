"""What a round would do, take and cost, said before it is begun: `flywheel round --dry-run`."""
