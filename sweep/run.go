package sweep

import (
	"context"
	"sync"
)

// Run works on trials, jobs at a time, in their order. work is called for each
// until ctx is done; Run returns when every call has returned. Trials whose
// work had not begun by then are left alone.
func Run(ctx context.Context, trials []Trial, jobs int, work func(context.Context, Trial)) {
	next := make(chan Trial)
	var workers sync.WaitGroup
	for range min(jobs, len(trials)) {
		workers.Go(func() {
			for trial := range next {
				if ctx.Err() == nil {
					work(ctx, trial)
				}
			}
		})
	}
	defer workers.Wait()
	defer close(next)
	for _, trial := range trials {
		select {
		case <-ctx.Done():
			return
		case next <- trial:
		}
	}
}
