package checkpoint

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/koala-lm/koala-lm/lm"
)

// capture keeps the trainer's snapshot alive for a benchmark: it runs in the loop,
// where the tensors are lent.
type capture struct {
	lm.NoObserver
	do func(*lm.Snapshot)
}

func (c *capture) Checkpoint(snap *lm.Snapshot, best bool) error {
	if snap.Progress.Step == 1 && c.do != nil {
		c.do(snap)
		c.do = nil
	}
	return nil
}

func cpu(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkCheckpoint measures the cost of a checkpoint of word_language_model's
// size (7.3 million weights, 29 MB): the time that the loop waits while the state is
// copied, and the total processor time, mostly outside the loop.
func BenchmarkCheckpoint(b *testing.B) {
	for _, optimizer := range []string{"koala-v", "adam"} {
		b.Run(optimizer, func(b *testing.B) {
			j := baseJob()
			j.optimizer, j.checkpoint = optimizer, 1
			j.model.Vocab, j.model.Embed, j.model.Hidden = 33_278, 200, 200
			k := newKeeper(b, b.TempDir(), j, nil)
			var waits, all time.Duration
			run(b, j.trainer(b, &capture{do: func(snap *lm.Snapshot) {
				for b.Loop() {
					began, used := time.Now(), cpu(b)
					if err := k.Checkpoint(snap, false); err != nil {
						b.Fatal(err)
					}
					waits += time.Since(began)
					if err := k.wait(); err != nil {
						b.Fatal(err)
					}
					all += cpu(b) - used
				}
				b.ReportMetric(float64(waits.Milliseconds())/float64(b.N), "ms-waiting/op")
				b.ReportMetric(float64(all.Milliseconds())/float64(b.N), "ms-cpu/op")
			}}), 2)
		})
	}
}
