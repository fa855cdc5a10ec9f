#!/usr/bin/env python3
"""Makes container images from layers without a container engine, in the form of `docker save`.

Usage: image.py layer DIRECTORY OUT.tar            packs a directory as a layer; prints its digest
       image.py archive OUT.tar IMAGE.json...      packs images

An IMAGE.json is {"name": NAME:TAG, "layers": [PATH.tar, ...], "config": {...}} with the config of an image as Docker
has it: Entrypoint, Cmd, Env, User, WorkingDir. A layer that several images share is packed once. The list of images
comes first in the archive, so that it can be read without reading all of it. `ctr images import` takes the archive, as
do `docker load` and `skopeo copy docker-archive:OUT.tar:NAME:TAG docker://...`.
"""

import hashlib
import io
import json
import os
import stat
import sys
import tarfile

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def pack_layer(directory, out):
    """A layer with names in order: equal directories make equal layers."""
    with tarfile.open(out, "w", format=tarfile.PAX_FORMAT) as tar:
        for folder, folders, files in os.walk(directory):
            folders.sort()
            for name in sorted(folders + files):
                path = os.path.join(folder, name)
                inside = os.path.relpath(path, directory)
                status = os.lstat(path)
                if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                    add_whiteout(tar, inside)
                    continue
                if stat.S_ISSOCK(status.st_mode):
                    continue
                tar.add(path, inside, recursive=False, filter=plain)


def plain(info):
    # Java checks the times of the jars that a class archive was made from.
    info.mtime = int(info.mtime)
    info.uname = info.gname = ""
    return info


def add_whiteout(tar, inside):
    """What overlayfs marks as deleted by a device 0/0 is an empty file with a prefix in a layer."""
    folder, name = os.path.split(inside)
    tar.addfile(tarfile.TarInfo(os.path.join(folder, ".wh." + name)))


def digest(path):
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def pack_archive(out, images):
    layers, configs, manifest = {}, {}, []
    for image in images:
        for path in image["layers"]:
            if path not in layers:
                layers[path] = digest(path)
        diffs = [layers[path] for path in image["layers"]]
        config = {
            "architecture": ARCHITECTURES[os.uname().machine],
            "os": "linux",
            "config": image.get("config", {}),
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + diff for diff in diffs]},
        }
        text = json.dumps(config, sort_keys=True).encode()
        name = hashlib.sha256(text).hexdigest() + ".json"
        configs[name] = text
        tags = [image["name"]]
        manifest.append({"Config": name, "RepoTags": tags, "Layers": [f"{diff}/layer.tar" for diff in diffs]})
    with tarfile.open(out, "w") as tar:
        add_text(tar, "manifest.json", json.dumps(manifest).encode())
        for name, text in configs.items():
            add_text(tar, name, text)
        for path, diff in layers.items():
            tar.add(path, f"{diff}/layer.tar")


def add_text(tar, name, text):
    info = tarfile.TarInfo(name)
    info.size = len(text)
    tar.addfile(info, io.BytesIO(text))


def main():
    match sys.argv[1:]:
        case ["layer", directory, out]:
            pack_layer(directory, out)
            print(digest(out))
        case ["archive", out, *images] if images:
            pack_archive(out, [json.load(open(path, encoding="utf-8")) for path in images])
        case _:
            print(__doc__, file=sys.stderr)
            sys.exit(64)


if __name__ == "__main__":
    main()
