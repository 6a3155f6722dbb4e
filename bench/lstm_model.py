"""The LSTM language model of PyTorch's word_language_model example, written anew."""

import torch
from torch import nn


class LSTM(nn.Module):
    def __init__(self, vocab, embed=200, hidden=200, layers=2, dropout=0.2, tied=True):
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(vocab, embed)
        self.rnn = nn.LSTM(embed, hidden, layers, dropout=dropout)
        self.decoder = nn.Linear(hidden, vocab)
        if tied:
            self.decoder.weight = self.encoder.weight
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)

    def forward(self, ids, state):
        """ids [time, batch] -> logits [time * batch, vocab] and the state after."""
        y, state = self.rnn(self.drop(self.encoder(ids)), state)
        return self.decoder(self.drop(y)).flatten(0, 1), state

    def zero_state(self, batch):
        shape = (self.rnn.num_layers, batch, self.rnn.hidden_size)
        return torch.zeros(shape), torch.zeros(shape)


def windows(data, bptt):
    """(inputs, targets) along [time, batch], targets flat."""
    for i in range(0, len(data) - 1, bptt):
        n = min(bptt, len(data) - 1 - i)
        yield data[i : i + n], data[i + 1 : i + 1 + n].reshape(-1)
