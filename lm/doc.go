// Package lm holds language models, their loss, and the loop that trains them.
//
// A [Model] turns tokens into features, an [OutputLayer] turns features into a
// [torch.Loss], and a [Trainer] drives both with an optimizer of package koala over
// the batches of package data. The loop reports events to observers; progress bars,
// the store and checkpoints are such observers.
//
// A kind of model is one file, such as transformer.go, and one line in the table of
// model.go. A constructor makes its tensors with a [Builder], whose path is the
// prefix of their names.
//
// Shapes: a batch has N = T B tokens, T steps of B sequences. Recurrent models are
// time major ([T, B, ...]), Transformers batch major ([B, T, ...]); features are
// flattened to [N, D] in the order of the batch's targets.
package lm
