"""A mail server for one test: aiosmtpd behind STARTTLS (or TLS from the start) with a login.

    server.py DIRECTORY CERTIFICATE KEY starttls|tls

It prints its port, and for each mail writes N.json (sender, recipients, subject), N.text and N.html (the parts as
Python's email package decodes them) into DIRECTORY. It refuses recipients whose address begins with `refused`. It ends
when its standard input does.
"""

import asyncio
import email
import email.policy
import json
import pathlib
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult


class Handler:
    def __init__(self, directory):
        self.directory = directory
        self.count = 0

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("refused"):
            return "550 no such user here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.count += 1
        name = self.directory / str(self.count)
        parts = {part.get_content_type(): part for part in message.iter_parts()}
        facts = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "subject": message["subject"],
            "content_type": message.get_content_type(),
            "parts": list(parts),
            "id": message["message-id"],
            "tls": session.ssl is not None,
        }
        name.with_suffix(".text").write_bytes(parts["text/plain"].get_payload(decode=True))
        name.with_suffix(".html").write_bytes(parts["text/html"].get_payload(decode=True))
        name.with_suffix(".json").write_text(json.dumps(facts))
        return "250 taken"


def authenticate(server, session, envelope, mechanism, login):
    ok = login.login == b"volbak" and login.password == "geheim é".encode()
    return AuthResult(success=ok, handled=ok)


async def main():
    directory, certificate, key, kind = sys.argv[1:]
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    handler = Handler(pathlib.Path(directory))
    starttls = kind == "starttls"

    def protocol():
        return SMTP(
            handler,
            hostname="localhost",
            tls_context=context if starttls else None,
            require_starttls=starttls,
            auth_required=True,
            auth_require_tls=starttls,
            authenticator=authenticate,
        )

    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", 0, ssl=None if starttls else context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


asyncio.run(main())
