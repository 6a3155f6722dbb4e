// Package data is the way from prepared token files to batches.
//
// A dataset is a folder: dataset.json says what is in it, tokenizer.json how
// its text became ids, and train.bin, valid.bin and test.bin hold the ids and
// nothing else, little-endian. Open checks it whole; its splits are read
// through memory maps and cut into batches by a Batcher.
//
// The way from text to such a folder is in the packages below: corpus finds
// and reads text, tokenizer makes ids of it, prepare joins the two.
package data
