package data

// ShardRange returns the shard of n items that belongs to one rank: the items from
// from up to, but not including, to. Shards are consecutive and their sizes differ
// by one at most.
func ShardRange(n, rank, worldSize int) (from, to int) {
	return n * rank / worldSize, n * (rank + 1) / worldSize
}

// Shard makes each batch hold one rank's shard of the global batch's texts. All
// ranks together read the batches of a single process. In evaluation a shard may
// be empty; its Batcher then returns io.EOF at once.
func Shard(rank, worldSize int) BatchOption {
	return func(o *batchOptions) { o.rank, o.worldSize = rank, worldSize }
}

// shard returns this rank's range of a global batch's texts.
func (o batchOptions) shard(globalBatch int) (from, to int) {
	if o.worldSize == 0 {
		return 0, globalBatch
	}
	return ShardRange(globalBatch, o.rank, o.worldSize)
}
