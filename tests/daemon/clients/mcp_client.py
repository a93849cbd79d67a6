"""Uses the daemon over HTTP with the official MCP client; with the argument `stdio`, uses `milepost mcp` instead."""

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


async def check_tools(client):
    """Calls every tool, reads every kind of resource, and cancels a task."""
    listed = (await client.list_tools()).tools
    assert [tool.name for tool in listed] == ["run_task", "task_status", "cancel_task", "observe"], listed
    page = await client.call_tool("observe", {"url": os.environ["SITE"]})
    assert not page.is_error and 'link "' in text(page), text(page)

    steps = []

    async def on_progress(progress, total, message):
        steps.append(message)

    task = {"goal": os.environ["GOAL"], "url": os.environ["SITE"], "check": 'text visible "About"', "max_steps": 20, "wait_seconds": 300}
    result = await client.call_tool("run_task", task, progress_callback=on_progress)
    done = result.structured_content
    assert not result.is_error and done["state"] == "done" and done["success"] is True and done["answer"], result
    assert json.loads(text(result)) == done
    assert any(step.startswith("plan 1") for step in steps) and any(step.startswith("click ") for step in steps), steps
    status = await client.call_tool("task_status", {"id": done["id"]})
    assert status.structured_content["answer"] == done["answer"], status

    episode = json.loads((await client.read_resource(done["resource"])).contents[0].text)
    assert episode["id"] == done["episode"] and episode["steps"], episode
    listed = (await client.list_resources()).resources
    assert done["resource"] in [str(resource.uri) for resource in listed], listed
    templates = (await client.list_resource_templates()).resource_templates
    assert [template.uri_template for template in templates] == ["milepost://episodes/{id}"], templates

    started = await client.call_tool("run_task", {**task, "wait_seconds": 0})
    running = started.structured_content
    assert running["state"] in ("queued", "running") and "task_status" in running["hint"], running
    await client.call_tool("cancel_task", {"id": running["id"]})
    ended = await client.call_tool("task_status", {"id": running["id"], "wait_seconds": 60})
    assert ended.structured_content["state"] == "cancelled", ended


async def check_errors(client):
    """Checks that wrong arguments and an unknown resource give errors that name them."""
    for tool, arguments, expected in [
        ("run_task", {"goal": "x"}, "url"),
        ("run_task", {"goal": "x", "url": "ftp://x"}, "/url"),
        ("run_task", {"goal": "x", "url": "http://127.0.0.1:1/", "planner": "x"}, "/planner"),
        ("observe", {"url": "nowhere"}, "nowhere"),
        ("task_status", {"id": "nothing"}, "nothing"),
    ]:
        refused = await client.call_tool(tool, arguments)
        assert refused.is_error and expected in text(refused), (tool, arguments, refused)
    try:
        await client.read_resource("milepost://episodes/nothing")
        raise AssertionError("there is no such episode")
    except Exception as error:
        assert "nothing" in str(error), error


async def check_reader():
    """Checks that a token of the scope `read` can read resources, but run no task."""
    async with Client(over_http(os.environ["DAEMON_READER"])) as client:
        refused = await client.call_tool("run_task", {"goal": "x", "url": "http://127.0.0.1:1/"})
        assert refused.is_error and "scope" in text(refused), refused
        assert (await client.list_resources()).resources is not None


async def check_guards():
    """Checks that requests with a wrong token, of a foreign origin or for a foreign host are refused."""
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    good = {"Authorization": f"Bearer {os.environ['DAEMON_TOKEN']}", "Accept": "application/json, text/event-stream"}
    async with httpx2.AsyncClient() as http:
        for headers, status in [
            ({**good, "Authorization": "Bearer wrong"}, 401),
            ({**good, "Origin": "https://evil.example"}, 403),
            ({**good, "Origin": "null"}, 403),
            ({**good, "Host": "evil.example"}, 403),
            (good, 200),
        ]:
            answer = await http.post(ENDPOINT, json=ping, headers=headers)
            assert answer.status_code == status, (headers, answer.status_code, answer.text)


async def main():
    if sys.argv[1:] == ["stdio"]:
        async with Client(over_stdio()) as client:
            await check_tools(client)
        return
    for mode in ("auto", "legacy"):
        async with Client(over_http(os.environ["DAEMON_TOKEN"]), mode=mode) as client:
            await check_errors(client)
            if mode == "auto":
                await check_tools(client)
    await check_reader()
    await check_guards()


asyncio.run(main())
