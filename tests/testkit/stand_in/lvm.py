#!/usr/bin/python3 -IS
"""LVM's tools for nights without device-mapper: volumes are image files behind loop devices, a snapshot is a copy.

It is called by the name of the tool that it stands for. FAKELVM names a directory with a VOLUME.json for each volume or
snapshot. A file `broken-VOLUME` there makes lvcreate fail for that volume with the file's text; a file `no-lvs` makes lvs
fail. While there is a file `slow-VOLUME`, lvcreate waits for its end, and there is `waiting-VOLUME`. With a file
`full-VOLUME` its snapshot is invalid. With a file `unknown-VOLUME` lvs fails with its text when asked for the snapshot alone; the
file that `frees-VOLUME` names is removed with the snapshot. Volumes are added and removed by the tests (add NAME IMAGE, del NAME).
"""

import glob
import json
import os
import sys
import time

STATE = os.environ["FAKELVM"]
GROUP = "vg0"
# Another name, when a test has it so.
if os.path.exists(f"{STATE}/group"):
    with open(f"{STATE}/group") as file:
        GROUP = file.read()


def run(command, check=True):
    # Imported here: most calls are of lvs, which needs it not, and begins in half of the time without it.
    import subprocess

    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=check)


def volumes():
    found = []
    for path in sorted(glob.glob(f"{STATE}/*.json")):
        try:
            with open(path) as file:
                found.append(json.load(file))
        except FileNotFoundError:  # removed meanwhile
            pass
    return found


def save(volume):
    with open(f"{STATE}/.new", "w") as file:
        json.dump(volume, file)
    os.rename(f"{STATE}/.new", f"{STATE}/{volume['lv_name']}.json")


def attach(image):
    return run(["losetup", "-f", "--show", image]).stdout.strip()


def remove(volume):
    # Once: an lvremove that outlives a volbak that was killed may meet another, and the device's name may be a stranger's by then.
    try:
        os.unlink(f"{STATE}/{volume['lv_name']}.json")
    except FileNotFoundError:
        return
    run(["losetup", "-d", volume["device"]], check=False)
    if volume.get("origin"):
        os.unlink(volume["image"])
        frees = f"{STATE}/frees-{volume['origin']}"
        if os.path.exists(frees):
            os.unlink(open(frees).read())
            os.unlink(frees)


def row(volume):
    origin = volume.get("origin", "")
    has_snapshot = any(other.get("origin") == volume["lv_name"] for other in volumes())
    is_full = bool(origin) and os.path.exists(f"{STATE}/full-{origin}")
    device = os.stat(volume["device"]).st_rdev
    return {
        "lv_name": volume["lv_name"],
        "vg_name": GROUP,
        "lv_uuid": volume["lv_uuid"],
        "vg_uuid": "uuid-of-vg0",
        "lv_size": str(os.path.getsize(volume["image"])),
        "lv_attr": "swi-I-s---" if is_full else "swi-a-s---" if origin else "owi-a-s---" if has_snapshot else volume.get("attr", "-wi-a-----"),
        "lv_layout": "linear",
        "lv_role": "public,snapshot,thicksnapshot" if origin else "public",
        "lv_tags": ",".join(volume["tags"]),
        "lv_permissions": "writeable",
        "pool_lv": "",
        "origin": origin,
        "lv_merging": "",
        "lv_health_status": "",
        "lv_snapshot_invalid": "snapshot invalid" if is_full else "",
        "data_percent": "100.00" if is_full else "1.00" if origin else "",
        "metadata_percent": "",
        "lv_device_open": "",
        "lv_kernel_major": "-1" if volume.get("attr") else str(os.major(device)),
        "lv_kernel_minor": "-1" if volume.get("attr") else str(os.minor(device)),
        "lv_path": volume["device"],
        "lv_dm_path": volume["device"],
    }


def selected(expression):
    def is_one(volume, condition):
        key, value = condition.strip().split("=", 1)
        return value in volume["tags"] if key == "lv_tags" else volume.get(key) == value

    def matches(volume):
        return any(all(is_one(volume, one) for one in each.split("&&")) for each in expression.split("||"))

    return [volume for volume in volumes() if matches(volume)]


def main():
    tool, arguments = os.path.basename(sys.argv[0]), sys.argv[1:]
    select = arguments[arguments.index("-S") + 1] if "-S" in arguments else None
    if "--version" in arguments:
        print("LVM version: 2.03.16")
    elif tool == "lvs":
        if os.path.exists(f"{STATE}/no-lvs"):
            sys.exit("lvs: the metadata cannot be read")
        asked = selected(select) if select else volumes()
        unknown = [f"{STATE}/unknown-{volume['origin']}" for volume in asked if select and volume.get("origin")]
        for path in filter(os.path.exists, unknown):
            sys.exit(open(path).read())
        rows = [row(volume) for volume in asked]
        print(json.dumps({"report": [{"lv": rows}]}))
    elif tool == "vgs":
        facts = {"vg_name": GROUP, "vg_uuid": "uuid-of-vg0", "vg_extent_size": "4194304", "vg_free_count": "100000"}
        print(json.dumps({"report": [{"vg": [facts | {"vg_free": "419430400000", "vg_size": "419430400000"}]}]}))
    elif tool == "lvcreate":
        name, origin = arguments[arguments.index("-n") + 1], arguments[-1].split("/")[1]
        if os.path.exists(f"{STATE}/broken-{origin}"):
            sys.exit(open(f"{STATE}/broken-{origin}").read())
        ends = time.monotonic() + 120
        while os.path.exists(f"{STATE}/slow-{origin}") and time.monotonic() < ends:
            open(f"{STATE}/waiting-{origin}", "w").close()
            time.sleep(0.02)
        tags = [arguments[at + 1] for at, argument in enumerate(arguments) if argument == "--addtag"]
        image = f"{STATE}/{name}.snapshot"
        with open(f"{STATE}/{origin}.json") as file:
            run(["cp", "--sparse=always", json.load(file)["image"], image])
        uuid = f"uuid-of-{name}"
        save({"lv_name": name, "image": image, "device": attach(image), "tags": tags, "lv_uuid": uuid, "origin": origin})
    elif tool == "lvremove":
        names = [arguments[-1].split("/")[-1]]
        for volume in selected(select) if select else [one for one in volumes() if one["lv_name"] in names]:
            assert volume.get("origin"), "a volume is never removed"
            remove(volume)
    elif tool == "add":
        name, image, *attr = arguments
        volume = {"lv_name": name, "image": image, "device": attach(image), "tags": [], "lv_uuid": f"uuid-of-{name}"}
        save(volume | ({"attr": attr[0]} if attr else {}))
    elif tool == "del":
        for volume in volumes():
            if volume["lv_name"] == arguments[0]:
                remove(volume)


main()
