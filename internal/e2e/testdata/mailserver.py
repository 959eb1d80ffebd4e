"""A mail server on a free port of 127.0.0.1, which requires STARTTLS and the password "right" of the user "robot".

It takes the paths of its certificate and key as arguments. It prints its port, and then each mail as a line of JSON.
"""

import asyncio
import email
import email.policy
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult


class Printer:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("gone@"):
            return "550 5.1.1 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 ok"

    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        print(json.dumps({
            "hello": session.host_name,
            "encrypted": session.ssl is not None,
            "authenticated": session.authenticated,
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "header": {name: str(value) for name, value in mail.items()},
            "defects": [str(defect) for defect in mail.defects],
            "text": mail.get_content(),
        }), flush=True)
        return "250 queued"


def authenticate(server, session, envelope, mechanism, data):
    return AuthResult(success=data.login == b"robot" and data.password == b"right", handled=False)


async def main():
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*sys.argv[1:])
    listener = await asyncio.get_running_loop().create_server(
        lambda: SMTP(Printer(), hostname="mail.test", tls_context=context, require_starttls=True,
                     authenticator=authenticate, auth_required=True, auth_require_tls=True),
        "127.0.0.1", 0)
    print(listener.sockets[0].getsockname()[1], flush=True)
    await listener.serve_forever()


asyncio.run(main())
