# shellcheck shell=bash
# OpenStack Swift with its S3 API in $DIR: one proxy, one account, container and object server, and one "device" that is a
# plain directory. Both protocols reach the same objects. Read by scripts/objects.
mkdir -p "$DIR"/{etc,srv/d1,log,cache}
# Swift keeps an object's metadata in an extended attribute of its file.
"$PY" -c 'import os, sys; os.setxattr(sys.argv[1], "user.probe", b"1")' "$DIR/srv/d1" 2>/dev/null \
    || die "$DIR: no extended attributes of users here (tmpfs before Linux 6.6); take another directory"
proxy=${OBJECTS_PORT:-$(free_ports 6)} login=${OBJECTS_LOGIN:-tempauth} parts=${OBJECTS_PARTS:-1000} user=$(id -un)
# The blocks below look these up by name.
# shellcheck disable=SC2034
account=$((proxy + 1)) container=$((proxy + 2)) object=$((proxy + 3)) cache=$((proxy + 4)) keystone=$((proxy + 5))
# Two users: one that may do everything, and one that may do what the first one lets it.
[ -e "$DIR/keys" ] || (umask 077; printf 'secret=%s\nwritersecret=%s\nprefix=%s\nsuffix=%s\n' \
    "$(random_hex 20)" "$(random_hex 20)" "$(random_hex 8)" "$(random_hex 8)" >"$DIR/keys")
# shellcheck source=/dev/null
. "$DIR/keys"
cat >"$DIR/etc/swift.conf" <<E
[swift-hash]
swift_hash_path_prefix = $prefix
swift_hash_path_suffix = $suffix
[storage-policy:0]
name = one
default = yes
E
for kind in account container object; do
    local at=${!kind}
    cat >"$DIR/etc/$kind-server.conf" <<E
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = $at
user = $user
swift_dir = $DIR/etc
devices = $DIR/srv
mount_check = false
workers = 0
disable_fallocate = true
log_address = $DIR/log/none
log_udp_host =
recon_cache_path = $DIR/cache
[pipeline:main]
pipeline = $kind-server
[app:$kind-server]
use = egg:swift#$kind
E
done
# Three rings of one device each: every partition is on device 0, whatever the port is this time.
"$PY" - "$DIR/etc" account:$account container:$container object:$object <<'PY'
import sys
from array import array
from swift.common.ring import RingData
for kind_port in sys.argv[2:]:
    kind, port = kind_port.split(":")
    dev = dict(id=0, region=1, zone=1, ip="127.0.0.1", port=int(port), device="d1", weight=1.0, meta="",
               replication_ip="127.0.0.1", replication_port=int(port))
    RingData([array("H", [0] * 4)], [dev], 30, version=1).save("%s/%s.ring.gz" % (sys.argv[1], kind))
PY
cat >"$DIR/etc/proxy-server.conf" <<E
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = $proxy
user = $user
swift_dir = $DIR/etc
workers = 0
log_address = $DIR/log/none
expose_info = true
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck cache listing_formats bulk tempurl s3api LOGIN copy slo dlo versioned_writes symlink proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:$cache
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:tempurl]
use = egg:swift#tempurl
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
location = us-east-1
allow_multipart_uploads = true
max_upload_part_num = $parts
check_bucket_owner = false
[filter:tempauth]
use = egg:swift#tempauth
user_test_owner = $secret .admin
user_test_writer = $writersecret
[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
www_authenticate_uri = http://127.0.0.1:$keystone/v3
auth_url = http://127.0.0.1:$keystone/v3
auth_type = password
username = swift
password = $secret
project_name = service
user_domain_id = default
project_domain_id = default
delay_auth_decision = true
[filter:keystoneauth]
use = egg:swift#keystoneauth
operator_roles = admin, member
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
max_manifest_segments = $parts
[filter:dlo]
use = egg:swift#dlo
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_versioned_writes = true
allow_object_versioning = true
[filter:symlink]
use = egg:swift#symlink
E
if [ "$login" = keystone ]; then
    sed -i 's/ s3api LOGIN / authtoken keystoneauth /' "$DIR/etc/proxy-server.conf"
else
    sed -i 's/ LOGIN / tempauth /' "$DIR/etc/proxy-server.conf"
fi
: >"$DIR/pids"
begin "$DIR/log/memcached" memcached -u "$user" -l 127.0.0.1 -p "$cache" -U 0 -m 16
for kind in account container object proxy; do
    begin "$DIR/log/$kind" "swift-$kind-server" "$DIR/etc/$kind-server.conf" --verbose
done
if [ "$login" = keystone ]; then
    mkdir -p "$DIR/keystone"
    cat >"$DIR/etc/keystone.conf" <<E
[DEFAULT]
log_file = $DIR/log/keystone
[database]
connection = sqlite:///$DIR/keystone/db
[token]
provider = fernet
[fernet_tokens]
key_repository = $DIR/keystone/fernet
[credential]
key_repository = $DIR/keystone/credential
E
    mkdir -p "$DIR"/keystone/{fernet,credential}; chmod 700 "$DIR"/keystone/*
    ks() { PYTHONWARNINGS=ignore "$PY" "$LIB/logins.py" "$@"; }
    ks make "$DIR" "$keystone" "$proxy" "$secret" >>"$DIR/log/made" 2>&1 \
        || { cat "$DIR/log/made" >&2; stop "$DIR"; die "Keystone cannot be made"; }
    PYTHONWARNINGS=ignore begin "$DIR/log/keystone.out" "$PY" "$LIB/logins.py" serve "$DIR" "$keystone"
    wait_for 60 "Keystone" curl -fsS -o /dev/null "http://127.0.0.1:$keystone/v3"
    made=$(ks credential "$DIR" "$keystone" "$proxy" "$secret") || { stop "$DIR"; die "Keystone has no users"; }
    read -r id credential <<<"$made"
fi
wait_for 60 "Swift" curl -fsS -o /dev/null "http://127.0.0.1:$proxy/healthcheck"
(umask 077; cat >"$DIR/env" <<E
export AWS_ENDPOINT_URL=http://127.0.0.1:$proxy
export AWS_ACCESS_KEY_ID=test:owner
export AWS_SECRET_ACCESS_KEY=$secret
export AWS_REGION=us-east-1
export WRITER_ACCESS_KEY_ID=test:writer
export WRITER_SECRET_ACCESS_KEY=$writersecret
export ST_AUTH=http://127.0.0.1:$proxy/auth/v1.0
export ST_USER=test:owner
export ST_KEY=$secret
E
)
if [ "$login" = keystone ]; then
    (umask 077; cat >"$DIR/env" <<E
export OS_AUTH_URL=http://127.0.0.1:$keystone/v3
export OS_APPLICATION_CREDENTIAL_ID=$id
export OS_APPLICATION_CREDENTIAL_SECRET=$credential
export OS_REGION_NAME=one
E
    )
fi
