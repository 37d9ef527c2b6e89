"""A Keystone for Swift: `make DIR PORT SWIFT_PORT SECRET` makes the database, `serve DIR PORT` serves it, and
`credential DIR PORT SECRET` prints an application credential of the user `owner`, as `ID SECRET`."""
import importlib
import json
import os
import sqlite3
import sys
import urllib.request
import wsgiref.simple_server


def manage(folder, *arguments):
    sys.argv = ["keystone-manage", "--config-file", folder + "/etc/keystone.conf", *arguments]
    importlib.import_module("keystone.cmd.manage").main()


def make(folder, port, swift, secret):
    who = ["--keystone-user", "root", "--keystone-group", "root"]
    url = f"http://127.0.0.1:{port}/v3"
    steps = [["db_sync"], ["fernet_setup", *who], ["credential_setup", *who],
             ["bootstrap", "--bootstrap-password", secret, "--bootstrap-public-url", url, "--bootstrap-internal-url", url,
              "--bootstrap-region-id", "one"]]
    for step in steps:
        # Each command reads its options into globals: it gets a process of its own.
        child = os.fork()
        if child == 0:
            manage(folder, *step)
            os._exit(0)
        if os.waitpid(child, 0)[1] != 0:
            sys.exit("keystone-manage " + step[0])
    # A reader keeps no writer waiting.
    sqlite3.connect(folder + "/keystone/db").execute("PRAGMA journal_mode=WAL")


class Handler(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, *_):
        pass


def serve(folder, port):
    os.environ["OS_KEYSTONE_CONFIG_DIR"] = folder + "/etc"
    sys.argv = ["keystone"]
    application = importlib.import_module("keystone.server.wsgi").initialize_public_application()
    # One request after the other: SQLite locks the database for each thread that writes.
    wsgiref.simple_server.make_server("127.0.0.1", int(port), application, handler_class=Handler).serve_forever()


def ask(method, url, token=None, body=None):
    headers = {"Content-Type": "application/json"}
    if token:
        headers["X-Auth-Token"] = token
    data = json.dumps(body).encode() if body is not None else None
    answer = urllib.request.urlopen(urllib.request.Request(url, data=data, method=method, headers=headers), timeout=60)
    text = answer.read()
    return answer.headers, json.loads(text) if text else None


def log_in(url, name, secret, project):
    domain = {"id": "default"}
    user = {"name": name, "domain": domain, "password": secret}
    scope = {"project": {"name": project, "domain": domain}}
    identity = {"methods": ["password"], "password": {"user": user}}
    headers, body = ask("POST", url + "/auth/tokens", None, {"auth": {"identity": identity, "scope": scope}})
    return headers["X-Subject-Token"], body["token"]["user"]["id"]


def credential(folder, port, swift, secret):
    url = f"http://127.0.0.1:{port}/v3"
    admin, _ = log_in(url, "admin", secret, "admin")
    roles = {role["name"]: role["id"] for role in ask("GET", url + "/roles", admin)[1]["roles"]}
    for name, project, role in (("swift", "service", "admin"), ("owner", "backups", "member")):
        project = ask("POST", url + "/projects", admin, {"project": {"name": project, "domain_id": "default"}})[1]["project"]
        user = {"name": name, "domain_id": "default", "password": secret}
        user = ask("POST", url + "/users", admin, {"user": user})[1]["user"]
        ask("PUT", f"{url}/projects/{project['id']}/users/{user['id']}/roles/{roles[role]}", admin)
    service = ask("POST", url + "/services", admin, {"service": {"type": "object-store", "name": "swift"}})[1]["service"]
    # A second region, which nobody can reach, so that one has to be chosen.
    ask("POST", url + "/regions", admin, {"region": {"id": "two"}})
    for region, at in (("one", swift), ("two", 9)):
        endpoint = {"service_id": service["id"], "interface": "public", "region_id": region,
                    "url": f"http://127.0.0.1:{at}/v1/AUTH_%(tenant_id)s"}
        ask("POST", url + "/endpoints", admin, {"endpoint": endpoint})
    token, user = log_in(url, "owner", secret, "backups")
    made = ask("POST", f"{url}/users/{user}/application_credentials", token, {"application_credential": {"name": "backup"}})
    made = made[1]["application_credential"]
    print(made["id"], made["secret"])


globals()[sys.argv[1]](*sys.argv[2:])
