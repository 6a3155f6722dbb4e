package storetest

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/koala-lm/koala-lm/metric"
	"github.com/koala-lm/koala-lm/tracking"
)

// FillLarge adds runs that each logged train_loss at points steps, and val_ppl
// twenty times: the store of years of work.
func FillLarge(ctx context.Context, s *tracking.Store, runs, points int) error {
	optimizers := []string{"koala-v", "koala-m", "koala++", "koala-d", "sgd", "adam", "adamw"}
	for i := range runs {
		n := Example(fmt.Sprintf("run %d", i), optimizers[i%len(optimizers)], i%5, 1+i%4)
		n.Settings["optimizer.lr"] = math.Pow(10, float64(i%7)-4)
		for key := range 20 { // as many settings as a real run has
			n.Settings[fmt.Sprintf("optimizer.other%d", key)] = float64(key)
		}
		run, err := s.StartRun(ctx, n)
		if err != nil {
			return err
		}
		if err := trainLong(ctx, run, points, rand.New(rand.NewPCG(uint64(i), 7))); err != nil {
			return err
		}
		if err := run.Finish(tracking.Finished, ""); err != nil {
			return err
		}
	}
	return nil
}

func trainLong(ctx context.Context, run *tracking.Run, points int, random *rand.Rand) error {
	// Well below the queue's limit: this loop is faster than the store.
	const flushEvery = 20_000
	level := 4 + random.Float64()
	for step := 1; step <= points; step++ {
		loss := level*math.Pow(float64(step), -0.1) + 0.1*random.NormFloat64()
		values := map[string]float64{metric.TrainLoss: loss}
		if step%max(1, points/20) == 0 {
			values[metric.ValidPPL], values[metric.TestPPL], values[metric.TokensPerSecond] = math.Exp(loss), math.Exp(loss), 2000*random.Float64()
		}
		if err := run.Log(tracking.Point{Step: int64(step), Tokens: int64(step) * 700, Values: values}); err != nil {
			return err
		}
		if step%flushEvery == 0 {
			if err := run.Flush(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}
