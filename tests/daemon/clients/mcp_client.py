"""The official MCP client against the daemon over HTTP, or with the argument `stdio` against `milepost mcp`."""

import asyncio
import json
import os
import sys

import httpx2
from mcp import Client, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

ENDPOINT = os.environ.get("DAEMON_URL", "") + "/mcp"


def over_http(token):
    http = httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=300)
    return streamable_http_client(ENDPOINT, http_client=http)


def over_stdio():
    return stdio_client(StdioServerParameters(command=os.environ["MILEPOST"], args=["mcp"], env=dict(os.environ)))


def text(result):
    return result.content[0].text


async def tools(client):
    listed = (await client.list_tools()).tools
    assert [tool.name for tool in listed] == ["run_task", "task_status", "cancel_task", "observe"], listed
    seen = await client.call_tool("observe", {"url": os.environ["SITE"]})
    assert not seen.is_error and 'link "' in text(seen), text(seen)

    steps = []

    async def heard(progress, total, message):
        steps.append(message)

    task = {"goal": os.environ["GOAL"], "url": os.environ["SITE"], "check": 'text visible "About"', "max_steps": 20, "wait_seconds": 300}
    ran = await client.call_tool("run_task", task, progress_callback=heard)
    done = ran.structured_content
    assert not ran.is_error and done["state"] == "done" and done["success"] is True and done["answer"], ran
    assert json.loads(text(ran)) == done
    assert any(step.startswith("plan 1") for step in steps) and any(step.startswith("click ") for step in steps), steps
    status = await client.call_tool("task_status", {"id": done["id"]})
    assert status.structured_content["answer"] == done["answer"], status

    episode = json.loads((await client.read_resource(done["resource"])).contents[0].text)
    assert episode["id"] == done["episode"] and episode["steps"], episode
    listed = (await client.list_resources()).resources
    assert done["resource"] in [str(resource.uri) for resource in listed], listed
    templates = (await client.list_resource_templates()).resource_templates
    assert [template.uri_template for template in templates] == ["milepost://episodes/{id}"], templates

    begun = await client.call_tool("run_task", {**task, "wait_seconds": 0})
    running = begun.structured_content
    assert running["state"] in ("queued", "running") and "task_status" in running["hint"], running
    await client.call_tool("cancel_task", {"id": running["id"]})
    ended = await client.call_tool("task_status", {"id": running["id"], "wait_seconds": 60})
    assert ended.structured_content["state"] == "cancelled", ended


async def refusals(client):
    for tool, arguments, says in [
        ("run_task", {"goal": "x"}, "url"),
        ("run_task", {"goal": "x", "url": "ftp://x"}, "/url"),
        ("run_task", {"goal": "x", "url": "http://127.0.0.1:1/", "planner": "x"}, "/planner"),
        ("observe", {"url": "nowhere"}, "nowhere"),
        ("task_status", {"id": "nothing"}, "nothing"),
    ]:
        refused = await client.call_tool(tool, arguments)
        assert refused.is_error and says in text(refused), (tool, arguments, refused)
    try:
        await client.read_resource("milepost://episodes/nothing")
        raise AssertionError("there is no such episode")
    except Exception as error:
        assert "nothing" in str(error), error


async def reader():
    async with Client(over_http(os.environ["DAEMON_READER"])) as client:
        refused = await client.call_tool("run_task", {"goal": "x", "url": "http://127.0.0.1:1/"})
        assert refused.is_error and "scope" in text(refused), refused
        assert (await client.list_resources()).resources is not None


async def doors():
    """Nobody without a token, no foreign page, no foreign name."""
    hello = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    good = {"Authorization": f"Bearer {os.environ['DAEMON_TOKEN']}", "Accept": "application/json, text/event-stream"}
    async with httpx2.AsyncClient() as http:
        for headers, status in [
            ({**good, "Authorization": "Bearer wrong"}, 401),
            ({**good, "Origin": "https://evil.example"}, 403),
            ({**good, "Origin": "null"}, 403),
            ({**good, "Host": "evil.example"}, 403),
            (good, 200),
        ]:
            answer = await http.post(ENDPOINT, json=hello, headers=headers)
            assert answer.status_code == status, (headers, answer.status_code, answer.text)


async def main():
    if sys.argv[1:] == ["stdio"]:
        async with Client(over_stdio()) as client:
            await tools(client)
        return
    for mode in ("auto", "legacy"):
        async with Client(over_http(os.environ["DAEMON_TOKEN"]), mode=mode) as client:
            await refusals(client)
            if mode == "auto":
                await tools(client)
    await reader()
    await doors()


asyncio.run(main())
