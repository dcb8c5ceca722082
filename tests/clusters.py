"""What the tests of --engine ray share: a checkpoint that any process can load, and the processes of Ray below one."""

from __future__ import annotations

import json
import logging
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file

from stemforge import checkpoints
from tiny import tiny_network


def tiny_checkpoint(folder: Path) -> Path:
    """A table of one checkpoint of the architecture of `forge`, with a few thousand numbers at random."""
    torch.manual_seed(0)
    network = tiny_network()
    (folder / "tiny").mkdir(parents=True)
    (folder / "tiny" / "config.json").write_text(json.dumps(network.to_config()))
    save_file({name: value.half() for name, value in network.state_dict().items()}, folder / "tiny/model.safetensors")
    (folder / "own.toml").write_text(checkpoints.entry_for(folder / "tiny", default=True))
    return folder / "own.toml"


def below(process: int) -> Iterator[int]:
    """The processes that a process has started, and they in turn."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process)], capture_output=True, text=True, check=False)
    for child in map(int, found.stdout.split()):
        yield child
        yield from below(child)


def at_work(process: int) -> list[int]:
    """The workers below a process that have a song right now."""
    found = []
    for child in below(process):
        title = Path(f"/proc/{child}/cmdline")
        if title.exists() and b"SongWorker.work" in title.read_bytes():
            found.append(child)
    return found


@contextmanager
def s3_server() -> Iterator[str]:
    """An empty S3 server of this machine, which is the one that AWS_ENDPOINT_URL names meanwhile."""
    import s3fs
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        yield settings["AWS_ENDPOINT_URL"]
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
        server.stop()
