// Package checkpoint saves and restores the state of a run, so that the run can
// continue however it ended: the weights, the optimizer's whole state, the carried
// hidden state, the place in the data and the figures of the training loop. A run
// that is resumed from a checkpoint ends with the same bits as an uninterrupted one.
//
// A checkpoint is one safetensors file. Weights have PyTorch's names for the same
// model, so that other tools read them. Tensors of the optimizer and of the carried
// state have the prefixes "optimizer/" and "carried/". The metadata holds all other
// values, as JSON, and a checksum over everything.
//
// A run's folder of checkpoints holds
//
//	step-000001000.safetensors   the last few, and the best
//	last.safetensors             a link to the last
//	best.safetensors             a link to the one with the lowest loss on valid
//
// A [Keeper] observes the training loop and writes checkpoints in the background;
// [Latest] finds the newest undamaged one. Files appear atomically: a file with one
// of these names was whole when it was written.
package checkpoint
