package tracking

import "time"

// Status says how a run stands.
type Status string

const (
	Running     Status = "running"
	Finished    Status = "finished"
	Interrupted Status = "interrupted" // stopped on request, saved, resumable
	Failed      Status = "failed"      // ended with an error that it reported
	Crashed     Status = "crashed"     // its process disappeared
)

// HeartbeatEvery is how often a live run shows that it lives; a run on another
// host is taken for crashed when it has been silent for HeartbeatStale.
const (
	HeartbeatEvery = 5 * time.Second
	HeartbeatStale = time.Minute
)

// HigherIsBetter reports whether the best value of a metric is its highest.
func HigherIsBetter(metric string) bool { return metric == "tokens_per_second" }

// timeLayout is RFC 3339 with a fixed width, so that text sorts as time does.
const timeLayout = "2006-01-02T15:04:05.000Z"

func formatTime(t time.Time) string { return t.UTC().Format(timeLayout) }

// parseTime reads what formatTime wrote; anything else is the zero time.
func parseTime(s string) time.Time {
	t, err := time.Parse(timeLayout, s)
	if err != nil {
		return time.Time{}
	}
	return t
}
