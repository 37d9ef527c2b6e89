# shellcheck shell=bash
# OpenStack Swift as in swift.sh, whose users log in at a real Keystone over SQLite, with an application credential. Only
# Swift's own API is used. Read by scripts/objects.
OBJECTS_LOGIN=keystone
# shellcheck source=/dev/null
. "$LIB/swift.sh"
