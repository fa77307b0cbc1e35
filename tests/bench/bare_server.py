"""A bare provider: answers every POST after a think time with a fresh id. `python bare_server.py SECONDS` prints its port."""

import asyncio
import sys
import uuid

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 47\r\n\r\n"


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, think: float) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
            await asyncio.sleep(think)
            writer.write(HEAD + b'{"id": "%s"} ' % str(uuid.uuid4()).encode())
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main() -> None:
    think = float(sys.argv[1])
    server = await asyncio.start_server(lambda r, w: serve(r, w, think), "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
