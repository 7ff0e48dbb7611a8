"""Looking outside of the stack file for ports: env files beside it, images in engine or registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from meshpy.cli.image_ports import ImageUnknownError, exposed_ports
from meshpy.inject import InjectOptions
from meshpy.inject.outside import env_file_lines, env_files_of, lines_of_exposed
from meshpy.inject.stackfile import StackFile

__all__ = ["with_env_files", "with_images"]

MAX_ENV_FILE = 1 << 20


def with_env_files(text: str, file: str, folder: Path, stack: str, options: InjectOptions) -> InjectOptions:
    """The options with what env files say of services of this stack; absent files are docker's to name.

    Args:
        file: the name of the stack file, for its errors.
        folder: from which paths in it are meant.
    """
    services = StackFile.parse(text, file).value.get("services")
    if not isinstance(services, dict):
        return options
    names = {host.lower(): key for key in services for host in (f"{stack}_{key}", f"tasks.{key}", key)}
    found: dict[str, list[str]] = {}
    for caller, service in services.items():
        for path in env_files_of(service) if isinstance(service, dict) else ():
            found_at = folder / path
            if not found_at.is_file() or found_at.stat().st_size > MAX_ENV_FILE:
                continue
            for callee, line in env_file_lines(found_at.read_text(errors="replace"), path, caller, names):
                found.setdefault(callee, []).append(line)
    return _with(options, {name: "\n".join(dict.fromkeys(lines)) for name, lines in found.items()})


def with_images(
    images: Mapping[str, str], options: InjectOptions, tell: Callable[[str], None]
) -> InjectOptions:
    """The options with the ports that images expose, for services of which nothing else is known.

    Args:
        images: service -> image.
        tell: is told of every image of which nothing could be learnt, and why.
    """

    def look(image: str) -> tuple[str, tuple[str, ...], str]:
        try:
            ports, source = exposed_ports(image)
        except ImageUnknownError as error:
            return image, (), f"image {image}: {error}"
        return (
            image,
            ports,
            f"EXPOSE of image {image} ({source})" if ports else f"image {image} exposes no port",
        )

    with ThreadPoolExecutor(max_workers=8) as pool:
        told = {image: (ports, what) for image, ports, what in pool.map(look, sorted(set(images.values())))}
    found = {}
    for service, image in images.items():
        ports, what = told[image]
        if lines := lines_of_exposed(ports, what):
            found[service] = lines
        else:
            tell(f"{service}: {what}")
    return _with(options, found)


def _with(options: InjectOptions, found: Mapping[str, str]) -> InjectOptions:
    merged = {
        name: "\n".join(filter(None, (options.found.get(name), found.get(name))))
        for name in (*options.found, *found)
    }
    return replace(options, found=merged) if found else options
