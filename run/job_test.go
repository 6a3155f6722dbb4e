package run

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// While the model is built an interruption ends the run at once; later the training
// loop ends it.
func TestUntilBuilt(t *testing.T) {
	failed := errors.New("failed")
	for _, test := range []struct {
		name  string
		build time.Duration
		want  error
		took  time.Duration
	}{
		{"a build that ends in time", buildGrace / 2, failed, buildGrace/2 + time.Hour},
		{"a long build", time.Minute, context.Canceled, buildGrace},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				began := time.Now()
				err := UntilBuilt(ctx, func(built func()) error {
					time.Sleep(test.build) // of the bubble's time
					built()
					time.Sleep(time.Hour)
					return failed
				})
				if took := time.Since(began); !errors.Is(err, test.want) || took != test.took {
					t.Errorf("got %v after %v, want %v after %v", err, took, test.want, test.took)
				}
				time.Sleep(2 * time.Hour) // an abandoned build ends too
			})
		})
	}
	if err := UntilBuilt(t.Context(), func(func()) error { return failed }); !errors.Is(err, failed) {
		t.Errorf("got %v, want %v", err, failed)
	}
}
