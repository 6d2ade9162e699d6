"""The microphone of the page in a real Chromium: it is released, and what it hears stays small enough to be sent."""

import asyncio
from pathlib import Path

import pytest

from browser import TITLE, browsing, filled


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("library"))


GATE = """([held, denied]) => {
  const gate = new Promise((resolve) => (window.open_gate = resolve));
  const devices = navigator.mediaDevices;
  const ask = devices.getUserMedia.bind(devices);
  devices.getUserMedia = async (wanted) => {
    if (held === "prompt") await gate;
    if (denied) throw new DOMException("denied", "NotAllowedError");
    return (window.stream = await ask(wanted));
  };
  const { addModule } = AudioWorklet.prototype;
  AudioWorklet.prototype.addModule = async function (address) {
    window.loading = true;
    if (held === "module") await gate;
    return addModule.call(this, address);
  };
}"""
"""Lets the browser's question, or the module beside the sound card, take as long as the test wants."""
OPEN = """async () => {
  open_gate();
  for (let i = 0; i < 20; i += 1) await new Promise((resolve) => setTimeout(resolve, 100));
  return window.stream?.getTracks().map((track) => track.readyState) ?? [];
}"""
"""Opens the gate, lets the page go on for two seconds, and returns the states of the tracks."""


@pytest.mark.parametrize(("held", "denied"), [("prompt", False), ("prompt", True), ("module", False)])
def test_a_microphone_that_nobody_waits_for_is_released(library: Path, held: str, denied: bool) -> None:
    async def test() -> None:
        async with browsing(library) as shown:
            page = await shown.open()
            sockets: list[str] = []
            page.on("websocket", lambda socket: sockets.append(socket.url))
            await page.evaluate(GATE, [held, denied])
            await page.get_by_role("button", name="Microphone").click()
            await page.set_input_files("#file", str(shown.take))
            await page.wait_for_selector(".verdict h2 >> text=Sonata")
            tracks = await page.evaluate(OPEN)
            assert tracks == ([] if denied else ["ended"])
            assert sockets == []
            assert await page.inner_text(".verdict h2") == TITLE  # no late error in the place of the answer
            assert shown.problems == []

    asyncio.run(test())


HEARD = """async ([rate, seconds]) => {
  const { Microphone } = await import("/page/microphone.js");
  const port = {};
  navigator.mediaDevices.getUserMedia = async () => ({ getTracks: () => [] });
  window.AudioContext = class {
    sampleRate = rate;
    audioWorklet = { addModule: async () => {} };
    createMediaStreamSource = () => ({ connect: () => {} });
    close() {}
  };
  window.AudioWorkletNode = class { port = port; };
  window.WebSocket = class { close() {} };
  const microphone = new Microphone({ heard: () => {}, answered: () => {}, failed: () => {} });
  await microphone.start();
  const [quiet, loud] = [new Float32Array(rate), new Float32Array(rate).fill(1)];
  for (let second = 1; second <= seconds; second += 1) port.onmessage({ data: second === seconds ? loud : quiet });
  const file = microphone.stop();
  port.onmessage({ data: loud });
  const last = new DataView(await file.slice(-2).arrayBuffer()).getInt16(0, true);
  return [file.size, last, microphone.kept.reduce((sum, block) => sum + block.length, 0)];
}"""
"""Plays seconds of samples, the last one loud. Returns bytes and last sample of the file, and samples left."""


@pytest.mark.parametrize(("rate", "seconds", "kept_s"), [(8000, 599, 599), (8000, 700, 600), (192000, 170, 156)])
def test_the_last_ten_minutes_are_kept_as_far_as_the_server_takes_them(
    library: Path, rate: int, seconds: int, kept_s: int
) -> None:
    async def test() -> None:
        async with browsing(library) as shown:
            page = await shown.open()
            size, last, kept = await page.evaluate(HEARD, [rate, seconds])
            assert size == 44 + 2 * rate * kept_s < 64 << 20
            assert last == 32767
            assert kept == rate * kept_s
            assert shown.problems == []

    asyncio.run(test())
