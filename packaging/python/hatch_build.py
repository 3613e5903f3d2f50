"""Names the wheel after the oldest glibc that its files run on."""

import os
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PlatformTag(BuildHookInterface):  # type: ignore[type-arg]
    """Any Python 3, but one platform: there is a program inside."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Set the tag, which packaging/python/build.sh has read off the files."""
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{os.environ['VQ_PLATFORM']}"
