"""The connections under httpcore2: what is sent together goes together, whoever sends too much waits, and an end is noticed."""

import asyncio
import socket

import httpcore2
import pytest

from control_plane.outbound.streams import connect


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


async def _both_ends(listener):
    stream = await connect(*listener.getsockname(), 5)
    other, _ = await asyncio.to_thread(listener.accept)
    return stream, other


def test_head_and_body_are_one_packet(listener):
    async def scenario():
        stream, other = await _both_ends(listener)
        with other:
            await stream.write(b"POST / HTTP/1.1\r\n\r\n")
            await stream.write(b"{}")
            reading = asyncio.create_task(stream.read(100))
            assert await asyncio.to_thread(other.recv, 1000) == b"POST / HTTP/1.1\r\n\r\n{}"
            other.sendall(b"abcdef")
            assert await reading == b"abcdef"
            other.sendall(b"abcdef")
            assert [await stream.read(4), await stream.read(4)] == [b"abcd", b"ef"]
            await stream.aclose()

    asyncio.run(scenario())


def test_whoever_sends_too_much_waits_until_it_is_read(listener):
    async def scenario():
        stream, other = await _both_ends(listener)
        with other:
            sent = b"x" * 20_000_000
            sending = asyncio.create_task(asyncio.to_thread(other.sendall, sent))
            await asyncio.wait([sending], timeout=0.5)
            assert not sending.done()
            assert len(stream._unread) < 1_000_000
            read = 0
            stream.allow(len(sent))
            while read < len(sent):
                read += len(await stream.read(65_536))
            await sending
            await stream.aclose()

    asyncio.run(scenario())


def test_an_end_is_seen(listener):
    async def scenario():
        stream, other = await _both_ends(listener)
        assert not stream.get_extra_info("is_readable")
        other.close()
        assert await stream.read(100) == b""
        assert stream.get_extra_info("is_readable")
        await stream.aclose()

    asyncio.run(scenario())


def test_a_broken_connection_is_told_from_one_that_ended(listener):
    async def scenario():
        stream, other = await _both_ends(listener)
        reading = asyncio.create_task(stream.read(100))
        await asyncio.sleep(0.01)
        # With a time of 0 to linger, what ends a connection is a reset (socket(7)).
        other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        other.close()
        with pytest.raises(httpcore2.ReadError):
            await reading
        await stream.aclose()

    asyncio.run(scenario())


def test_a_read_that_is_given_up_harms_nothing(listener):
    async def scenario():
        stream, other = await _both_ends(listener)
        with other:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await stream.read(100)
            other.sendall(b"late")
            stream.allow(4)
            assert await stream.read(100) == b"late"
            await stream.aclose()

    asyncio.run(scenario())


def test_nobody_there_is_said(listener):
    address = listener.getsockname()
    listener.close()
    with pytest.raises(httpcore2.ConnectError):
        asyncio.run(connect(*address, 5))
