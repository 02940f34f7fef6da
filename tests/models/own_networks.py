"""Networks of somebody, with what does not occur in ours."""

import torch
from torch import nn


class Plain(nn.Module):
    """Two linear layers and an average."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = nn.Linear(80, 24), nn.Linear(24, 8)

    def inside(self, feats):
        return self.hidden(feats).relu()

    def forward(self, feats):
        return self.out(self.inside(feats).mean(dim=1))


class Unused(Plain):
    """With a layer, a loss scale, a counter and a window that forward does not use."""

    def __init__(self):
        super().__init__()
        self.spare = nn.Linear(24, 24)
        self.loss_scale = nn.Parameter(torch.tensor(10.0))
        self.register_buffer("steps", torch.tensor(3))
        self.register_buffer("window", torch.hann_window(400))


class Tied(Plain):
    """With one weight in two layers."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(24, 24), nn.Linear(24, 24)
        self.second.weight = self.first.weight

    def inside(self, feats):
        return self.second(self.first(super().inside(feats)).relu())


class Recurrent(Plain):
    """With an LSTM and a GRU."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(24, 16, num_layers=2, batch_first=True)
        self.gru = nn.GRU(16, 24, batch_first=True)

    def inside(self, feats):
        return self.gru(self.lstm(super().inside(feats))[0])[0]


class Attentive(Plain):
    """With attention, and an embedding of what the features are like."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(24, 4, batch_first=True)
        self.levels = nn.Embedding(50, 24)

    def inside(self, feats):
        levels = (feats.mean(dim=2) * 10).long().clamp(0, 49)
        x = super().inside(feats) + self.levels(levels)
        return self.attention(x, x, x, need_weights=False)[0]
