// Package lm holds language models, their loss, and the loop that trains them.
//
// A [Model] turns tokens into hidden states, an output layer turns hidden states
// into a [torch.Loss], and a [Trainer] drives both with an optimizer of package
// koala over the batches of package data. The loop announces what happens to
// observers; progress bars, the store and checkpoints are plugged in from
// outside.
//
// Shapes: N tokens of a batch are T steps of B sequences. Recurrent models are
// time major ([T, B, ...]), Transformers batch major ([B, T, ...]); hidden states
// are flattened to [N, D] in that order, which is that of a batch's targets.
package lm
