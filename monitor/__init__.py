"""The daemon around `detectors`: bytes from Kafka in, incidents and retraining triggers out."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("driftd")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0+unknown"
