"""The command line. Nothing is imported here, so that Ctrl-C is told in one line however early it comes."""


def main() -> None:
    """Run the command line; raises SystemExit where a command fails or is stopped."""
    try:
        from flywheel.cli.commands import run

        run()
    except KeyboardInterrupt:
        import sys

        sys.stderr.write("stopped: by Ctrl-C, before anything was done\n")
        raise SystemExit(130) from None
