import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from autoresearch_ray.explore.web.guard import COOKIE, Guard, is_loopback, named_here


def client(host: str = "127.0.0.1", token: str | None = None, name: str = "127.0.0.1:8600") -> TestClient:
    async def hello(_):
        return PlainTextResponse("hello")

    application = Starlette(routes=[Route("/{path:path}", hello, methods=["GET", "POST"])])
    return TestClient(Guard(application, host, token), base_url=f"http://{name}", follow_redirects=False)


@pytest.mark.parametrize("name", ["127.0.0.1:8600", "localhost:8600", "localhost", "[::1]:8600", "LOCALHOST."])
def test_loopback_is_served_under_its_own_names(name: str) -> None:
    assert client(name=name.rstrip(".")).get("/", headers={"host": name}).status_code == 200


@pytest.mark.parametrize(
    "name", ["evil.example", "evil.example:8600", "127.0.0.1.evil.example", "10.0.0.1", "", "a:b:c"]
)
def test_other_names_are_refused_on_loopback(name: str) -> None:
    assert client().get("/", headers={"host": name}).status_code == 421


def test_another_host_is_served_under_addresses_and_its_name_only() -> None:
    assert named_here("10.1.2.3:8600", "0.0.0.0")
    assert named_here("box:8600", "box")
    assert not named_here("evil.example:8600", "0.0.0.0")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_what_only_this_machine_can_reach(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_only_reading_is_allowed(method: str) -> None:
    assert client().request(method, "/").status_code == 405


def test_a_token_is_needed_and_moves_from_the_address_to_a_cookie() -> None:
    visitor = client("0.0.0.0", "s3cret", "10.0.0.5:8600")
    for path in ("/", "/api/run", "/static/main.js", "/?token=wrong", "/?token="):
        assert visitor.get(path).status_code == 401
    answer = visitor.get("/tree?token=s3cret&island=2")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/tree?island=2"
    assert "httponly" in answer.headers["set-cookie"].lower()
    assert "samesite=strict" in answer.headers["set-cookie"].lower()
    assert visitor.get("/tree?island=2").text == "hello"
    assert client("0.0.0.0", "s3cret", "10.0.0.5").get("/", headers={"authorization": "Bearer s3cret"}).text == "hello"
    assert client("0.0.0.0", "s3cret", "10.0.0.5").get("/", headers={"cookie": f"{COOKIE}=no"}).status_code == 401


def test_the_token_cannot_send_a_visitor_elsewhere() -> None:
    answer = client("0.0.0.0", "s3cret", "10.0.0.5").get("//evil.example/x?token=s3cret")
    assert answer.headers["location"].startswith("/")
    assert not answer.headers["location"].startswith("//")


@pytest.mark.parametrize("path", ["/", "/api/run"])
def test_every_answer_carries_the_policy(path: str) -> None:
    for answer in (client().get(path), client().post(path), client().get(path, headers={"host": "evil.example"})):
        policy = answer.headers["content-security-policy"]
        assert "script-src 'self';" in policy
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
