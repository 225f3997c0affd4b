"""A name server that changes its mind (RFC 1035, over UDP)."""

import asyncio
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rrset


@dataclass
class NameServer:
    """Answers each question for an A record of a name with the next of its addresses, the last one for ever; without a time to live.

    `asked`: the names, in the order of those questions.
    """

    addresses: dict[str, list[str]]
    port: int = 0
    asked: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", self.port))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # An empty datagram: nothing else wakes whoever waits for one.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join(10)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            data, client = self._socket.recvfrom(4096)
            if not data:
                return
            self._socket.sendto(self._answer(dns.message.from_wire(data)).to_wire(), client)

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.AA | dns.flags.RA
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        if name not in self.addresses:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif question.rdtype == dns.rdatatype.A:
            self.asked.append(name)
            left = self.addresses[name]
            answer.answer.append(dns.rrset.from_text(question.name, 0, "IN", "A", left.pop(0) if len(left) > 1 else left[0]))
        return answer

    async def resolve(self, host: str, _port: int) -> Sequence[str]:
        """A resolver that asks this server, whatever the machine's would say."""
        query = dns.message.make_query(host, "A")
        answer = await asyncio.to_thread(dns.query.udp, query, "127.0.0.1", 5, self.port)
        return [record.address for each in answer.answer for record in each]
