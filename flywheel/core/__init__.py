"""What every station needs and no station owns: files, seeds, processes, signals, text that is safe to show."""
