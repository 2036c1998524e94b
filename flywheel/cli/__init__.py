"""The command line. Nothing is imported at this level, so that an early Ctrl-C also ends without a traceback."""


def main() -> None:
    """Run the command line; raises SystemExit where a command fails or is stopped."""
    try:
        from flywheel.cli.commands import run

        run()
    except KeyboardInterrupt:
        import sys

        sys.stderr.write("stopped: interrupted by SIGINT before anything was done\n")
        raise SystemExit(130) from None
