"""One request to Swift itself, as ST_USER or with the application credential of OS_*: METHOD PATH[?QUERY] [HEADER=VALUE...];
PATH begins at the account.

Prints the body of the answer; exits with 1 unless the status is 2xx. Tests make containers with it, which volbak itself
never does. Only the standard library is used.
"""
import json
import os
import sys
import urllib.error
import urllib.request


def send(method, url, headers, body=None):
    body = b"" if method == "PUT" else body
    request = urllib.request.Request(url, data=body, method=method, headers=headers)
    try:
        return urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        sys.exit(f"{method} {url}: status {error.code}: {error.read().decode(errors='replace')}")


def log_in():
    if "OS_AUTH_URL" not in os.environ:
        lines = {"X-Auth-User": os.environ["ST_USER"], "X-Auth-Key": os.environ["ST_KEY"]}
        answer = send("GET", os.environ["ST_AUTH"], lines).headers
        return answer["X-Auth-Token"], answer["X-Storage-Url"]
    of = lambda name: os.environ["OS_APPLICATION_CREDENTIAL_" + name]
    identity = {"methods": ["application_credential"], "application_credential": {"id": of("ID"), "secret": of("SECRET")}}
    body = json.dumps({"auth": {"identity": identity}}).encode()
    answer = send("POST", os.environ["OS_AUTH_URL"] + "/auth/tokens", {"Content-Type": "application/json"}, body)
    for service in json.load(answer)["token"]["catalog"]:
        for endpoint in service["endpoints"]:
            if service["type"] == "object-store" and endpoint["region_id"] == os.environ["OS_REGION_NAME"]:
                return answer.headers["X-Subject-Token"], endpoint["url"]
    sys.exit("the catalogue has no object store")


def main(method, path, *headers):
    token, url = log_in()
    lines = dict(header.split("=", 1) for header in headers)
    lines["X-Auth-Token"] = token
    sys.stdout.write(send(method, url + path, lines).read().decode(errors="replace"))


main(*sys.argv[1:])
