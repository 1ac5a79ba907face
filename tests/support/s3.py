"""A real S3 server on loopback, and the environment by which delta-rs and Arrow find it."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest

from tests.support.finished import REPOSITORY

SERVER = REPOSITORY / "build/venv-s3/bin/moto_server"
BUCKET = "lake"


@contextmanager
def s3_server() -> Iterator[dict[str, str]]:
    """A server with an empty bucket ``lake``; yields the variables to add to the environment of its clients."""
    if not SERVER.is_file():
        pytest.fail("build/venv-s3 is missing: run `make s3-env`")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [str(SERVER), "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _answers(f"{address}/{BUCKET}", until=time.monotonic() + 60)
        yield {
            "AWS_ENDPOINT_URL": address,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
    finally:
        server.terminate()
        server.wait()


def _answers(bucket: str, *, until: float) -> None:
    """Waits for the server and makes the bucket."""
    while True:
        try:
            with urlopen(Request(bucket, method="PUT"), timeout=10):  # noqa: S310 - loopback
                return
        except HTTPError:
            raise
        except (URLError, ConnectionError):
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


@contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Adds variables to the environment of this process and takes them away again."""
    former = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in former.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
