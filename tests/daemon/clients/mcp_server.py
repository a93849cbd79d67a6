"""A server with a few tools, as a user would write one with the official SDK. With a port it speaks HTTP and asks for a token."""

import os
import sys
from typing import Annotated, Literal

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

server = MCPServer("desk")


@server.tool()
def lookup(customer: Annotated[str, Field(max_length=30, pattern="^[a-z ]+$")], fields: list[Literal["phone", "city"]] | None = None) -> str:
    """What is known of a customer."""
    return f"{customer}: {', '.join(fields or ['all'])} ({os.environ.get('DESK', 'no desk')})"


@server.tool()
def broken() -> str:
    """Never works."""
    raise ToolError("the desk is closed")


@server.tool()
def leave() -> str:
    """Ends the server."""
    os._exit(3)


server.run()
