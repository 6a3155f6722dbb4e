package data

// Part returns which of n things, from and up to but not including to, are those
// of one of several processes: consecutive ones, as many for each as can be.
func Part(n, rank, of int) (from, to int) {
	return n * rank / of, n * (rank + 1) / of
}

// Share makes batches hold one process's part of the texts of each batch: all
// processes together see what one would see with the whole of it. In evaluation a
// process may have no part at all; its Batcher is at the end from the start.
func Share(rank, of int) BatchOption {
	return func(o *batchOptions) { o.rank, o.of = rank, of }
}

// part returns the texts of a whole batch that are this process's.
func (o batchOptions) part(batch int) (from, to int) {
	if o.of == 0 {
		return 0, batch
	}
	return Part(batch, o.rank, o.of)
}
