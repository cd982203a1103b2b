try:
    from .cli import main
except KeyboardInterrupt:  # before there is anybody to say more
    raise SystemExit(130) from None

if __name__ == "__main__":
    raise SystemExit(main())
