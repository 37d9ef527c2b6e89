#!/usr/bin/env python3
"""Makes archives as other programs make them, with those programs or by hand. Usage: make.py DIRECTORY"""
import base64, gzip, io, os, struct, subprocess, sys, tarfile, zlib

OUT = os.path.abspath(sys.argv[1])
os.makedirs(OUT, exist_ok=True)
SRC = os.path.join(OUT, "src")


def sh(script):
    subprocess.run(["bash", "-ec", script], check=True, cwd=SRC, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def save(name, tar, compress=True):
    with open(os.path.join(OUT, name + ".tar.gz"), "wb") as f:
        f.write(gzip.compress(tar, 1, mtime=0) if compress else tar)


def tool(name, command, paths="tree"):
    """A tar stream on standard output of a command, run beside the tree."""
    done = subprocess.run(["bash", "-c", command], cwd=SRC, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    if done.stdout:
        save(name, done.stdout)
    return done.stdout


# Headers by hand -------------------------------------------------------------------------------------------------
def octal(number, width):
    return b"%0*o\0" % (width - 1, number)


def base256(number, width):
    return (number & ((1 << (8 * width)) - 1) | (1 << (8 * width - 1))).to_bytes(width, "big")


def header(name=b"f", mode=0o644, uid=0, gid=0, size=0, mtime=1000000000, flag=b"0", link=b"", magic=b"ustar\x0000",
           prefix=b"", major=b"\0" * 8, minor=b"\0" * 8, tail=None, signed=False, sum_form="%06o\0 "):
    field = lambda value, width: value if isinstance(value, bytes) else octal(value, width)
    block = bytearray(512)
    def put(at, value, width):
        block[at:at + min(len(value), width)] = value[:width]
    put(0, name, 100); put(100, field(mode, 8), 8); put(108, field(uid, 8), 8); put(116, field(gid, 8), 8)
    put(124, field(size, 12), 12); put(136, field(mtime, 12), 12); put(156, flag, 1); put(157, link, 100)
    put(257, magic, 8); put(265, b"user", 32); put(297, b"group", 32)
    if magic[:5] != b"ustar":
        block[257:512] = bytes(255)
        put(257, magic, 8)
    put(329, major, 8); put(337, minor, 8); put(345, prefix, 155)
    if tail:
        for at, value in tail:
            block[at:at + len(value)] = value
    block[148:156] = b" " * 8
    total = sum(b - 256 if signed and b > 127 else b for b in block)
    block[148:156] = (sum_form % (total & 0o777777)).encode().ljust(8, b"\0")[:8]
    return bytes(block)


def padded(data):
    return data + bytes(-len(data) % 512)


def entry(name, data=b"", **more):
    more.setdefault("size", len(data))
    return header(name, **more) + padded(data)


def record(key, value):
    key = key.encode() if isinstance(key, str) else key
    value = value.encode() if isinstance(value, str) else value
    body = b" " + key + b"=" + value + b"\n"
    length = len(body)
    while len(str(length)) + len(body) != length:
        length = len(str(length)) + len(body)
    return str(length).encode() + body


def pax(*records, flag=b"x", name=b"PaxHeaders/x"):
    data = b"".join(record(k, v) for k, v in records)
    return entry(name, data, flag=flag)


END = bytes(1024)
AFTER = entry(b"after", b"after\n")


def hand(name, *parts, end=END, after=True):
    save(name, b"".join(parts) + (AFTER if after else b"") + end)


def tree():
    subprocess.run(["rm", "-rf", SRC], check=True)
    os.makedirs(SRC)
    sh(r"""
    mkdir -p tree/dir/sub tree/empty; cd tree
    echo hello >file; : >zero; seq 20000 >big; ln file hard; ln -s file soft; ln -s /no/where dangling; mkfifo fifo
    mknod null c 1 3; mknod block b 7 0; echo s >suid; chmod 4755 suid; chmod 1777 empty; chmod 2750 dir
    long=$(printf 'n%.0s' $(seq 120)); echo long >$long; ln $long dir/hardlong; ln -s $long$long dir/softlong
    deep=$(printf 'd%.0s' $(seq 60)); mkdir -p dir/$deep/$deep/$deep; echo deep >dir/$deep/$deep/$deep/file
    echo u >$'\303\244-utf8'; echo l >$'\344-latin1'; echo nl >$'new\nline'; echo sp >'with space '
    echo old >old; touch -d '1969-12-31 23:59:58.5 UTC' old; echo new >new; touch -d '2300-01-01 00:00:00.123456789 UTC' new
    chown 1234:5678 file; chown 3000000:3000001 zero; chown -h 77:88 soft
    setfattr -n user.note -v 'a=b' file; setfattr -n user.bin -v 0x00ff0a3d file; setfattr -n trusted.t -v x dir
    setfacl -m u:1234:rw,g:5678:r zero; setfacl -d -m u:1234:rwx dir; setcap cap_net_raw+ep suid
    truncate -s 300k holes; for at in 0 30 77 150 290; do printf 'data%d' $at | dd of=holes bs=1k seek=$at conv=notrunc status=none; done
    truncate -s 1M many; for at in $(seq 0 60); do printf x | dd of=many bs=16k seek=$at conv=notrunc status=none; done
    truncate -s 100k onlyhole; printf end | dd of=endhole bs=64k seek=1 status=none; truncate -s 200k endhole
    find . -name sub -exec touch -d '2001-02-03 04:05:06.7 UTC' {} +
    """)


def with_names():
    """ACLs as tar and bsdtar write them of users that have names, and of one whose name is of the machine that wrote it alone."""
    sh("mkdir named; echo x >named/f; mkdir named/d; cp named/f named/other; setfacl -m u:nobody:rw,u:daemon:-,g:nogroup:r,g:daemon:rwx,u:4321:x named/f;"
       "setfacl -m u:nobody:rwx named/d; setfacl -d -m u:daemon:r,g:nogroup:- named/d")
    tool("bsd-pax-attributes-names", "bsdtar --format=pax --acls -cf - named/f named/other")
    tool("bsd-pax-attributes-numeric", "bsdtar --numeric-owner --format=pax --acls -cf - named/f named/other")
    # A name as long that no host has, as in an archive from another one.
    written = tool("gnu-posix-attributes-names", "tar --format=posix --acls -cf - named")
    save("gnu-posix-attributes-unknown", written.replace(b"user:daemon:", b"user:volbk0:"))


def with_tools():
    plain = "--exclude=tree/fifo"
    for form in ["v7", "oldgnu", "gnu", "ustar", "posix"]:
        tool(f"gnu-{form}", f"tar --format={form} -cf - tree")
        tool(f"gnu-{form}-sparse", f"tar --format={form} -S -cf - tree")
        tool(f"gnu-{form}-numeric", f"tar --format={form} --numeric-owner -C tree -cf - .")
    for version in ["0.0", "0.1", "1.0"]:
        tool(f"gnu-sparse-{version}", f"tar --format=posix -S --sparse-version={version} -cf - tree")
    tool("gnu-posix-attributes", "tar --format=posix --xattrs --xattrs-include='*' --acls --selinux -cf - tree")
    tool("gnu-posix-attributes-numeric", "tar --numeric-owner --format=posix --xattrs --xattrs-include='*' --acls -cf - tree")
    tool("gnu-options", "tar --format=posix --pax-option='comment=x,globexthdr.name=g,exthdr.name=%d/%f' -cf - tree")
    tool("gnu-global-mtime", "tar --format=posix --pax-option='mtime=1000000001.5' -cf - tree")
    for form in ["gnu", "posix", "oldgnu"]:
        tool(f"gnu-{form}-incremental", f"rm -f snar; tar --format={form} -g snar -cf - tree")
        tool(f"gnu-{form}-label", f"tar --format={form} -V label -cf - tree")
    tool("gnu-incremental-second", "rm -f snar; tar -g snar -cf /dev/null tree; touch tree/newer; mv tree/zero tree/moved; tar -g snar -cf - tree; mv tree/moved tree/zero; rm tree/newer")
    for form in ["gnu", "posix"]:
        sh(f"rm -f vol*; tar --format={form} -M -L 40 -cf vol1 -f vol2 -f vol3 -f vol4 -f vol5 -f vol6 -f vol7 -f vol8 -f vol9 tree/big tree/file || true")
        volumes = [open(os.path.join(SRC, f"vol{n}"), "rb").read() for n in range(1, 10) if os.path.exists(os.path.join(SRC, f"vol{n}"))]
        if len(volumes) > 2:
            save(f"gnu-{form}-volume-first", volumes[0]); save(f"gnu-{form}-volume-second", volumes[1])
            save(f"gnu-{form}-volume-last", volumes[-1]); save(f"gnu-{form}-volumes-cat", b"".join(volumes))
    tool("gnu-appended", "tar -cf a tree/file; tar -rf a tree/big; echo changed >tree/file; tar -rf a tree/file; echo hello >tree/file; cat a")
    tool("gnu-concatenated-A", "tar -cf a tree/file tree/dir; tar -cf b tree/big tree/soft; tar -Af a b; cat a")
    tool("gnu-concatenated-cat", "tar -cf a tree/file tree/dir; tar -cf b tree/big tree/soft; cat a b")
    tool("gnu-absolute", "tar -P -cf - $PWD/tree/file")
    tool("gnu-dot-slash", "cd tree; tar -cf - ./file ./dir .")
    tool("gnu-order", "tar -cf - tree/dir/sub tree/dir tree/file tree")
    tool("gnu-record-1", "tar -b 1 -cf - tree/file tree/dir")
    for form in ["ustar", "pax", "gnutar", "v7", "restricted", "oldtar"]:
        tool(f"bsd-{form}", f"bsdtar --format={form} -cf - tree")
    tool("bsd-pax-attributes", "bsdtar --format=pax --acls --xattrs --fflags -cf - tree")
    with_names()
    tool("bsd-pax-sparse", "bsdtar --format=pax --read-sparse -cf - tree")
    tool("bsd-pax-binary", "bsdtar --format=pax --options hdrcharset=BINARY -cf - tree")
    tool("bsd-pax-noschily", "bsdtar --format=pax --options xattrheader=LIBARCHIVE --xattrs -cf - tree/file tree/dir")
    tool("busybox", "busybox tar -cf - tree")
    tool("git", "rm -rf repo; git init -q repo; cd repo; cp -a ../tree/dir ../tree/file ../tree/soft .; chmod 755 dir; git add -A; git -c user.name=x -c user.email=x@x commit -qm x; git archive --prefix=p/ HEAD")
    tool("cpio-ustar", "find tree -not -name '*nnnn*' | cpio -o -H ustar 2>/dev/null")
    tool("cpio-tar", "find tree -not -name '*nnnn*' | cpio -o -H tar 2>/dev/null")
    os.environ["PYTHONWARNINGS"] = "ignore"
    for name, form in [("ustar", tarfile.USTAR_FORMAT), ("gnu", tarfile.GNU_FORMAT), ("pax", tarfile.PAX_FORMAT)]:
        for encoding in ["utf-8"]:
            out = io.BytesIO()
            with tarfile.open(fileobj=out, mode="w", format=form, encoding=encoding, errors="surrogateescape") as t:
                for top, dirs, files in os.walk(os.path.join(SRC, "tree")):
                    dirs.sort()
                    for item in [""] + sorted(files):
                        path = os.path.join(top, item)
                        try:
                            t.add(path, arcname=os.path.relpath(path, SRC), recursive=False)
                        except (ValueError, UnicodeError):
                            pass
            save(f"python-{name}", out.getvalue())


def by_hand():
    v7 = dict(magic=b"")
    hand("v7-slash-dir", header(b"d/", flag=b"\0", mode=0o755, **v7), entry(b"d/f", b"x", flag=b"\0", **v7))
    hand("v7-slash-dir-zero", header(b"d/", flag=b"0", mode=0o755, **v7), entry(b"d/f", b"x", flag=b"0", **v7))
    hand("v7-slash-dir-size", header(b"d/", flag=b"\0", mode=0o755, size=512, **v7), entry(b"d/f", b"x", flag=b"\0", **v7), bytes(0))
    hand("v7-slash-dir-with-data", entry(b"d/", b"data", flag=b"\0", mode=0o755, **v7))
    hand("ustar-slash-dir-with-data", entry(b"d/", b"data", flag=b"0", mode=0o755))
    hand("ustar-slash-contiguous", header(b"d/", flag=b"7", mode=0o755), entry(b"d/f", b"x"))
    hand("pax-slash-dir", pax(("path", "longdir/")), header(b"longdir", flag=b"0", mode=0o755))
    hand("pax-slash-in-header-only", pax(("path", "name")), header(b"name/", flag=b"\0", mode=0o755))
    hand("long-slash-dir", entry(b"././@LongLink", b"e" * 120 + b"/\0", flag=b"L", magic=b"ustar  \0"), header(b"e" * 100, flag=b"\0", mode=0o755, magic=b"ustar  \0"))
    hand("dir-size", header(b"d", flag=b"5", size=1000, mode=0o755), entry(b"d/f", b"x"))
    hand("dir-data", entry(b"d/", b"x" * 700, flag=b"5", mode=0o755), entry(b"d/f", b"x"))
    hand("fifo-size", header(b"p", flag=b"6", size=1024), entry(b"g", b"x"))
    hand("symlink-size", header(b"s", flag=b"2", link=b"t", size=1024), entry(b"g", b"x"))
    hand("symlink-data", entry(b"s", b"data" * 200, flag=b"2", link=b"t"), entry(b"g", b"x"))
    hand("symlink-slash", header(b"s/", flag=b"2", link=b"t/"), entry(b"g", b"x"))
    hand("symlink-empty", header(b"s", flag=b"2", link=b""))
    hand("hard-size-no-data", entry(b"f", b"data\n"), header(b"h", flag=b"1", link=b"f", size=5), entry(b"g", b"x"))
    hand("hard-data-ustar", entry(b"f", b"data\n"), entry(b"h", b"data\n", flag=b"1", link=b"f"), entry(b"g", b"x"))
    hand("hard-data-pax", pax(("mtime", "1.5")), entry(b"f", b"data\n"), pax(("mtime", "1.5")), entry(b"h", b"data\n", flag=b"1", link=b"f"), entry(b"g", b"x"))
    hand("hard-data-long", entry(b"f", b"d" * 3000), entry(b"h", b"d" * 3000, flag=b"1", link=b"f"), entry(b"g", b"x"))
    hand("hard-data-other", entry(b"f", b"data\n"), entry(b"h", b"other data\n", flag=b"1", link=b"f"), entry(b"g", b"x"))
    hand("hard-data-v7", entry(b"f", b"data\n", flag=b"\0", **v7), entry(b"h", b"data\n", flag=b"1", link=b"f", **v7), entry(b"g", b"x", flag=b"\0", **v7))
    hand("hard-slash", entry(b"f", b"data\n"), header(b"h", flag=b"1", link=b"./f/"), entry(b"g", b"x"))
    hand("hard-before", header(b"h", flag=b"1", link=b"f"), entry(b"f", b"data\n"))
    hand("hard-absolute", entry(b"f", b"data\n"), header(b"h", flag=b"1", link=b"/f"))
    hand("hard-dotdot", entry(b"f", b"data\n"), header(b"h", flag=b"1", link=b"x/../f"))
    hand("hard-attributes", entry(b"f", b"data\n", mode=0o600), header(b"h", flag=b"1", link=b"f", mode=0o755, uid=5, mtime=5))
    hand("hard-to-symlink", header(b"s", flag=b"2", link=b"t"), header(b"h", flag=b"1", link=b"s"))
    for name, value in [("fraction", "1.1234567891234"), ("negative", "-1.5"), ("negative-small", "-0.25"), ("minus-zero", "-0"), ("exponent", "1e9"), ("spaces", " 12"),
                        ("plus", "+5"), ("point", "5."), ("only-fraction", ".5"), ("empty", ""), ("huge", "99999999999999999999"), ("word", "abc"),
                        ("comma", "1,5"), ("long-fraction", "1." + "9" * 40), ("zeros", "0000000000000000000001.50"), ("trailing", "12 "), ("hex", "0x10")]:
        hand(f"time-{name}", pax(("mtime", value)), entry(b"f", b"x"))
    hand("time-atime", pax(("atime", "5.5"), ("ctime", "6.5"), ("LIBARCHIVE.creationtime", "7.5"), ("mtime", "8.5")), entry(b"f", b"x"))
    hand("time-header-256", header(b"f", mtime=base256(5000000000, 12)), header(b"n", mtime=base256(-5, 12)))
    hand("time-header-12-digits", header(b"f", mtime=b"777777777777"))
    hand("time-header-spaces", header(b"f", mtime=b" 7346545000 "))
    hand("time-header-minus", header(b"f", mtime=b"-0000000005\0"))
    hand("numbers-256", entry(b"f", b"x", uid=base256(3000000, 8), gid=base256(4000000, 8), size=base256(1, 12), mode=base256(0o644, 8)))
    hand("numbers-spaces", entry(b"f", b"x", mode=b"   644 \0", uid=b"     5 \0", gid=b"     6  ", size=b"          1 "))
    hand("numbers-no-nul", entry(b"f", b"x", mode=b"00000644", uid=b"00000005", gid=b"00000006", size=b"000000000001"))
    hand("numbers-empty", entry(b"f", b"x", mode=b"\0" * 8, uid=b"\0" * 8, gid=b" " * 8, mtime=b"\0" * 12))
    hand("numbers-garbage-after", entry(b"f", b"x", mode=b"644\0\xff\xff\xff\xff", uid=b"5 zzzzzz"))
    hand("numbers-negative-uid", entry(b"f", b"x", uid=base256(-2, 8), gid=base256(-1, 8)))
    hand("mode-type-bits", entry(b"f", b"x", mode=0o100644), header(b"d", flag=b"5", mode=0o40755))
    hand("checksum-signed", entry(b"\xe4\xff", b"x", signed=True))
    hand("checksum-forms", entry(b"a", b"x", sum_form="%6o \0"), entry(b"b", b"x", sum_form="%07o\0"), entry(b"c", b"x", sum_form="%6o\0 "), entry(b"d", b"x", sum_form="%08o"))
    hand("ustar-prefix", entry(b"name", b"x", prefix=b"some/prefix"), entry(b"n" * 100, b"x", prefix=b"p" * 155))
    hand("ustar-prefix-slash", entry(b"name", b"x", prefix=b"some/prefix/"))
    hand("ustar-no-version", entry(b"f", b"x", magic=b"ustar\0\0\0"), entry(b"g", b"x", prefix=b"pre", magic=b"ustar\0\0\0"))
    hand("ustar-space-magic", entry(b"g", b"x", prefix=b"pre", magic=b"ustar 00"))
    hand("gnu-prefix-times", entry(b"f", b"x", magic=b"ustar  \0", prefix=octal(1000000001, 12) + octal(1000000002, 12)))
    star = [(508, b"tar\0"), (476, octal(1000000003, 12)), (488, octal(1000000004, 12))]
    hand("star-old", entry(b"f", b"x", magic=b"", tail=star[:1]), header(b"d/", flag=b"5", mode=0o755, magic=b"", tail=star[:1]))
    hand("star-xstar", entry(b"f", b"x", tail=star), entry(b"g", b"x", prefix=b"p" * 130, tail=star))
    hand("star-xstar-no-tar", entry(b"f", b"x", tail=[(475, b"\0")] + star[1:]))
    hand("type-7", entry(b"f", b"contiguous", flag=b"7"))
    for flag in [b"Z", b"Q", b"8", b"A", b"I", b"W", b"E", b"N", b"\x01", b" "]:
        hand("type-%02x" % flag[0], entry(b"f", b"some data", flag=flag))
        hand("type-%02x-empty" % flag[0], entry(b"f", b"", flag=flag, magic=b""))
    hand("gnu-N-longnames", entry(b"////MaNgLeD.000_list", b"Rename f to g\n", flag=b"N", magic=b"ustar  \0"), entry(b"f", b"x"))
    hand("gnu-D", entry(b"d/", b"Yf\0Nnot\0\0", flag=b"D", mode=0o755, magic=b"ustar  \0"), entry(b"d/f", b"x"))
    hand("gnu-V", header(b"label", flag=b"V", magic=b"ustar  \0"))
    hand("gnu-M", entry(b"f", b"rest of it", flag=b"M", magic=b"ustar  \0", tail=[(369, octal(100, 12)), (483, octal(110, 12))]))
    hand("gnu-L-plain", entry(b"././@LongLink", b"l" * 150 + b"\0", flag=b"L", magic=b"ustar  \0"), entry(b"l" * 100, b"x", magic=b"ustar  \0"))
    hand("gnu-L-no-nul", entry(b"././@LongLink", b"l" * 150, flag=b"L", magic=b"ustar  \0"), entry(b"l" * 100, b"x", magic=b"ustar  \0"))
    hand("gnu-L-nuls", entry(b"././@LongLink", b"l" * 150 + b"\0" * 20, flag=b"L", magic=b"ustar  \0"), entry(b"l" * 100, b"x", magic=b"ustar  \0"))
    hand("gnu-L-inner-nul", entry(b"././@LongLink", b"l" * 150 + b"\0rest\0", flag=b"L", magic=b"ustar  \0"), entry(b"l" * 100, b"x", magic=b"ustar  \0"))
    hand("gnu-L-empty", entry(b"././@LongLink", b"", flag=b"L", magic=b"ustar  \0"), entry(b"short", b"x", magic=b"ustar  \0"))
    for order in ["LK", "KL", "LLK", "KKL"]:
        long = lambda flag, n: entry(b"././@LongLink", flag.lower().encode() * (150 + n) + b"\0", flag=flag.encode(), magic=b"ustar  \0")
        hand(f"gnu-{order}", *[long(flag, n) for n, flag in enumerate(order)], header(b"s", flag=b"2", link=b"t", magic=b"ustar  \0"))
    hand("gnu-L-then-x", entry(b"././@LongLink", b"l" * 150 + b"\0", flag=b"L", magic=b"ustar  \0"), pax(("mtime", "5.5")), entry(b"f", b"x"))
    hand("gnu-x-then-L", pax(("mtime", "5.5")), entry(b"././@LongLink", b"l" * 150 + b"\0", flag=b"L", magic=b"ustar  \0"), entry(b"f", b"x"))
    hand("gnu-L-and-path", entry(b"././@LongLink", b"l" * 150 + b"\0", flag=b"L", magic=b"ustar  \0"), pax(("path", "paxname")), entry(b"f", b"x"))
    hand("gnu-path-and-L", pax(("path", "paxname")), entry(b"././@LongLink", b"l" * 150 + b"\0", flag=b"L", magic=b"ustar  \0"), entry(b"f", b"x"))
    hand("pax-two-x", pax(("path", "first"), ("uid", "5")), pax(("path", "second")), entry(b"f", b"x"))
    hand("pax-empty-x", entry(b"x", b"", flag=b"x"), entry(b"f", b"x"))
    hand("pax-at-end", pax(("path", "lost")), after=False)
    hand("pax-global", pax(("comment", "c"), ("uid", "7"), ("mtime", "9.5"), flag=b"g"), entry(b"f", b"x"), pax(("uid", "8")), entry(b"g", b"x"), pax(("uid", "")), entry(b"h", b"x", uid=3))
    hand("pax-global-twice", pax(("uid", "7"), flag=b"g"), entry(b"f", b"x"), pax(("uid", ""), ("gid", "4"), flag=b"g"), entry(b"g", b"x", uid=3))
    hand("pax-global-path", pax(("path", "all"), flag=b"g"), entry(b"f", b"x"), after=False)
    hand("pax-global-xattr", pax(("SCHILY.xattr.user.g", "v"), flag=b"g"), entry(b"f", b"x"))
    hand("pax-global-before-x", pax(("path", "name")), pax(("comment", "c"), flag=b"g"), entry(b"f", b"x"))
    hand("pax-size", pax(("size", "5")), entry(b"f", b"12345", size=0))
    hand("pax-size-zero", pax(("size", "0")), header(b"f", size=0))
    hand("pax-size-hard", entry(b"f", b"x"), pax(("size", "5")), entry(b"h", b"12345", flag=b"1", link=b"f", size=0))
    hand("pax-X", pax(("path", "solaris"), ("SUN.devmajor", "5"), flag=b"X"), entry(b"f", b"x"))
    hand("pax-sun-dev", pax(("SUN.devmajor", "9"), ("SUN.devminor", "300")), header(b"dev", flag=b"3", major=octal(1, 8), minor=octal(3, 8)))
    hand("pax-schily-dev", pax(("SCHILY.devmajor", "9"), ("SCHILY.devminor", "300")), header(b"dev", flag=b"3", major=octal(1, 8), minor=octal(3, 8)))
    hand("pax-schily-facts", pax(("SCHILY.dev", "1"), ("SCHILY.ino", "2"), ("SCHILY.nlink", "3"), ("SCHILY.offset", "0"), ("SCHILY.fflags", "nodump")), entry(b"f", b"x"))
    hand("pax-schily-filetype", pax(("SCHILY.filetype", "dir")), header(b"f", flag=b"0"))
    hand("pax-schily-realsize", pax(("SCHILY.realsize", "1")), entry(b"f", b"x"))
    hand("pax-fflags", pax(("SCHILY.fflags", "immutable,nodump")), entry(b"f", b"x"))
    hand("pax-path-slash", pax(("path", "f/")), entry(b"f", b"x"))
    hand("pax-path-dots", pax(("path", "./a//b/./c")), entry(b"f", b"x"))
    hand("pax-path-empty", pax(("path", "")), entry(b"f", b"x"))
    hand("pax-linkpath-empty", pax(("linkpath", "")), header(b"s", flag=b"2", link=b"t"))
    hand("pax-charset", pax(("hdrcharset", "BINARY"), ("path", b"\xff\xfe")), entry(b"f", b"x"))
    hand("pax-charset-utf8", pax(("hdrcharset", "ISO-IR 10646 2000 UTF-8"), ("path", b"\xc3\xa4")), entry(b"f", b"x"))
    hand("pax-not-utf8", pax(("path", b"\xff\xfe")), entry(b"f", b"x"))
    hand("pax-uname", pax(("uname", "root"), ("gname", "daemon"), ("uid", "3"), ("gid", "4")), entry(b"f", b"x"))
    hand("pax-uid-large", pax(("uid", "4294967294"), ("gid", "3000000000")), entry(b"f", b"x"))
    hand("pax-uid-negative", pax(("uid", "-2")), entry(b"f", b"x"))
    hand("pax-uid-fraction", pax(("uid", "5.0")), entry(b"f", b"x"))
    hand("pax-leading-zeros", b"".join([entry(b"x", b"00013 path=pz\n"[:0] + b"0011 path=p\n"[:0] + record("path", "pz"), flag=b"x")]), entry(b"f", b"x"))
    hand("pax-zero-padded-length", entry(b"x", b"013 path=abc\n", flag=b"x"), entry(b"f", b"x"))
    hand("pax-nul-after", entry(b"x", record("path", "name") + b"\0" * 20, flag=b"x"), entry(b"f", b"x"))
    hand("pax-newline-after", entry(b"x", record("path", "name") + b"\n\n", flag=b"x"), entry(b"f", b"x"))
    hand("pax-unknown", pax(("VENDOR.key", "v"), ("unknown", "w"), ("GNU.other", "z")), entry(b"f", b"x"))
    hand("pax-xattr", pax(("SCHILY.xattr.user.a", b"\0\xff=\n"), ("SCHILY.xattr.user.b%3Dc", "v"), ("SCHILY.xattr.trusted.t", "")), entry(b"f", b"x"))
    hand("pax-libarchive-xattr", pax(("LIBARCHIVE.xattr.user.a", base64.b64encode(b"\0\xffvalue").decode().rstrip("=")), ("LIBARCHIVE.xattr.user.b%20c", base64.b64encode(b"v").decode().rstrip("="))), entry(b"f", b"x"))
    hand("pax-both-xattr", pax(("LIBARCHIVE.xattr.user.a", base64.b64encode(b"v1").decode().rstrip("=")), ("SCHILY.xattr.user.a", b"v1")), entry(b"f", b"x"))
    hand("pax-selinux", pax(("RHT.security.selinux", "system_u:object_r:etc_t:s0")), entry(b"f", b"x"))
    acl = "user::rwx,user:{0}:r-x{1},group::r-x,group:{2}:rw-{3},mask::rwx,other::r-x"
    forms = {
        "numbers": acl.format(5, "", 6, ""), "star": acl.format("nobody", ":65534", "nogroup", ":65534"), "star-unknown": acl.format("lisa", ":502", "toolies", ":102"),
        "names": acl.format("nobody", "", "nogroup", ""), "names-unknown": acl.format("nosuchuser", "", "nosuchgroup", ""),
        "names-some": acl.format("nosuchuser", "", "nogroup", ""), "names-escaped": acl.format("nob\\157dy", "", "nogroup", ""),
        "names-twice": "user::rwx,user:nobody:r-x,user:65534:rw-,group::r-x,mask::rwx,other::r-x", "names-option": acl.format("--help", "", "-s", ""),
        "lines": acl.format(5, "", 6, "").replace(",", "\n") + "\n", "short": "u::rwx,u:5:r-x,g::r-x,g:6:rw-,m::rwx,o::r-x", "octal": "user::7,user:5:5,group::5,mask::7,other::5",
        "effective": "user::rwx\nuser:5:rwx\t\t#effective:r-x\ngroup::r-x\nmask::r-x\nother::r--\n", "mask-one-colon": "user::rwx,group::r-x,mask:rwx,other:r-x,user:5:r-x",
        "spaces": "user::rwx, user:5:r-x, group::r-x, mask::rwx, other::r-x", "minimal": "user::rw-,group::r--,other::r--", "one-letter": "user::rwx,user:5:r,group::x,mask::rwx,other::-",
        "no-mask": "user::rwx,user:5:r-x,group::r-x,other::r-x", "numeric-twice": acl.format("5", ":5", "6", ":6"), "comments": "# file: f\n# owner: root\nuser::rwx\ngroup::r-x\nother::r--\n",
        "capitals": "USER::rwx,GROUP::r-x,OTHER::r--", "words": "user::rwx,group::r-x,other::r--,\n", "equal-order": "other::r-x,mask::rwx,group::r-x,user:5:r-x,user::rwx",
        "bad": "user::rwx,bogus", "duplicate": "user::rwx,user:5:r-x,user:5:rwx,group::r-x,mask::rwx,other::r-x",
        "default-words": "default:user::rwx,default:group::r-x,default:other::r-x",
    }
    for name, text in forms.items():
        hand(f"acl-{name}", pax(("SCHILY.acl.access", text)), entry(b"f", b"x", mode=0o755))
        hand(f"acl-default-{name}", pax(("SCHILY.acl.default", text)), header(b"d/", flag=b"5", mode=0o755))
    hand("acl-ace", pax(("SCHILY.acl.ace", "owner@:rwxp--aARWcCos:------:allow,everyone@:r-----a-R-c--s:------:allow")), entry(b"f", b"x"))
    hand("acl-solaris-A", entry(b"f", b"1000004\0user::rwx,user:5:r-x,group::r-x,mask:r-x,other:r-x\0", flag=b"A"), entry(b"f", b"x", mode=0o755))
    def sparse10(entries, real, data, name="sparse", **more):
        text = "%d\n" % len(entries) + "".join("%d\n%d\n" % e for e in entries)
        body = padded(text.encode()) + data
        return pax(("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.name", name), ("GNU.sparse.realsize", str(real))) + entry(b"GNUSparseFile.0/" + name.encode(), body, **more)
    hand("sparse-1.0", sparse10([(0, 5), (100000, 4), (200000, 0)], 200000, b"hellodata"))
    hand("sparse-1.0-no-final", sparse10([(0, 5)], 200000, b"hello"))
    hand("sparse-1.0-empty", sparse10([(4096, 0)], 4096, b""))
    hand("sparse-1.0-none", sparse10([], 4096, b""))
    hand("sparse-1.0-real-short", sparse10([(0, 5)], 3, b"hello"))
    hand("sparse-1.0-data-short", sparse10([(0, 5), (100, 50)], 200, b"hello"))
    hand("sparse-1.0-data-long", sparse10([(0, 5)], 200, b"helloextra"))
    hand("sparse-1.0-typeflag-S", sparse10([(0, 5), (1000, 0)], 1000, b"hello", flag=b"0"))
    hand("sparse-0.1", pax(("GNU.sparse.numblocks", "2"), ("GNU.sparse.map", "0,5,1000,4"), ("GNU.sparse.size", "2000"), ("GNU.sparse.name", "real")), entry(b"GNUSparseFile.0/f", b"hellodata"))
    hand("sparse-0.1-no-name", pax(("GNU.sparse.size", "2000"), ("GNU.sparse.numblocks", "2"), ("GNU.sparse.map", "0,5,1000,4")), entry(b"f", b"hellodata"))
    hand("sparse-0.0", pax(("GNU.sparse.size", "2000"), ("GNU.sparse.numblocks", "2"), ("GNU.sparse.offset", "0"), ("GNU.sparse.numbytes", "5"), ("GNU.sparse.offset", "1000"), ("GNU.sparse.numbytes", "4")), entry(b"f", b"hellodata"))
    def old(pairs, real, data, more=b"\0", extra=b""):
        tail = [(386 + 24 * n, octal(a, 12) + octal(b, 12)) for n, (a, b) in enumerate(pairs)] + [(482, more), (483, octal(real, 12))]
        return header(b"s", flag=b"S", magic=b"ustar  \0", size=len(data), tail=tail) + extra + padded(data)
    hand("sparse-old", old([(0, 5), (1000, 4)], 2000, b"hellodata"))
    hand("sparse-old-final", old([(0, 512), (1024, 0)], 1024, b"d" * 512))
    block = bytearray(512)
    block[0:24] = octal(5000, 12) + octal(3, 12)
    hand("sparse-old-extended", old([(0, 5), (1000, 4), (2000, 0), (3000, 0)], 6000, b"hellodataend", b"\1", bytes(block)))
    hand("sparse-old-256", header(b"s", flag=b"S", magic=b"ustar  \0", size=5, tail=[(386, base256(9 << 30, 12) + octal(5, 12)), (482, b"\0"), (483, base256((9 << 30) + 5, 12))]) + padded(b"hello"))
    hand("names-empty", entry(b"", b"x"))
    hand("names-dot", header(b".", flag=b"5", mode=0o755), header(b"./", flag=b"5", mode=0o755))
    hand("names-dot-file", entry(b".", b"x"))
    hand("names-slash", header(b"/", flag=b"5", mode=0o755))
    hand("names-slash-file", entry(b"f/", b"x"), entry(b"g//", b"", flag=b"\0"))
    hand("names-double", entry(b"a//b", b"x"), entry(b".//./c", b"x"))
    hand("names-duplicate", entry(b"f", b"first"), entry(b"f", b"second"))
    hand("names-duplicate-kinds", entry(b"f", b"first"), header(b"f", flag=b"2", link=b"t"))
    hand("names-duplicate-directory", header(b"d", flag=b"5", mode=0o700), entry(b"d/f", b"x"), header(b"d", flag=b"5", mode=0o755, mtime=5))
    hand("names-file-then-directory", entry(b"d", b"x"), header(b"d", flag=b"5", mode=0o755))
    hand("names-100", entry(b"n" * 100, b"x"), header(b"s" * 100, flag=b"2", link=b"l" * 100))
    hand("directory-read-only", header(b"d", flag=b"5", mode=0o500, mtime=5), entry(b"d/f", b"x"), header(b"d/e", flag=b"5", mode=0, mtime=6), entry(b"d/e/g", b"x"))
    hand("directory-after", entry(b"d/f", b"x"), header(b"d", flag=b"5", mode=0o700, mtime=5), entry(b"d/g", b"x"))
    hand("directory-visited-again", header(b"a", flag=b"5", mode=0o755, mtime=5), header(b"b", flag=b"5", mode=0o755, mtime=6), entry(b"a/f", b"x"), entry(b"b/f", b"x"), entry(b"a/g", b"x"))
    hand("devices", header(b"c", flag=b"3", major=octal(1, 8), minor=octal(3, 8)), header(b"b", flag=b"4", major=octal(7, 8), minor=octal(300, 8)))
    hand("devices-256", header(b"c", flag=b"3", major=base256(300, 8), minor=base256(70000, 8)))
    one, two = entry(b"one", b"1"), entry(b"two", b"2")
    save("end-none", one + two); save("end-one-block", one + two + bytes(512)); save("end-lone-zero", one + bytes(512) + two + END)
    save("end-three-members", one + END + two + END + AFTER + END); save("end-zero-run", one + bytes(512 * 40) + two + END)
    save("end-garbage", one + two + END + b"garbage" * 100); save("end-garbage-block", one + two + END + padded(b"garbage"))
    save("end-garbage-long", one + two + END + os.urandom(512 * 30)); save("end-cut-padding", one + header(b"two", size=1) + b"2")
    save("end-cut-data", one + header(b"two", size=600) + b"2" * 300); save("end-cut-header", one + two[:300])
    save("end-padding-junk", header(b"one", size=1) + b"1" + b"\xaa" * 511 + two + END); save("empty-two-blocks", END); save("empty-one-block", bytes(512))
    save("only-zero-length", b"".join(entry(b"z%d" % n) for n in range(5)) + END)
    save("garbage-before", padded(b"garbage") + one + two + END); save("garbage-between", one + padded(b"garbage") + two + END)
    save("bad-checksum-between", one + b"X" + two[1:] + AFTER + END)
    tar = one + two + AFTER + END
    raw = lambda name, data: save(name, data, compress=False)
    def member(data, flags=0, extra=b"", mtime=0):
        deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
        body = deflate.compress(data) + deflate.flush()
        head = struct.pack("<BBBBIBB", 0x1f, 0x8b, 8, flags, mtime, 0, 3) + extra
        return head + body + struct.pack("<II", zlib.crc32(data), len(data) & 0xffffffff)
    raw("gzip-members", b"".join(member(tar[at:at + 700]) for at in range(0, len(tar), 700)))
    raw("gzip-empty-members", member(b"") + member(tar[:512]) + member(b"") + member(tar[512:]) + member(b""))
    raw("gzip-fname", member(tar, 8, b"vol.tar\0")); raw("gzip-fcomment", member(tar, 16, b"a comment\0"))
    raw("gzip-fextra", member(tar, 4, struct.pack("<H", 6) + b"XX" + struct.pack("<H", 2) + b"ab"))
    head = struct.pack("<BBBBIBB", 0x1f, 0x8b, 8, 2, 0, 0, 3)
    raw("gzip-fhcrc", member(tar, 2, struct.pack("<H", zlib.crc32(head) & 0xffff)))
    head = struct.pack("<BBBBIBB", 0x1f, 0x8b, 8, 31, 0, 0, 3) + struct.pack("<H", 0) + b"n\0c\0"
    raw("gzip-all-fields", member(tar, 31, struct.pack("<H", 0) + b"n\0c\0" + struct.pack("<H", zlib.crc32(head) & 0xffff)))
    raw("gzip-zeros-after", member(tar) + bytes(4096)); raw("gzip-garbage-after", member(tar) + b"garbage" * 10); raw("gzip-few-zeros-after", member(tar) + b"\0")
    raw("gzip-zeros-between", member(tar[:1024]) + bytes(512) + member(tar[1024:]))
    raw("gzip-two-archives", member(one + END) + member(two + END)); raw("gzip-two-archives-padded", gzip.compress(one + bytes(10240 - 1024)) + gzip.compress(two + bytes(10240 - 1024)))
    raw("plain", tar); raw("plain-v7", entry(b"f", b"x", flag=b"\0", magic=b"") + END); raw("plain-no-end", one + two)
    cut = member(tar); raw("gzip-cut-trailer", cut[:-4]); raw("gzip-cut", cut[:len(cut) // 2]); raw("gzip-bad-crc", cut[:-8] + b"\0\0\0\0" + cut[-4:])
    raw("zero-bytes", b""); raw("bzip2", __import__("bz2").compress(tar)); raw("xz", __import__("lzma").compress(tar)); raw("zeros", bytes(20480))


tree()
with_tools()
by_hand()
subprocess.run(["rm", "-rf", SRC], check=True)
