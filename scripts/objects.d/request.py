"""One signed request to the store that AWS_* describes: METHOD PATH[?QUERY] [BODY] [HEADER=VALUE...].

Prints the body of the answer; exits with 1 unless the status is 2xx. Tests make buckets and policies with it, which
volbak itself never does. Only the standard library is used.
"""
import datetime
import hashlib
import hmac
import os
import sys
import urllib.error
import urllib.parse
import urllib.request


def main(method, target, body="", *headers):
    path, _, query = target.partition("?")
    pairs = urllib.parse.parse_qsl(query, keep_blank_values=True)
    quote = lambda text: urllib.parse.quote(text, safe="-_.~")
    query = "&".join(sorted(f"{quote(name)}={quote(value)}" for name, value in pairs))
    endpoint, region = os.environ["AWS_ENDPOINT_URL"], os.environ["AWS_REGION"]
    payload = body.encode()
    now = datetime.datetime.now(datetime.timezone.utc)
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    digest = hashlib.sha256(payload).hexdigest()
    lines = dict(header.split("=", 1) for header in headers)
    lines.update({"host": endpoint.split("//")[1], "x-amz-date": stamp, "x-amz-content-sha256": digest})
    names = sorted(lines)
    signed = ";".join(names)
    canonical = [method, path, query, *(f"{name}:{lines[name]}" for name in names), "", signed, digest]
    scope = f"{day}/{region}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256("\n".join(canonical).encode()).hexdigest()])
    key = ("AWS4" + os.environ["AWS_SECRET_ACCESS_KEY"]).encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    credential = os.environ["AWS_ACCESS_KEY_ID"]
    lines["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credential}/{scope}, SignedHeaders={signed}, Signature={signature}"
    )
    url = endpoint + path + ("?" + query if query else "")
    request = urllib.request.Request(url, data=payload or None, method=method, headers=lines)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            sys.stdout.write(answer.read().decode(errors="replace"))
    except urllib.error.HTTPError as error:
        sys.exit(f"{method} {target}: status {error.code}: {error.read().decode(errors='replace')}")


main(*sys.argv[1:])
