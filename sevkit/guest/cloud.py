"""Cloud images: the user's own disk, configured by cloud-init from a seed (cloud-init, DataSourceNoCloud)."""

import io
import json
from importlib import resources
from pathlib import Path

_UNIT = """[Unit]
Description=sevkit agent
[Service]
ExecStart=/bin/sh /usr/local/lib/sevkit-agent
Restart=always
[Install]
WantedBy=multi-user.target
"""


def is_path(image: str) -> bool:
    """Whether an image name is a path: it has a slash or a suffix of disk images, or a file of that name exists."""
    return "/" in image or image.endswith((".qcow2", ".img", ".raw", ".iso")) or Path(image).is_file()


def user_data() -> str:
    """The cloud-init data for the first boot: install and start the agent. JSON is valid YAML, and quoting is safe."""
    agent = resources.files("sevkit.guest").joinpath("rootfs/sevkit-agent").read_text()
    config = {
        "write_files": [
            {"path": "/usr/local/lib/sevkit-agent", "content": agent, "permissions": "0755"},
            {"path": "/etc/systemd/system/sevkit-agent.service", "content": _UNIT},
        ],
        "runcmd": [["systemctl", "daemon-reload"], ["systemctl", "enable", "--now", "sevkit-agent"]],
        "ssh_pwauth": False,
    }
    return "#cloud-config\n" + json.dumps(config, indent=1) + "\n"


def write_seed(path: Path, name: str) -> None:
    """Write the seed: an ISO 9660 file system labelled ``cidata`` with ``user-data`` and ``meta-data``."""
    import pycdlib

    files = {
        "user-data": user_data(),
        "meta-data": json.dumps({"instance-id": f"sevkit-{name}", "local-hostname": name}) + "\n",
    }
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident="cidata")
    for number, (file, text) in enumerate(files.items()):
        data = text.encode()
        iso.add_fp(io.BytesIO(data), len(data), f"/F{number}.;1", rr_name=file, joliet_path=f"/{file}")
    iso.write(str(path))
    iso.close()
