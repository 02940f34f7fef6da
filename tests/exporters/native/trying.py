"""A site to try: its network, its voices, and a page that has loaded."""

import json
import shutil
from dataclasses import asdict
from http.server import SimpleHTTPRequestHandler

import numpy as np
import torch
from torch import nn

RATE = 16000


class Spectrum(nn.Module):
    """The loudness of each frequency, weighted by itself: what silence and gaps hardly change."""

    min_frames = 1

    def __init__(self, feature_dim=80):
        super().__init__()
        self.linear = nn.Linear(feature_dim, 32)
        with torch.no_grad():
            self.linear.weight[:, ::2] = 0

    def forward(self, feats):
        loudness = torch.relu(feats - 5)
        return self.linear((loudness**2).sum(1) / loudness.sum(1).clamp(min=1e-3))


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def deciding(site, folder, decision):
    """The same site with a threshold."""
    shutil.copytree(site, folder)
    facts = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(facts | {"decision": asdict(decision)}))
    return folder


def voice(pitch, seconds=1.0):
    """A vowel of some pitch, with a little noise."""
    time = np.arange(int(seconds * RATE)) / RATE
    tones = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 20))
    noise = np.random.default_rng(int(pitch)).normal(scale=0.01, size=len(time))
    return (0.1 * tones + noise).astype(np.float32)


def opened(browser, address):
    page = browser.open(address)
    page.until("document.querySelector('#state')?.className.match(/ready|failed/)")
    assert page.text("#state") == [
        "The model is loaded. Nothing that you record leaves this device."
    ]
    return page


def shown(page, section, count):
    page.until(f"document.querySelectorAll('#{section} .recording').length === {count}")
