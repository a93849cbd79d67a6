"""An MCP server with three tools, written with the official SDK. It speaks over stdio."""

import os
from typing import Annotated, Literal

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

server = MCPServer("desk")


@server.tool()
def lookup(customer: Annotated[str, Field(max_length=30, pattern="^[a-z ]+$")], fields: list[Literal["phone", "city"]] | None = None) -> str:
    """Looks up phone and city of a customer."""
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
