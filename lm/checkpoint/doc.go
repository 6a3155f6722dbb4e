// Package checkpoint keeps what a run needs to go on after it ended, whatever
// ended it: the weights, the optimizer's whole state, the carried hidden state,
// the place in the data and the figures of the training loop. A run that goes on
// from a checkpoint ends with the same bits as one that was never stopped.
//
// A checkpoint is one safetensors file. Weights stand in it under their own names,
// which are PyTorch's for the same model, so that other tools read them; the rest
// is under "optimizer/" and "carried/". The metadata holds what is no tensor, as
// JSON, and a checksum over everything.
//
// A run's folder of checkpoints holds
//
//	step-000001000.safetensors   the last few, and the best
//	last.safetensors             a link to the last
//	best.safetensors             a link to the one with the lowest loss on valid
//
// A [Keeper] is plugged into the training loop and writes them while training goes
// on; [Latest] finds the newest that is whole. Files appear in one step: what
// stands under one of these names was whole when it was written.
package checkpoint
